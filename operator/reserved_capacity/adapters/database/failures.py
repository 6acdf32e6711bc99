"""Owns what a failed call of the database means to whoever made it: from drivers' exceptions to the port's.

The question behind each case: does it help to try again, and does somebody have to do something first?
"""

from __future__ import annotations

import sqlite3

import psycopg
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, IntegrityError

from reserved_capacity.ledger_ports import LedgerError, LedgerFull, LedgerRefused, LedgerUnavailable, LedgerUnusable

_SQLITE: dict[int, type[LedgerError]] = {
    sqlite3.SQLITE_FULL: LedgerFull,
    sqlite3.SQLITE_CORRUPT: LedgerUnusable,
    sqlite3.SQLITE_NOTADB: LedgerUnusable,
    sqlite3.SQLITE_ERROR: LedgerUnusable,  # a table or column is missing
    sqlite3.SQLITE_SCHEMA: LedgerUnusable,
    sqlite3.SQLITE_READONLY: LedgerUnusable,
    sqlite3.SQLITE_CONSTRAINT: LedgerRefused,
    sqlite3.SQLITE_MISMATCH: LedgerRefused,
}

# By the first letters of SQLSTATE, the longest that matches.
_POSTGRESQL: dict[str, type[LedgerError]] = {
    "22": LedgerRefused,  # a value that does not fit
    "23": LedgerRefused,  # a constraint
    "3F": LedgerUnusable,  # no such schema
    "42": LedgerUnusable,  # a table, column or right is missing
    "53100": LedgerFull,
    "XX001": LedgerUnusable,  # a damaged table
    "XX002": LedgerUnusable,  # a damaged index
}


def from_error(error: BaseException) -> LedgerError | None:
    """The failure that this is; None for one that is not the database's, which is a defect."""
    if isinstance(error, CommandError):
        return LedgerUnusable(f"the database is not one of this operator's version: {error}")
    if isinstance(error, DBAPIError):
        return _from_driver(error)
    if isinstance(error, OSError):
        return LedgerUnavailable(f"{type(error).__name__}: {error}")
    return None


def _from_driver(error: DBAPIError) -> LedgerError:
    cause = error.orig
    # The first line: statement and parameters follow, and they are nobody's business.
    message = f"{type(cause).__name__}: {str(cause).strip().splitlines()[0] if str(cause).strip() else ''}"[:500]
    if isinstance(cause, sqlite3.Error):
        # The low byte is the primary code; without a code the driver itself refused.
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return _SQLITE.get(code, LedgerUnavailable)(message)
    if isinstance(cause, psycopg.Error) and cause.sqlstate is not None:
        for length in (5, 2):
            kind = _POSTGRESQL.get(cause.sqlstate[:length])
            if kind is not None:
                return kind(message)
        return LedgerUnavailable(message)
    # Without a state: no connection was made, or it was lost.
    return LedgerRefused(message) if isinstance(error, IntegrityError) else LedgerUnavailable(message)

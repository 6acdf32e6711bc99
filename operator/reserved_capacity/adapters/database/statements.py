"""What several parts of the ledger write in the same way: rows unless they are there, and an account's next numbers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Table, and_, bindparam, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from reserved_capacity.adapters.database.schema import accounts
from reserved_capacity.ledger_ports import EventType

Item = TypeVar("Item")
Row = Mapping[str, Any]

CHUNK = 500
"""Values in one IN list: far below what either database takes, and the statement stays the same from call to call."""


def chunks(items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def in_pairs(columns: tuple[Column[Any], Column[Any]], pairs: Sequence[tuple[Any, Any]]) -> ColumnElement[bool]:
    """The two columns are one of these pairs. SQLite finds no index for pairs; it does for the first of each."""
    return and_(columns[0].in_(sorted({first for first, _ in pairs})), tuple_(*columns).in_(pairs))


def insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert those rows whose unique keys are not taken."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def lock_accounts(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """The last number of each account, nobody else numbers anything of them until this transaction ends.

    In the order of their names, so that two operators wait for each other instead of both.
    """
    ordered = sorted(set(names))
    insert_new(connection, accounts, [{"account": name, "last_number": 0} for name in ordered])
    found: dict[str, int] = {}
    for chunk in chunks(ordered):
        rows = connection.execute(
            select(accounts.c.account, accounts.c.last_number)
            .where(accounts.c.account.in_(chunk))
            .order_by(accounts.c.account)
            .with_for_update()
        )
        found.update((row.account, row.last_number) for row in rows)
    return found


def set_last_numbers(connection: Connection, numbers: Mapping[str, int]) -> None:
    if numbers:
        statement = (
            update(accounts).where(accounts.c.account == bindparam("name")).values(last_number=bindparam("last"))
        )
        connection.execute(statement, [{"name": name, "last": number} for name, number in sorted(numbers.items())])


def outbox_row(
    account: str, place: int, event: EventType, contract: str, recorded_at: datetime, **reports: Any
) -> dict[str, Any]:
    """A row of the outbox; `reports` is either day and kind of a transaction, or a document."""
    fixed = {"account": account, "place": place, "type": str(event), "contract": contract, "recorded_at": recorded_at}
    return {**fixed, "day": None, "kind": None, "document": None, **reports}


def to_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

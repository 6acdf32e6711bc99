"""Owns the connection to the database: where it is, how it is set up, brought up to date, and kept off the event loop.

Every call runs in a thread of this engine and in a transaction of its own. The database is opened, and brought up to date,
by the first call that needs it and by every following one until that has succeeded once: an operator whose database is
away starts all the same, and serves (M7).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from reserved_capacity.adapters.database.failures import from_error
from reserved_capacity.adapters.database.schema import identity
from reserved_capacity.adapters.database.statements import insert_new
from reserved_capacity.adapters.database.upgrading import must_be_current, upgrade
from reserved_capacity.ledger_ports import LedgerUnusable

Result = TypeVar("Result")

LOCK_WAIT_SECONDS = 10.0
STATEMENT_SECONDS = 30
CONNECT_SECONDS = 5
# SQLite has one writer, and a reader beside it gains nothing that is worth a second thread.
THREADS: Mapping[str, int] = {"sqlite": 1, "postgresql": 4}


class DatabaseUrlError(ValueError):
    """A URL that names no database that we can use; the message does not repeat its password."""


def parse_url(given: str) -> URL:
    """`sqlite:////absolute/path`, `sqlite:///relative/path` or what libpq takes: `postgresql://user@host:port/name?…`.

    What a PostgreSQL URL does not say, PGPASSWORD, PGPASSFILE, PGHOST and their like do.
    """
    try:
        url = make_url(given)
    except ArgumentError:
        raise DatabaseUrlError("the database URL is none: sqlite:////path or postgresql://user@host/name") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise DatabaseUrlError(f"the database is SQLite or PostgreSQL, not {url.drivername}")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise DatabaseUrlError("SQLite needs a file: sqlite:////path; books in memory would be gone with the process")
    return url


class Database:
    """`lock_wait` seconds is how long a call waits for another process that writes. `cluster` is the uid of the cluster
    that opens its books: those of another are refused. Who `reads_only` gives none, and finds them as they are: a newer tool
    must not bring them up to date under an older operator."""

    def __init__(
        self,
        url: str,
        *,
        cluster: str | None = None,
        reads_only: bool = False,
        lock_wait: float = LOCK_WAIT_SECONDS,
    ) -> None:
        self.url = parse_url(url)
        self._cluster = cluster
        self._reads_only = reads_only
        self.engine = _engine(self.url, lock_wait)
        self._threads = ThreadPoolExecutor(THREADS[self.engine.dialect.name], thread_name_prefix="database")
        self._up_to_date = False

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` finds, in one transaction. Raises the port's failures."""
        return await self._run(work, writing=False)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """The same for work that writes: all of it is there when this returns, or, if it raises, nothing; unless the
        connection was lost at the very end, which is why all work may be repeated."""
        return await self._run(work, writing=True)

    async def close(self) -> None:
        """Calls in flight end first, in their thread."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        self.engine.dispose()

    async def _run(self, work: Callable[[Connection], Result], *, writing: bool) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._transaction, work, writing)

    def _transaction(self, work: Callable[[Connection], Result], writing: bool) -> Result:
        try:
            if not self._up_to_date:
                self._open()
            with self.engine.connect().execution_options(writing=writing) as connection, connection.begin():
                return work(connection)
        except Exception as error:
            failure = from_error(error)
            if failure is None:
                raise
            raise failure from _without_parameters(error)

    def _open(self) -> None:
        if self.engine.dialect.name == "sqlite":
            assert self.url.database is not None  # noqa: S101 - parse_url
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._reads_only:
            must_be_current(self.engine)
        else:
            upgrade(self.engine)
        if self._cluster is not None:
            self._identify(self._cluster)
        self._up_to_date = True

    def _identify(self, cluster: str) -> None:
        """Whoever is first writes down whose books these are."""
        with self.engine.begin() as connection:
            insert_new(connection, identity, [{"id": 1, "cluster": cluster}])
            known = connection.execute(select(identity.c.cluster)).scalar_one()
        if known != cluster:
            raise LedgerUnusable(
                f"these are the books of the cluster {known} (uid of kube-system), and this one is {cluster}: "  # noqa: S608
                f"give it a database of its own; or, if it replaces that one, which must not come back: UPDATE identity SET cluster = '{cluster}'"
            )


def _without_parameters(error: BaseException) -> BaseException | None:
    # What customers pay does not belong into a traceback.
    return error.orig if isinstance(error, SQLAlchemyError) and hasattr(error, "orig") else error


def _engine(url: URL, lock_wait: float) -> Engine:
    if url.drivername == "sqlite":
        engine = create_engine(url, connect_args={"timeout": lock_wait, "check_same_thread": False})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A process that stands still in the middle of a transaction (a frozen node, whose connection stays) must not hold up its
    # successor: for the server it is gone before two others have waited for it in vain.
    settings = (
        f"-c lock_timeout={lock_wait * 1000:.0f}ms -c idle_in_transaction_session_timeout={lock_wait * 2000:.0f}ms"
        f" -c statement_timeout={STATEMENT_SECONDS}s -c timezone=UTC"
    )
    # A server that vanished without a word is noticed within half a minute, not after the kernel's two hours.
    patience = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    return create_engine(
        url,
        connect_args={"application_name": "reserved-capacity", "options": settings, **patience},
        pool_size=THREADS["postgresql"],
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=1800,
    )


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # what is committed survives a power failure
        "foreign_keys = ON",
        "recursive_triggers = ON",  # REPLACE would get past the triggers that refuse deletes
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes then could not wait for another writer: it would have to start again.
    writing = connection.get_execution_options().get("writing", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

"""The SQL side of the books, where SQLite and PostgreSQL are more than the port shows: what the database itself refuses,
how it is opened and brought up to date, and what a failed call means."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, text

from reserved_capacity.adapters.database.engine import Database, DatabaseUrlError, parse_url
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.adapters.database.postings import append
from reserved_capacity.adapters.database.schema import metadata
from reserved_capacity.adapters.database.statements import lock_accounts
from reserved_capacity.domain.billing.contracts import Reduction
from reserved_capacity.domain.tokens.prices import UnitPrice
from reserved_capacity.ledger_ports import (
    LedgerError,
    LedgerFull,
    LedgerRefused,
    LedgerUnavailable,
    LedgerUnusable,
    Notice,
    PoolName,
    TermId,
)
from tests.contract.ledger_port import NOW, POOL, charge, closed, contract, day, gather, held, invoice, shortfall
from tests.postgresql import Postgres
from tests.unit.domain.lots import INPUT, at, bought, ordered, wish

Open = Callable[..., Database]


@pytest.fixture(params=["sqlite", "postgresql"])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same new database, as often as it is called."""
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/new/books.db" if sqlite else request.getfixturevalue("postgres").create()
    opened: list[Database] = []

    def again(**options: Any) -> Database:
        opened.append(Database(url, lock_wait=1.0, **options))
        return opened[-1]

    yield again
    for database in opened:
        await database.close()


@pytest.fixture
def database(reopen: Open) -> Database:
    return reopen()


async def run(database: Database, statement: str) -> Any:
    def work(connection: Connection) -> Any:
        found = connection.execute(text(statement))
        return found.all() if found.returns_rows else None

    return await database.write(work)


async def fill(database: Database) -> SqlLedger:
    ledger = SqlLedger(database)
    await ledger.register([contract(reductions=(Reduction(day(40), 300, NOW),))])
    await ledger.append([charge(1), charge(2)], now=NOW)
    await ledger.register_lots(ordered(wish(1), bought(3, 0), at("03-20T10:00:00"))[0])
    await ledger.record_unit_prices([UnitPrice("usd", "gpt-4.1", INPUT, day(1), Decimal("110.00"), NOW)])
    await ledger.observe(POOL, [held("chat-0")], NOW)
    await ledger.observe(POOL, [held("chat-1")], NOW + timedelta(hours=1))
    await ledger.close_month(closed(3, 2), invoice())
    await ledger.announce([Notice("n", "acme", "po-1", {})], now=NOW)
    return ledger


# ---------------------------------------------------------------------------------------------- what is refused by itself


UNBALANCED = (
    "INSERT INTO transactions SELECT contract, day, 'Other', account, number, posted_at, currency, amount_minor, "
    "receivable_minor, prepaid_minor, revenue_minor + 1, credits_minor, compute_units, price, note, token_units FROM transactions"
)


REFUSED = (
    "UPDATE transactions SET amount_minor = 0, receivable_minor = 0, revenue_minor = 0",
    "DELETE FROM transactions",
    "UPDATE invoices SET document = '{}'",
    "DELETE FROM invoices",
    "UPDATE closed_months SET through = 1",
    "DELETE FROM closed_months",
    "UPDATE notices SET data = 'x'",
    "DELETE FROM notices",
    "UPDATE reductions SET compute_units = 0",
    "DELETE FROM reductions",
    "DELETE FROM contracts",
    "UPDATE contracts SET ordered_price = '1'",
    "UPDATE contracts SET billing_start = '2027-01-01'",
    "UPDATE contracts SET billing_start = NULL, last_day = NULL",
    "DELETE FROM intervals",
    "UPDATE intervals SET compute_units = 1",
    "UPDATE intervals SET until = '2030-01-01T00:00:00.000000Z' WHERE until IS NOT NULL",
    UNBALANCED,
    "DELETE FROM lots",
    "UPDATE lots SET units = 9",
    "UPDATE lots SET billing_start = '2027-01-01'",
    "DELETE FROM lot_cuts",
    "UPDATE lot_cuts SET units = 9",
    "UPDATE unit_prices SET per_unit_day = '1'",
    "DELETE FROM unit_prices",
)


async def test_m4_the_database_itself_keeps_the_books_append_only_and_balanced(database: Database) -> None:
    await fill(database)
    for statement in REFUSED:
        with pytest.raises(LedgerRefused):
            await run(database, statement)


async def test_m4_nothing_is_replaced_or_emptied_either(database: Database) -> None:
    await fill(database)
    if database.engine.dialect.name == "sqlite":
        statement = "REPLACE INTO invoices SELECT number, account, currency, month, issued_at, '{}' FROM invoices"
    else:
        statement = "TRUNCATE transactions"
    with pytest.raises(LedgerRefused):
        await run(database, statement)


async def test_postings_can_be_looked_at_one_a_row(database: Database) -> None:
    await fill(database)
    found = await run(database, "SELECT book, SUM(minor) FROM postings GROUP BY book ORDER BY book")
    assert [(book, int(minor)) for book, minor in found] == [("receivable", 10400), ("revenue", -10400)]


# --------------------------------------------------------------------------------------------------- opened, up to date


async def test_m4_a_process_that_stands_still_in_a_transaction_does_not_hold_up_its_successor(
    postgres: Postgres,
) -> None:
    """A node that is frozen keeps its connection, and with it the locks."""
    url, frozen, thawed = postgres.create(), threading.Event(), threading.Event()
    first, second = Database(url, lock_wait=0.2), Database(url, lock_wait=0.2)

    def stand_still(connection: Connection) -> None:
        lock_accounts(connection, {"acme"})
        frozen.set()
        thawed.wait(30)
        append(connection, [charge(1)], NOW)

    asleep = asyncio.create_task(first.write(stand_still))
    await asyncio.to_thread(frozen.wait, 30)
    tried = 0
    while True:
        tried += 1
        with suppress(LedgerUnavailable):
            (entry,) = await SqlLedger(second).append([charge(1)], now=NOW)
            break
    assert tried < 30  # and not for ever; how often depends on the machine
    thawed.set()
    with pytest.raises(LedgerUnavailable):
        await asleep
    assert await gather(SqlLedger(first).entries(account="acme")) == [entry]
    for each in (first, second):
        await each.close()


async def test_the_migrations_make_what_the_code_expects(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    assert await database.read(differences) == []


async def test_a_database_is_opened_again_with_what_was_in_it(reopen: Open) -> None:
    first = reopen()
    await fill(first)
    await first.close()
    assert len(await gather(SqlLedger(reopen()).entries(account="acme"))) == 2


async def test_two_operators_that_start_at_once_make_the_tables_once(reopen: Open) -> None:
    ledgers = [SqlLedger(reopen()) for _ in range(4)]
    assert await asyncio.gather(*(ledger.books() for ledger in ledgers)) == [()] * 4


async def test_a_database_of_a_newer_operator_is_left_alone(reopen: Open) -> None:
    newer = reopen()
    await run(newer, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerUnusable, match="9999"):
        await SqlLedger(reopen()).books()
    assert await run(newer, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_the_books_of_one_cluster_are_refused_to_another_until_a_person_has_handed_them_over(
    reopen: Open,
) -> None:
    first = reopen(cluster="uid-1")
    await fill(first)
    assert len(await SqlLedger(reopen(cluster="uid-1")).books()) == 1, "its own are its own again"
    assert len(await SqlLedger(reopen()).books()) == 1, "who only reads is not asked"
    other = SqlLedger(reopen(cluster="uid-2"))
    for _ in range(2):
        with pytest.raises(
            LedgerUnusable, match=r"cluster uid-1 .* this one is uid-2: give it a database of its own"
        ) as failed:
            await other.append([charge(9)], now=NOW)
    await run(first, str(failed.value).rpartition(": ")[2])
    assert len(await other.append([charge(9)], now=NOW)) == 1


async def test_who_only_reads_brings_nothing_up_to_date(reopen: Open) -> None:
    """A newer command would lock out an older operator."""
    older = reopen()
    await fill(older)
    await run(older, "UPDATE alembic_version SET version_num = '0002'")
    with pytest.raises(LedgerUnusable, match="of version 0002"):
        await SqlLedger(reopen(reads_only=True)).books()
    assert await run(older, "SELECT version_num FROM alembic_version") == [("0002",)]


async def test_missing_tables_are_for_a_person_to_mend(database: Database) -> None:
    await run(database, "DROP TABLE halts")
    with pytest.raises(LedgerUnusable, match="halts"):
        await SqlLedger(database).halts()


async def test_a_file_that_is_no_database_is_for_a_person_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "books.db"
    file.write_bytes(b"These are not the books you are looking for. " * 200)
    database = Database(f"sqlite:///{file}")
    with pytest.raises(LedgerUnusable, match="not a database"):
        await SqlLedger(database).books()
    await database.close()
    assert file.read_bytes().startswith(b"These")


async def test_an_operator_starts_before_its_database_and_finds_it_later(tmp_path: Path) -> None:
    place = tmp_path / "volume"
    place.write_text("not mounted yet")
    database = Database(f"sqlite:///{place}/books.db")
    with pytest.raises(LedgerUnavailable):
        await SqlLedger(database).books()
    place.unlink()
    assert await SqlLedger(database).books() == ()
    await database.close()


async def test_sqlite_is_set_up_to_survive_a_power_failure(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/state/books.db")
    found = [(await run(database, f"PRAGMA {name}"))[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    await database.close()
    assert found == ["wal", 2, 1]
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0, "nobody else reads what customers pay"


async def test_no_operation_looks_through_all_rows_of_a_table_that_grows_for_ever(tmp_path: Path) -> None:
    """What SQLite says it would do; its plans do not depend on how much there is."""
    database = Database(f"sqlite:///{tmp_path}/books.db")
    ledger = await fill(database)
    asked: list[tuple[str, Any]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    term = TermId("po-1", 1)
    await ledger.register([contract("po-2", account="globex")])
    await ledger.append([charge(3), shortfall(3)], now=NOW)
    await ledger.append([charge(4)], now=NOW)
    await ledger.due(day(9), after=TermId("a", 1))
    await ledger.posted([term, TermId("po-2", 1)])
    await ledger.observe(POOL, [held("chat-0"), held("chat-2")], NOW + timedelta(hours=2))
    await gather(ledger.intervals([POOL, PoolName("x", "y")], NOW, NOW + timedelta(hours=9)))
    for stream in (
        ledger.entries(account="acme", since=day(2)),
        ledger.entries(contract="po-1", until=day(2)),
        ledger.uninvoiced("acme", "USD", day(60), through=99),
        ledger.invoiced("acme", "USD", date(2026, 3, 1)),
    ):
        await gather(stream)
    await gather(ledger.provisioned(["po-1", "po-2"], NOW, NOW + timedelta(hours=9)))
    await ledger.close_month(closed(4, 4), invoice("next", month=day(31)))
    await gather(ledger.invoiced("acme", "USD", date(2026, 4, 1)))
    await ledger.delivered((await ledger.pending("acme", 3))[:1])
    await ledger.backlog(account="acme")
    await ledger.invoices(account="acme")
    await ledger.books(account="acme")

    def plans(connection: Connection) -> list[str]:
        return [
            f"{step[-1]} FOR {statement}"
            for statement, values in tuple(asked)
            if not statement.startswith("BEGIN")
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", _one(values))
        ]

    growing = ("transactions", "intervals", "outbox", "notices", "invoices", "closed_months")
    found = await database.read(plans)
    assert len(found) > 40
    assert not [step for step in found if step.startswith(tuple(f"SCAN {table}" for table in growing))]
    await database.close()


def _one(values: Any) -> Any:
    return values[0] if isinstance(values, list) else values


# ------------------------------------------------------------------------------------------------ what a failure means


async def test_a_full_disk_is_told_and_nothing_is_half_written(database: Database) -> None:
    ledger = await fill(database)
    rows = [charge(number) for number in range(3, 91)]
    if database.engine.dialect.name == "sqlite":
        pages = (await run(database, "PRAGMA page_count"))[0][0]
        await run(database, f"PRAGMA max_page_count = {pages}")
        make_room = "PRAGMA max_page_count = 1000000"
    else:
        # What the server says when it cannot extend a file.
        body = "BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END"
        await run(database, f"CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
        await run(database, "CREATE TRIGGER no_room AFTER INSERT ON outbox EXECUTE FUNCTION no_room()")
        make_room = "DROP TRIGGER no_room ON outbox"
    with pytest.raises(LedgerFull):
        await ledger.append(rows, now=NOW)
    assert len(await gather(ledger.entries(account="acme"))) == 2
    await run(database, make_room)
    assert len(await ledger.append(rows, now=NOW)) == 88
    assert await ledger.position("acme") == 92


async def test_a_locked_database_is_waited_for_and_then_given_up_while_the_loop_runs(reopen: Open) -> None:
    ledger = await fill(reopen())
    other = reopen()
    locked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT * FROM accounts FOR UPDATE"))
        loop.call_soon_threadsafe(locked.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

    holder = asyncio.create_task(other.write(hold))
    await locked.wait()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await ledger.append([charge(3)], now=NOW)
    assert 0.9 < time.monotonic() - started < 5
    assert ticks > 20, "the event loop was not blocked"
    assert len(await gather(ledger.entries(account="acme"))) == 2, "readers do not wait for writers"
    waiting = asyncio.create_task(ledger.append([charge(3)], now=NOW))
    release.set()
    await holder
    assert len(await waiting) == 1, "who waits gets it when the other is done"
    ticking.cancel()


async def test_a_damaged_file_is_for_a_person_to_mend(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/books.db"
    database = Database(url)
    ledger = await fill(database)
    await ledger.append([charge(number) for number in range(3, 91)], now=NOW)
    await database.close()
    with (tmp_path / "books.db").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    database = Database(url)
    with pytest.raises(LedgerUnusable):
        await gather(SqlLedger(database).entries(account="acme"))
    await database.close()


async def test_a_message_names_no_parameter(database: Database) -> None:
    await fill(database)
    statement = text("INSERT INTO notices SELECT :secret, account, contract, recorded_at, data FROM invoices")
    with pytest.raises(LedgerError) as caught:
        await database.write(lambda connection: connection.execute(statement, {"secret": "4711.00"}))
    assert "4711" not in f"{caught.value} {caught.value.__cause__}"


async def test_a_connection_that_broke_is_made_anew(database: Database) -> None:
    ledger = await fill(database)

    def gone(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO outbox"):
            event.remove(database.engine, "before_cursor_execute", gone)
            connection.connection.dbapi_connection.close()

    event.listen(database.engine, "before_cursor_execute", gone)
    with pytest.raises(LedgerError):
        await ledger.append([charge(3)], now=NOW)
    assert [each.transaction.key for each in await ledger.append([charge(3)], now=NOW)] == [charge(3).key]


# --------------------------------------------------------------------------------------------------------------- where


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:////var/lib/books.db", "sqlite:////var/lib/books.db"),
        ("postgresql://u@db:5432/rc?sslmode=require", "postgresql+psycopg://u@db:5432/rc?sslmode=require"),
        ("postgres://u@db/rc", "postgresql+psycopg://u@db/rc"),
        ("postgresql+psycopg:///rc?host=/run", "postgresql+psycopg:///rc?host=%2Frun"),
    ],
)
def test_urls_are_taken_as_sqlite_and_libpq_write_them(given: str, meant: str) -> None:
    assert parse_url(given).render_as_string(hide_password=False) == meant


@pytest.mark.parametrize("given", ["sqlite://", "sqlite:///:memory:", "mysql://u:hush@db/rc", "u:hush@db", "", "hush"])
def test_what_is_no_database_of_ours_is_refused_without_its_password(given: str) -> None:
    with pytest.raises(DatabaseUrlError) as caught:
        parse_url(given)
    assert "hush" not in str(caught.value)


def test_the_password_of_a_database_is_not_shown(tmp_path: Path) -> None:
    database = Database("postgresql://u:hush@db/rc")
    assert database.where == "postgresql+psycopg://u:***@db/rc"
    assert sqlite3.sqlite_version_info >= (3, 37, 0), "STRICT tables"

"""The books at the size of the goal: 10,000 commitments with a year of history, on SQLite and on PostgreSQL.

    python -m tests.performance.bench_ledger --json out.json

The history is written day after day, as it would have come about, but with each database's fastest way in; what is measured
afterwards goes through the ledger's port and the planner of the daily close, as the operator does. PostgreSQL is the one
of the tests with its default settings; both databases wait for the disk at every commit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from reserved_capacity.adapters.database import rows
from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.domain.billing.charges import plan_days
from reserved_capacity.domain.billing.contracts import Contract, Payment, PriceSighting
from reserved_capacity.domain.billing.history import Presence
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.billing.invoices import monthly_invoice
from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.terms import Term, start_of
from reserved_capacity.ledger_ports import ClosedMonth, PoolName, TermId
from tests.postgresql import Postgres

START = date(2026, 1, 1)


MONTH = Month(2026, 11)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Size:
    contracts: int
    accounts: int
    days: int

    @property
    def each(self) -> int:
        return self.contracts // self.accounts


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds; `cpu` is this process's, without the server's."""

    database: str
    what: str
    goal: float | None
    wall: float
    cpu: float
    count: int

    def __str__(self) -> str:
        goal = f"{self.goal:.0f} s" if self.goal is not None else "none"
        return (
            f"{self.database:12} {self.what:40} goal {goal:6} {self.wall:7.3f} s, CPU {self.cpu:6.3f} s, {self.count}"
        )


# ------------------------------------------------------------------------------------------------------------ the world


def contracts(size: Size) -> list[Contract]:
    """Every account has a pool for each ten of its contracts; a tenth is paid in advance."""
    return [
        Contract(
            commitment=f"po-{index:06}",
            number=1,
            account=f"account-{index // size.each:04}",
            namespace=f"account-{index // size.each:04}",
            pool=f"pool-{index % size.each // 10}",
            price_book="usd",
            currency="USD",
            compute_units=100 * (1 + index % 8),
            term=Term.ONE_YEAR,
            payment=Payment.ANNUAL_PREPAID if index % 10 == 9 else Payment.MONTHLY,
            ordered_price=Decimal("220.00"),
            accepted_at=start_of(START) - timedelta(hours=9),
            first_provisioned_at=start_of(START) - timedelta(hours=8),
            billing_start=START,
        )
        for index in range(size.contracts)
    ]


def sightings() -> list[PriceSighting]:
    seen = [
        PriceSighting("usd", Term.ONE_YEAR, date(2024, 2, 8), Decimal("220.00"), start_of(START) - timedelta(days=9))
    ]
    return [*seen, PriceSighting("usd", Term.ONE_YEAR, date(2026, 7, 1), Decimal("200.00"), start_of(date(2026, 6, 1)))]


def history(size: Size, given: list[Contract], convert: Callable[[Any], Any]) -> Iterator[list[Row]]:
    """Day after day: rows of the table `transactions`, in the order of posting. Contracts of one shape differ by names
    and numbers alone, so that each shape is planned and converted once."""
    prices = PriceHistory(sightings())
    shapes: dict[tuple[int, Payment], dict[date, list[Row]]] = {}
    until = START + timedelta(days=size.days - 1)
    for each in given:
        by_day: dict[date, list[Row]] = {}
        if (each.compute_units, each.payment) not in shapes:
            for row in plan_days(each, prices, posted_through=None, today=until):
                values = rows.transaction_row(row, 0, start_of(row.day + timedelta(days=1))).values()
                by_day.setdefault(row.day, []).append(tuple(map(convert, values)))
            shapes[each.compute_units, each.payment] = by_day
    numbers: dict[str, int] = {}
    for offset in range(size.days - 1):
        day = START + timedelta(days=offset)
        found = []
        for each in given:
            for _, on, kind, _, _, *rest in shapes[each.compute_units, each.payment].get(day, ()):
                number = numbers[each.account] = numbers.get(each.account, 0) + 1
                found.append((each.commitment, on, kind, each.account, number, *rest))
        yield found


async def prepare(
    ledger: SqlLedger, size: Size, load: Callable[[Iterator[list[Row]]], int], convert: Callable[[Any], Any]
) -> int:
    given = contracts(size)
    await ledger.register(given)
    await ledger.record_sightings(sightings())
    pools: dict[PoolName, list[Presence]] = {}
    for each in given:
        seen = Presence(IntervalKind.PROVISIONED, each.commitment, each.commitment, each.compute_units)
        pools.setdefault(PoolName(each.namespace, each.pool), []).append(seen)
    for pool, present in pools.items():
        await ledger.observe(pool, present, start_of(START) - timedelta(hours=1))
    return load(history(size, given, convert))


COLUMNS = tuple(
    rows.transaction_row(Transaction("", "", START, next(iter(rows.KINDS.values())), "", 0, ()), 0, datetime.now(UTC))
)
_LAST_NUMBER = "SELECT COALESCE(MAX(number), 0) FROM transactions WHERE transactions.account = accounts.account"
_AFTERWARDS = (
    f"UPDATE accounts SET last_number = ({_LAST_NUMBER})",  # noqa: S608
    "INSERT INTO books SELECT account, currency, MIN(day) FROM transactions GROUP BY account, currency",
    "UPDATE progress SET last_day = (SELECT MAX(day) FROM transactions)",
)


def load_sqlite(path: Path, days: Iterator[list[Row]]) -> int:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("cache_size = -1000000", "synchronous = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    total = 0
    statement = f"INSERT INTO transactions ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    for day in days:
        connection.execute("BEGIN")
        connection.executemany(statement, day)
        connection.execute("COMMIT")
        total += len(day)
    for statement in _AFTERWARDS:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return total


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value.isoformat() if isinstance(value, date) else value


def load_postgresql(url: str, days: Iterator[list[Row]]) -> int:
    total = 0
    with psycopg.connect(url) as connection:
        for day in days:
            with connection.cursor().copy(f"COPY transactions ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                for row in day:
                    copy.write_row(row)
            connection.commit()
            total += len(day)
        for statement in _AFTERWARDS:
            connection.execute(statement)  # type: ignore[call-overload]
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE")
    return total


# --------------------------------------------------------------------------------------------------------- what is measured


async def close_day(ledger: SqlLedger, today: date) -> int:
    """As the operator does: due contracts in pages, the plan of each, all of a page in one transaction."""
    prices = PriceHistory(await ledger.sightings("usd"))
    after: TermId | None = None
    posted = 0
    await ledger.begin_close(today)
    while page := await ledger.due(today, after=after):
        commitments = {each.contract.commitment for each in page}
        first = min(each.posted_through or START for each in page)
        of_commitment: dict[str, list[Interval]] = {}
        async for interval in ledger.provisioned(commitments, start_of(first), start_of(today)):
            of_commitment.setdefault(interval.subject, []).append(interval)
        plan = [
            row
            for each in page
            for row in plan_days(
                each.contract,
                prices,
                posted_through=each.posted_through,
                today=today,
                provisioned=of_commitment.get(each.contract.commitment, ()),
            )
        ]
        posted += len(await ledger.append(plan, now=start_of(today)))
        after = TermId(page[-1].contract.commitment, page[-1].contract.number)
    return posted


async def invoice_of(ledger: SqlLedger, account: str) -> int:
    """The rows of a month that no invoice has, and the invoice."""
    through = await ledger.position(account)
    found = [each.transaction async for each in ledger.uninvoiced(account, "USD", MONTH.end, through=through)]
    invoice = monthly_invoice(account, "USD", MONTH, found)
    assert invoice is not None
    return len(found)


async def measure(name: str, ledger: SqlLedger, size: Size) -> list[Figure]:
    figures: list[Figure] = []

    async def figure(what: str, goal: float | None, work: Awaitable[int]) -> None:
        wall, cpu = time.monotonic(), cpu_of_this()
        count = await work
        figures.append(Figure(name, what, goal, time.monotonic() - wall, cpu_of_this() - cpu, count))
        say(str(figures[-1]))

    async def count(work: Awaitable[Any]) -> int:
        return len(await work)

    account = f"account-{size.accounts // 2:04}"
    await ledger.close_month(ClosedMonth(account, "USD", date(2026, 10, 1), await ledger.position(account)), None)
    today = START + timedelta(days=size.days)
    await figure("one day closed", 10.0, close_day(ledger, today))
    await figure("the same again, nothing is due", None, close_day(ledger, today))
    await figure("invoice of a month of one account", 1.0, invoice_of(ledger, account))
    await figure("all sums of 500 contracts (self-audit)", None, count(ledger.posted(_terms(size))))
    await figure("backlog of all accounts", None, count(ledger.backlog()))
    await figure("100 events to deliver", None, count(ledger.pending(account, 100)))
    return figures


def _terms(size: Size) -> list[TermId]:
    return [TermId(f"po-{index:06}", 1) for index in range(min(500, size.contracts))]


def cpu_of_this() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def bench_sqlite(size: Size) -> list[Figure]:
    directory = Path(tempfile.mkdtemp(prefix="bench-ledger-"))
    path = directory / "books.db"
    database = Database(f"sqlite:///{path}")
    ledger = SqlLedger(database)
    try:
        started = time.monotonic()
        total = await prepare(ledger, size, lambda days: load_sqlite(path, days), _as_text)
        say(f"sqlite: {total} rows in {time.monotonic() - started:.0f} s, {path.stat().st_size / 2**20:.0f} MiB")
        return await measure("SQLite", ledger, size)
    finally:
        await database.close()
        shutil.rmtree(directory)


async def bench_postgresql(size: Size) -> list[Figure]:
    server = Postgres()
    try:
        url = server.create()
        database = Database(url)
        ledger = SqlLedger(database)
        started = time.monotonic()
        total = await prepare(ledger, size, lambda days: load_postgresql(url, days), lambda value: value)
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert found is not None
        say(f"postgresql: {total} rows in {time.monotonic() - started:.0f} s, {found[0] / 2**20:.0f} MiB")
        figures = await measure("PostgreSQL", ledger, size)
        await database.close()
        return figures
    finally:
        server.close()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contracts", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    size = Size(given.contracts, given.accounts, given.days)
    figures: list[Figure] = []
    if given.database in ("sqlite", "both"):
        figures += asyncio.run(bench_sqlite(size))
    if given.database in ("postgresql", "both"):
        figures += asyncio.run(bench_postgresql(size))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(each) for each in figures], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

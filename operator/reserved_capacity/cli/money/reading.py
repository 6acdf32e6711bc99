"""Owns how commands read the books. They never write, so a database that is not there is an error, not made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from reserved_capacity.adapters.database.engine import Database, DatabaseUrlError
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.money.lots import LotBooks
from reserved_capacity.domain.billing.audit import AuditedBooks, Finding, audit
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.focus import FocusCharge, Row, focus_rows
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.billing.invoices import closes_at
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.billing.pricing import PriceHistory, runs_on
from reserved_capacity.domain.billing.usage import held_on
from reserved_capacity.domain.terms import start_of
from reserved_capacity.ledger_ports import Entry, IssuedInvoice, LedgerError, PoolName
from reserved_capacity.settings import DATABASE_URL_VARIABLE

PROVIDER = "Reserved Capacity"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlLedger]:
    """The books at this URL. Raises CliError, also for what goes wrong while they are read."""
    if not url:
        raise CliError(
            f"say where the books are: --database-url, or ${DATABASE_URL_VARIABLE}, for example sqlite:////path"
        )
    try:
        database = Database(url)
    except DatabaseUrlError as error:
        raise CliError(f"--database-url: {error}") from error
    _must_exist(database)
    try:
        yield SqlLedger(database)
    except LedgerError as error:
        raise CliError(f"the books at {database.where} cannot be read: {error}") from error
    finally:
        await database.close()


def _must_exist(database: Database) -> None:
    if database.url.drivername == "sqlite" and not Path(database.url.database or "").is_file():
        raise CliError(f"--database-url: there is no file {database.url.database}")


async def invoices_of(ledger: SqlLedger, account: str, month: Month) -> tuple[IssuedInvoice, ...]:
    """The invoices of a month. Raises CliError where there is none, and says why."""
    found = await ledger.invoices(account=account, month=month.start)
    if found:
        return found
    known = await ledger.invoices(account=account)
    if not known and not await ledger.books(account=account):
        raise CliError(f"the books have no account {account!r}")
    months = ", ".join(sorted({f"{each.month:%Y-%m}" for each in known})) or "none yet"
    raise CliError(
        f"account {account} has no invoice for {month}: a month is invoiced in arrears, this one from "
        f"{closes_at(month):%Y-%m-%dT%H:%M:%SZ} on; invoiced months: {months}; `kubectl reserved ledger` shows what is posted"
    )


@dataclass(frozen=True, slots=True)
class Statement:
    """Rows of an account and period, by day, and what an audit of their contracts finds. The audit is of whole terms."""

    account: str
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]


async def statement(ledger: SqlLedger, account: str, since: date | None, until: date | None) -> Statement:
    """`until` is exclusive. Raises CliError where the books have no such account."""
    contracts = await ledger.contracts(account=account)
    if not contracts and not await ledger.books(account=account):
        raise CliError(f"the books have no account {account!r}")
    entries = tuple([each async for each in ledger.entries(account=account, since=since, until=until)])
    lots = await LotBooks.read(ledger, account)
    findings = (*await _audited(ledger, contracts), *await lots.findings(ledger))
    return Statement(account, entries, findings)


async def _audited(ledger: SqlLedger, contracts: Sequence[Contract]) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for commitment in dict.fromkeys(each.commitment for each in contracts):
        terms = [each for each in contracts if each.commitment == commitment]
        rows = [each.transaction async for each in ledger.entries(contract=commitment)]
        starts = [each.billing_start for each in terms if each.billing_start is not None]
        if not starts:
            continue
        through = max((row.day for row in rows), default=min(starts) - timedelta(days=1))
        pools = {PoolName(each.namespace, each.pool) for each in terms}
        provisioned = [
            each
            async for each in ledger.intervals(pools, start_of(min(starts)), start_of(through + timedelta(days=1)))
            if each.kind is IntervalKind.PROVISIONED
        ]
        history = PriceHistory(await ledger.sightings(terms[0].price_book))
        found += audit(AuditedBooks(terms, history, rows, provisioned), through=through)
    return tuple(found)


async def focus_of(ledger: SqlLedger, account: str, month: Month) -> tuple[Row, ...]:
    """The FOCUS rows of the days of a month, with the numbers of their invoices where these are made."""
    contracts, lots = await ledger.contracts(account=account), await LotBooks.read(ledger, account)
    issued = await ledger.invoices(account=account, month=month.start)
    numbers = {(each.currency, str(each.document["kind"])): each.number for each in issued}
    entries = [each async for each in ledger.entries(account=account, since=month.start, until=month.end)]
    pools = {PoolName(each.namespace, each.pool) for each in contracts}
    held = [each async for each in ledger.intervals(pools, start_of(month.start), start_of(month.end))]
    histories = {book: PriceHistory(await ledger.sightings(book)) for book in {each.price_book for each in contracts}}
    rows: list[Row] = []
    for entry in entries:
        row = entry.transaction
        if row.is_of_lot:
            rows += lots.focus_rows(row, month, numbers.get((row.currency, "Monthly")), PROVIDER)
            continue
        contract = next(
            (each for each in reversed(contracts) if each.commitment == row.contract and runs_on(each, row.day)), None
        )
        if contract is None:
            continue
        kind = "Prepayment" if row.kind == "Prepayment" else "Monthly"
        listed = [
            each
            for each in histories[contract.price_book].of(contract.price_book, contract.term)
            if each.effective_from <= row.day
        ]
        charge = FocusCharge(
            contract=contract,
            row=row,
            month=month,
            list_price=listed[-1].per_cu_month if listed else contract.ordered_price,
            invoice=numbers.get((row.currency, kind)),
            held=_held(contracts, held, contract, row.day),
        )
        rows.extend(focus_rows(charge, provider=PROVIDER))
    return tuple(rows)


def _held(contracts: Sequence[Contract], held: Sequence[Interval], contract: Contract, day: date) -> dict[str, int]:
    place = (contract.namespace, contract.pool)
    neighbours = [each for each in contracts if (each.namespace, each.pool) == place]
    there = [each for each in held if (each.namespace, each.pool) == place]
    return dict(held_on(neighbours, there, day).get(contract.commitment, {}))


def day_of(text: str, flag: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CliError(f"{flag} {text!r}: a UTC day is written 2026-03-01") from None


def now() -> datetime:
    return datetime.now(UTC)

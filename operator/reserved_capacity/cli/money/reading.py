"""Owns how commands read the books. They never write, so a database that is not there is an error, not made."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from reserved_capacity.adapters.database.engine import Database, DatabaseUrlError
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.money.lots import LotBooks
from reserved_capacity.domain.billing.audit import AuditedBooks, Finding, audit
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.focus import FocusCharge, Row, focus_rows
from reserved_capacity.domain.billing.intervals import Interval
from reserved_capacity.domain.billing.invoices import closes_at, invoice_number
from reserved_capacity.domain.billing.ledger import EntryKind
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
        database = Database(url, reads_only=True)
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
        end = start_of(through + timedelta(days=1))
        provisioned = [each async for each in ledger.provisioned([commitment], start_of(min(starts)), end)]
        history = PriceHistory(await ledger.sightings(terms[0].price_book))
        found += audit(AuditedBooks(terms, history, rows, provisioned), through=through)
    return tuple(found)


async def focus_of(ledger: SqlLedger, account: str, month: Month) -> tuple[Row, ...]:
    """The FOCUS rows of a month: of one that is invoiced those of its invoices, to the row; of one that is not, those that it
    would have now."""
    contracts, lots = await ledger.contracts(account=account), await LotBooks.read(ledger, account)
    entries = await _billed_in(ledger, account, month)
    days = [entry.transaction.day for entry in entries]
    if not days:
        return ()
    stay = await _stay(ledger, contracts, min(days), max(days) + timedelta(days=1))
    histories = {book: PriceHistory(await ledger.sightings(book)) for book in {each.price_book for each in contracts}}
    numbers = {each.number for each in await ledger.invoices(account=account, month=month.start)}
    rows: list[Row] = []
    for entry in entries:
        row, number = entry.transaction, invoice_number(entry.transaction, month)
        invoice = number if number in numbers else None
        if row.is_of_lot:
            rows += lots.focus_rows(row, month, invoice, PROVIDER)
            continue
        contract = next(
            (each for each in reversed(contracts) if each.commitment == row.contract and runs_on(each, row.day)), None
        )
        if contract is None:
            continue
        listed = [
            each
            for each in histories[contract.price_book].of(contract.price_book, contract.term)
            if each.effective_from <= row.day
        ]
        charge = FocusCharge(
            contract=stay.placed(contract, row.day),
            row=row,
            month=month,
            list_price=listed[-1].per_cu_month if listed else contract.ordered_price,
            invoice=invoice,
            held=stay.held(contract, row.day),
        )
        rows.extend(focus_rows(charge, provider=PROVIDER))
    return tuple(rows)


async def _billed_in(ledger: SqlLedger, account: str, month: Month) -> list[Entry]:
    """What the invoices of a month have. A Prepayment has its own at once, all else waits for the end of the month, and what is
    found later about its days is on a later month's."""
    of_its_days = [each async for each in ledger.entries(account=account, since=month.start, until=month.end)]
    found = [each for each in of_its_days if each.transaction.kind is EntryKind.PREPAYMENT]
    for books in await ledger.books(account=account):
        next_open = Month.of(books.closed.month).end if books.closed is not None else books.first_day
        if month.end <= next_open:
            rows = [each async for each in ledger.invoiced(account, books.currency, month.start)]
        elif next_open >= month.start:
            through = await ledger.position(account)
            rows = [each async for each in ledger.uninvoiced(account, books.currency, month.end, through=through)]
        else:  # an earlier month is open, and gets what is found late
            rows = [each for each in of_its_days if each.transaction.currency == books.currency]
        found += [each for each in rows if each.transaction.kind is not EntryKind.PREPAYMENT]
    return sorted(found, key=lambda each: (each.transaction.day, each.number))


@dataclass(slots=True)
class _Stay:
    """Where the commitments of an account stood, and who held CU there, day by day."""

    contracts: Sequence[Contract]
    provisioned: Sequence[Interval]
    everybody: Sequence[Interval]
    _days: dict[date, dict[str, list[PoolName]]] = field(default_factory=dict)
    _held: dict[tuple[date, PoolName], Mapping[str, Mapping[str, int]]] = field(default_factory=dict)

    def placed(self, contract: Contract, day: date) -> Contract:
        """The contract as of the pool in which it stood at the end of that day."""
        place = self._places(contract, day)[-1]
        return replace(contract, namespace=place.namespace, pool=place.name)

    def held(self, contract: Contract, day: date) -> dict[str, int]:
        """CU x MOMENT of the contract by ModelInstance."""
        found: Counter[str] = Counter()
        for place in self._places(contract, day):
            found.update(self._held_in(place, day).get(contract.commitment, {}))
        return dict(found)

    def _held_in(self, place: PoolName, day: date) -> Mapping[str, Mapping[str, int]]:
        if (day, place) not in self._held:
            neighbours = [each for each in self.contracts if place in self._places(each, day)]
            there = [each for each in self.everybody if PoolName(each.namespace, each.pool) == place]
            self._held[day, place] = held_on(neighbours, there, day)
        return self._held[day, place]

    def _places(self, contract: Contract, day: date) -> list[PoolName]:
        """In the order of time; where nobody saw it, where it was agreed."""
        if day not in self._days:
            start, end = start_of(day), start_of(day + timedelta(days=1))
            found = self._days[day] = {}
            for each in self.provisioned:
                place = PoolName(each.namespace, each.pool)
                if each.moments_between(start, end) and place not in found.setdefault(each.subject, []):
                    found[each.subject].append(place)
        return self._days[day].get(contract.commitment) or [PoolName(contract.namespace, contract.pool)]


async def _stay(ledger: SqlLedger, contracts: Sequence[Contract], first: date, end: date) -> _Stay:
    commitments = {each.commitment for each in contracts}
    provisioned = [each async for each in ledger.provisioned(commitments, start_of(first), start_of(end))]
    places = {PoolName(each.namespace, each.pool) for each in contracts}
    places |= {PoolName(each.namespace, each.pool) for each in provisioned}
    everybody = [each async for each in ledger.intervals(places, start_of(first), start_of(end))]
    return _Stay(contracts, provisioned, everybody)


def day_of(text: str, flag: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CliError(f"{flag} {text!r}: a UTC day is written 2026-03-01") from None


def now() -> datetime:
    return datetime.now(UTC)

"""Owns books in memory: the Ledger port without a database, by the plainest code that does what the port says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from reserved_capacity.domain.billing.contracts import Contract, PriceSighting, Reduction
from reserved_capacity.domain.billing.events import invoice_data, invoice_id, transaction_data
from reserved_capacity.domain.billing.history import Presence, plan_intervals
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Transaction
from reserved_capacity.domain.billing.posted import DueContract, Posted, PostedContract
from reserved_capacity.domain.terms import start_of
from reserved_capacity.ledger_ports import (
    PAGE,
    AccountBooks,
    ClosedMonth,
    Document,
    Entry,
    Event,
    EventType,
    Halt,
    IssuedInvoice,
    Lag,
    LedgerError,
    LedgerRefused,
    Notice,
    PoolName,
    TermId,
)
from tests.fakes.lots import FakeLots

_LEARNT = ("provision_by", "fully_provisioned_at", "first_provisioned_at", "billing_start")


@dataclass(slots=True)
class _Report:
    """`place` changes when a halt is lifted."""

    place: int
    contract: str
    event: Event


class FakeLedger(FakeLots):
    """`failure`: what every call raises while it is set, as if the database were away."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: LedgerError | None = None
        self._contracts: dict[TermId, Contract] = {}
        self._sightings: dict[tuple[Any, ...], PriceSighting] = {}
        self._intervals: list[Interval] = []
        self._entries: list[Entry] = []
        self._numbers: dict[str, int] = {}
        self._closed: dict[tuple[str, str, date], ClosedMonth] = {}
        self._invoices: dict[str, IssuedInvoice] = {}
        self._notices: dict[str, Notice] = {}
        self._outbox: list[_Report] = []
        self._claims: dict[str, tuple[str, datetime]] = {}
        self._halts: dict[str, Halt] = {}
        self._open_from = date.min + timedelta(days=1)

    def _answer(self) -> None:
        if self.failure is not None:
            raise self.failure

    # ------------------------------------------------------------------------------------------------------ agreements

    async def contracts(
        self,
        *,
        account: str | None = None,
        pool: PoolName | None = None,
        commitment: str | None = None,
        open_on: date | None = None,
    ) -> tuple[Contract, ...]:
        self._answer()
        return tuple(
            each
            for _, each in sorted(self._contracts.items())
            if (account is None or each.account == account)
            and (pool is None or (each.namespace, each.pool) == (pool.namespace, pool.name))
            and (commitment is None or each.commitment == commitment)
            and (open_on is None or each.end is None or each.end > open_on)
        )

    async def register(self, contracts: Sequence[Contract]) -> tuple[Contract, ...]:
        self._answer()
        for each in contracts:
            self._numbers.setdefault(each.account, 0)
            there = self._contracts.setdefault(_term(each), replace(each, reductions=()))
            learnt = {name: getattr(each, name) for name in _LEARNT if getattr(there, name) is None}
            self._contracts[_term(each)] = replace(there, **learnt)
            self._reduce(_term(each), each.reductions)
        return tuple(self._contracts[_term(each)] for each in contracts)

    async def record_sightings(self, sightings: Sequence[PriceSighting]) -> None:
        self._answer()
        for each in sightings:
            key = (each.price_book, each.term, each.effective_from, each.per_cu_month)
            self._sightings.setdefault(key, replace(each, seen_at=self._seen(each.seen_at)))

    def _seen(self, moment: datetime) -> datetime:
        last = max((each.transaction.day for each in self._entries), default=date.min)
        return max(moment, start_of(max(last + timedelta(days=1), self._open_from)))

    async def begin_close(self, today: date) -> None:
        self._answer()
        self._open_from = max(today, self._open_from)

    async def sightings(self, price_book: str) -> tuple[PriceSighting, ...]:
        self._answer()
        found = (each for each in self._sightings.values() if each.price_book == price_book)
        return tuple(sorted(found, key=lambda each: (each.effective_from, each.seen_at, each.term)))

    async def record_reductions(self, term: TermId, reductions: Sequence[Reduction]) -> tuple[Reduction, ...]:
        self._answer()
        if term not in self._contracts:
            raise LedgerRefused(f"no {term}")
        self._reduce(term, reductions)
        return self._contracts[term].reductions

    def _reduce(self, term: TermId, reductions: Iterable[Reduction]) -> None:
        agreed = {(each.at, each.compute_units): each for each in self._contracts[term].reductions}
        for each in reductions:
            agreed.setdefault((each.at, each.compute_units), replace(each, seen_at=self._seen(each.seen_at)))
        ordered = sorted(agreed.values(), key=lambda each: (each.at, each.seen_at, each.compute_units))
        self._contracts[term] = replace(self._contracts[term], reductions=tuple(ordered))

    async def observe(self, pool: PoolName, present: Collection[Presence], at: datetime) -> int:
        self._answer()
        here = [each for each in self._intervals if (each.namespace, each.pool) == (pool.namespace, pool.name)]
        lasting = [each for each in here if each.until is None]
        ends: dict[tuple[IntervalKind, str], datetime] = {}
        for each in here:
            if each.until is not None:
                key = (each.kind, each.subject)
                ends[key] = max(each.until, ends.get(key, each.until))
        changes = plan_intervals((pool.namespace, pool.name), lasting, present, self._seen(at), ends)
        over = {(each.kind, each.subject) for each in changes.ended}
        self._intervals = [
            each
            for each in self._intervals
            if each.until is not None or each not in lasting or (each.kind, each.subject) not in over
        ]
        self._intervals += [*changes.ended, *changes.begun]
        return len(changes.ended) + len(changes.begun)

    async def intervals(self, pools: Collection[PoolName], since: datetime, until: datetime) -> AsyncIterator[Interval]:
        self._answer()
        found = (
            each
            for each in self._intervals
            if PoolName(each.namespace, each.pool) in pools
            and each.since < until
            and (each.until is None or each.until > since)
        )
        for each in sorted(found, key=lambda one: (one.namespace, one.pool, one.since, one.kind, one.subject)):
            yield each

    async def provisioned(
        self, commitments: Collection[str], since: datetime, until: datetime
    ) -> AsyncIterator[Interval]:
        self._answer()
        found = (
            each
            for each in self._intervals
            if each.kind is IntervalKind.PROVISIONED
            and each.subject in commitments
            and each.since < until
            and (each.until is None or each.until > since)
        )
        for each in sorted(found, key=lambda one: (one.subject, one.since)):
            yield each

    # -------------------------------------------------------------------------------------------------------- postings

    async def due(self, today: date, *, after: TermId | None = None, limit: int = PAGE) -> tuple[DueContract, ...]:
        self._answer()
        charged = {
            (each.transaction.contract, each.transaction.day)
            for each in self._entries
            if each.transaction.kind is EntryKind.CHARGE
        }
        found = []
        for term, each in sorted(self._contracts.items()):
            if (after is not None and term <= after) or each.billing_start is None or each.end is None:
                continue
            day = min(today, each.end) - timedelta(days=1)
            if each.billing_start < today and (each.commitment, day) not in charged:
                found.append(DueContract(each, self._posted(each).posted.through))
        return tuple(found[:limit])

    async def posted(self, terms: Sequence[TermId]) -> tuple[PostedContract, ...]:
        self._answer()
        return tuple(self._posted(self._contracts[term]) for term in terms if term in self._contracts)

    def _posted(self, contract: Contract) -> PostedContract:
        start, end = contract.billing_start, contract.end
        own = [each.transaction for each in self._entries if each.transaction.contract == contract.commitment]
        own = [each for each in own if start is not None and end is not None and start <= each.day < end]
        return PostedContract(contract, self._sums(own))

    def _sums(self, own: Sequence[Transaction]) -> Posted:
        rows: dict[EntryKind, int] = {}
        amounts: dict[EntryKind, int] = {}
        books: dict[Book, int] = {}
        for each in own:
            rows[each.kind] = rows.get(each.kind, 0) + 1
            amounts[each.kind] = amounts.get(each.kind, 0) + each.amount_minor
            for posting in each.postings:
                books[posting.book] = books.get(posting.book, 0) + posting.minor
        days = sorted(each.day for each in own if each.kind is EntryKind.CHARGE)
        first, last = (days[0], days[-1]) if days else (None, None)
        through = max((each.day for each in own if each.kind is not EntryKind.CORRECTION), default=None)
        return Posted(rows, amounts, books, first, last, through)

    async def append(self, transactions: Sequence[Transaction], *, now: datetime) -> tuple[Entry, ...]:
        self._answer()
        there = {each.transaction.key: each.transaction.account for each in self._entries}
        for each in transactions:
            named = [posting.book for posting in each.postings]
            if not each.balanced or len(named) != len(set(named)):
                raise LedgerRefused(each.key)
            if there.setdefault(each.key, each.account) != each.account:
                raise LedgerRefused(each.key)
        known = {each.transaction.key for each in self._entries}
        new = []
        for each in transactions:
            if each.key not in known:
                known.add(each.key)
                new.append(self._post(each, now.astimezone(UTC)))
        return tuple(new)

    def _post(self, given: Transaction, now: datetime) -> Entry:
        kept = [posting for posting in given.postings if posting.minor]
        postings = tuple(sorted(kept, key=lambda posting: list(Book).index(posting.book)))
        row = replace(given, postings=postings)
        kind = EventType.CREDIT if row.amount_minor < 0 else EventType.CHARGE
        number = self._numbers.get(row.account, 0) + 1
        self._report(row.account, row.contract, kind, row.key, now, transaction_data(row, number))
        entry = Entry(number, now, row)
        self._entries.append(entry)
        return entry

    def _report(
        self, account: str, contract: str, kind: EventType, identity: str, now: datetime, data: Document
    ) -> None:
        number = self._numbers[account] = self._numbers.get(account, 0) + 1
        frozen = json.loads(json.dumps(data))
        self._outbox.append(_Report(number, contract, Event(account, number, kind, identity, now, frozen)))

    async def entries(
        self,
        *,
        account: str | None = None,
        contract: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> AsyncIterator[Entry]:
        self._answer()
        if account is None and contract is None:
            raise ValueError("whose rows?")
        for each in self._in_order():
            row = each.transaction
            mine = (account is None or row.account == account) and (contract is None or row.contract == contract)
            if mine and (since is None or row.day >= since) and (until is None or row.day < until):
                yield each

    def _in_order(self) -> list[Entry]:
        return sorted(self._entries, key=lambda each: (each.transaction.day, each.number))

    # -------------------------------------------------------------------------------------------------------- invoices

    async def books(self, *, account: str | None = None) -> tuple[AccountBooks, ...]:
        self._answer()
        first: dict[tuple[str, str], date] = {}
        for each in self._entries:
            row = each.transaction
            key = (row.account, row.currency)
            first[key] = min(first.get(key, row.day), row.day)
        return tuple(
            AccountBooks(*key, day, self._last_closed(*key))
            for key, day in sorted(first.items())
            if account is None or key[0] == account
        )

    def _last_closed(self, account: str, currency: str) -> ClosedMonth | None:
        closed = [each for each in self._closed.values() if (each.account, each.currency) == (account, currency)]
        return max(closed, key=lambda each: each.month, default=None)

    async def position(self, account: str) -> int:
        self._answer()
        return self._numbers.get(account, 0)

    async def uninvoiced(self, account: str, currency: str, before: date, *, through: int) -> AsyncIterator[Entry]:
        self._answer()
        for each in self._not_in(self._last_closed(account, currency), account, currency):
            if each.transaction.day < before and each.number <= through:
                yield each

    async def invoiced(self, account: str, currency: str, month: date) -> AsyncIterator[Entry]:
        self._answer()
        closed = self._closed.get((account, currency, month))
        if closed is None:
            return
        earlier = [each for key, each in self._closed.items() if key[:2] == (account, currency) and key[2] < month]
        for each in self._not_in(max(earlier, key=lambda one: one.month, default=None), account, currency):
            if _in_month_or_before(each.transaction.day, month) and each.number <= closed.through:
                yield each

    def _not_in(self, closed: ClosedMonth | None, account: str, currency: str) -> list[Entry]:
        return [
            each
            for each in self._in_order()
            if (each.transaction.account, each.transaction.currency) == (account, currency)
            and not (
                closed is not None
                and _in_month_or_before(each.transaction.day, closed.month)
                and each.number <= closed.through
            )
        ]

    async def close_month(self, month: ClosedMonth, invoice: IssuedInvoice | None) -> ClosedMonth:
        self._answer()
        key = (month.account, month.currency, month.month)
        self._numbers.setdefault(month.account, 0)
        if key in self._closed:
            return self._closed[key]
        last = self._last_closed(month.account, month.currency)
        if last is not None and last.month > month.month:
            raise LedgerRefused(f"{last} is closed")
        if invoice is not None and self._invoices.get(invoice.number, invoice) != invoice:
            raise LedgerRefused(f"another {invoice.number}")
        self._closed[key] = month
        if invoice is not None:
            await self.issue(invoice)
        return month

    async def issue(self, invoice: IssuedInvoice) -> IssuedInvoice:
        self._answer()
        if invoice.number in self._invoices:
            return self._invoices[invoice.number]
        self._invoices[invoice.number] = invoice
        data = invoice_data(invoice.number, invoice.account, invoice.currency, invoice.month, invoice.document)
        self._report(invoice.account, "", EventType.INVOICE, invoice_id(invoice.number), invoice.issued_at, data)
        return invoice

    async def invoice(self, number: str) -> IssuedInvoice | None:
        self._answer()
        return self._invoices.get(number)

    async def invoices(self, *, account: str | None = None, month: date | None = None) -> tuple[IssuedInvoice, ...]:
        self._answer()
        found = (
            each
            for each in self._invoices.values()
            if (account is None or each.account == account) and (month is None or each.month == month)
        )
        return tuple(sorted(found, key=lambda each: (each.account, each.month, each.currency, each.number)))

    # ---------------------------------------------------------------------------------------------------------- outbox

    async def backlog(self, *, account: str | None = None) -> tuple[Lag, ...]:
        self._answer()
        lags = []
        for name in sorted({each.event.account for each in self._outbox}):
            own = [each for each in self._outbox if each.event.account == name]
            free = [each.event.time for each in own if each.contract not in self._halts]
            if account in (None, name):
                lags.append(Lag(name, len(free), min(free, default=None), len(own) - len(free)))
        return tuple(lags)

    async def claim(self, account: str, owner: str, *, now: datetime, seconds: float) -> bool:
        self._answer()
        if account not in self._numbers:
            return False
        length = timedelta(seconds=seconds)
        holder, until = self._claims.get(account, (owner, now))
        if holder != owner and now < until <= now + 2 * length:
            return False
        self._claims[account] = (owner, now + length)
        return True

    async def pending(self, account: str, limit: int) -> tuple[Event, ...]:
        self._answer()
        free = [each for each in self._outbox if each.event.account == account and each.contract not in self._halts]
        free.sort(key=lambda each: each.place)
        return tuple(replace(each.event, place=each.place) for each in free[:limit])

    async def delivered(self, events: Sequence[Event]) -> None:
        self._answer()
        gone = {(each.account, each.place) for each in events}
        self._outbox = [each for each in self._outbox if (each.event.account, each.place) not in gone]

    async def announce(self, notices: Sequence[Notice], *, now: datetime) -> tuple[Notice, ...]:
        self._answer()
        new = []
        for each in notices:
            self._numbers.setdefault(each.account, 0)
            if each.id not in self._notices:
                self._notices[each.id] = each
                self._report(each.account, each.contract, EventType.NOTICE, each.id, now.astimezone(UTC), each.data)
                new.append(each)
        return tuple(new)

    async def halt(self, contract: str, why: str, *, now: datetime) -> None:
        self._answer()
        self._halts.setdefault(contract, Halt(contract, now.astimezone(UTC), why))

    async def resume(self, contract: str) -> None:
        self._answer()
        if self._halts.pop(contract, None) is None:
            return
        held = sorted((each for each in self._outbox if each.contract == contract), key=lambda each: each.place)
        for each in held:
            self._numbers[each.event.account] += 1
            each.place = self._numbers[each.event.account]

    async def halts(self) -> tuple[Halt, ...]:
        self._answer()
        return tuple(halt for _, halt in sorted(self._halts.items()))


def _term(contract: Contract) -> TermId:
    return TermId(contract.commitment, contract.number)


def _in_month_or_before(day: date, month: date) -> bool:
    return (day.year, day.month) <= (month.year, month.month)

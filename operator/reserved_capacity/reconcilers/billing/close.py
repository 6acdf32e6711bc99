"""Closes days and months for all contracts, whether their objects are still there or not (behaviour.md M2, M5, M6, M9).

Days first, page by page, then the months that are over: so what a month's invoice shows is what was posted of it. One
contract, or one account's month, that cannot be closed stops no other. Whatever is interrupted is begun anew: what stands
in the books stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import structlog

from reserved_capacity.domain.billing.charges import plan_days
from reserved_capacity.domain.billing.contracts import Payment
from reserved_capacity.domain.billing.intervals import Interval
from reserved_capacity.domain.billing.invoice_document import document_of
from reserved_capacity.domain.billing.invoices import (
    Invoice,
    monthly_invoice,
    months_to_close,
    prepayment_invoice,
)
from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.billing.posted import DueContract
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.terms import midnight_after, start_of
from reserved_capacity.domain.tokens.charges import DueLot, plan_lot_days
from reserved_capacity.domain.tokens.prices import UnitPrices
from reserved_capacity.ledger_ports import (
    PAGE,
    AccountBooks,
    ClosedMonth,
    IssuedInvoice,
    Ledger,
    LedgerRefused,
    TermId,
)
from reserved_capacity.ports import TOKEN_UNIT_RESERVATIONS, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing.board import AGREEMENTS, DELIVERY, Billing
from reserved_capacity.reconcilers.context import TOKENS, Context

log = structlog.get_logger(__name__)

DAY = timedelta(days=1)
ROWS_AT_ONCE = 2_000
"""So many rows, and those of one more contract, are one transaction: whoever has months to catch up holds up others for
parts of a second at a time."""


async def reconcile(context: Context, billing: Billing, _key: Key) -> datetime:
    """Returns the next midnight, at which another day is over."""
    now = context.clock.now()
    run = _Run(billing, now)
    awaiting = billing.books.awaiting()
    await billing.ledger.begin_close(run.today)
    await run.post_days()
    await run.post_lots()
    billing.books.closed(awaiting)
    for key in sorted(run.told | awaiting.keys() | await _abandoned(context, billing)):
        context.enqueue(key)
    await run.issue_prepayments()
    await run.close_months()
    backlog = await billing.ledger.backlog()
    billing.lagging(backlog)
    for account in sorted({each.account for each in backlog if each.pending}):
        context.enqueue(Key(DELIVERY, "", account))
    return midnight_after(now)


async def _abandoned(context: Context, billing: Billing) -> set[Key]:
    """Reservations with lots that have no end and no object: it went while nobody looked (T2)."""
    return {
        Key(TOKENS, each.namespace, each.name)
        for each in await billing.ledger.endless_reservations()
        if context.store.get(Ref(TOKEN_UNIT_RESERVATIONS, each.namespace, each.name)) is None
    }


@dataclass(frozen=True, slots=True)
class _Planned:
    """Rows of one contract (a commitment or a lot), and who is told that they stand."""

    contract: str
    owner: Key
    rows: tuple[Transaction, ...]


@dataclass(slots=True)
class _Run:
    """One pass over the books: `told` are those for whom something was posted, or could not be."""

    billing: Billing
    now: datetime
    told: set[Key] = field(default_factory=set)
    _histories: dict[str, PriceHistory] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.billing.ledger

    @property
    def today(self) -> date:
        return self.now.astimezone(UTC).date()

    # ------------------------------------------------------------------------------------------------------------ days

    async def post_days(self) -> None:
        after: TermId | None = None
        while True:
            page = await self.ledger.due(self.today, after=after, limit=PAGE)
            await self._post_page(page)
            if len(page) < PAGE:
                return
            after = TermId(page[-1].contract.commitment, page[-1].contract.number)

    async def _post_page(self, page: Sequence[DueContract]) -> None:
        await self._append_all(self._days_of(page))

    async def _days_of(self, page: Sequence[DueContract]) -> AsyncIterator[_Planned]:
        provisioned = await self._provisioned(page)
        for each in page:
            contract = each.contract
            rows = plan_days(
                contract,
                await self._history(contract.price_book),
                posted_through=each.posted_through,
                today=self.today,
                provisioned=provisioned.get(contract.commitment, ()),
            )
            owner = Key(AGREEMENTS, contract.namespace, contract.pool)
            yield _Planned(contract.commitment, owner, rows)

    async def post_lots(self) -> None:
        """Of token units, in the same way: lot by lot, page by page (T1)."""
        prices: dict[str, UnitPrices] = {}
        after = ""
        while True:
            page = await self.ledger.due_lots(self.today, after=after, limit=PAGE)
            await self._append_all(self._lot_days_of(page, prices))
            if len(page) < PAGE:
                return
            after = page[-1].lot.id

    async def _lot_days_of(self, page: Sequence[DueLot], prices: dict[str, UnitPrices]) -> AsyncIterator[_Planned]:
        for each in page:
            lot, book = each.lot, each.lot.price_book
            if book not in prices:
                prices[book] = UnitPrices(await self.ledger.unit_prices(book))
            rows = plan_lot_days(lot, prices[book], posted_through=each.posted_through, today=self.today)
            yield _Planned(lot.id, Key(TOKENS, lot.reservation.namespace, lot.reservation.name), rows)

    async def _append_all(self, planned: AsyncIterator[_Planned]) -> None:
        """As soon as there is enough for a transaction, and what is left in the end."""
        waiting: list[_Planned] = []
        count = 0
        async for each in planned:
            if each.rows:
                waiting.append(each)
                count += len(each.rows)
            if count >= ROWS_AT_ONCE:
                await self._append_planned(waiting)
                waiting, count = [], 0
        await self._append_planned(waiting)

    async def _append_planned(self, planned: Sequence[_Planned]) -> None:
        try:
            await self._append(planned)
        except LedgerRefused:
            for each in planned:
                await self._append_alone(each)

    async def _append_alone(self, planned: _Planned) -> None:
        try:
            await self._append([planned])
        except LedgerRefused as error:
            log.error("contract halted", contract=planned.contract, error=str(error))
            await self.ledger.halt(planned.contract, str(error), now=self.now)
            self.told.add(planned.owner)

    async def _append(self, planned: Sequence[_Planned]) -> None:
        rows = [row for each in planned for row in each.rows]
        if not rows:
            return
        for entry in await self.ledger.append(rows, now=self.now):
            row = entry.transaction
            if row.kind is EntryKind.CHARGE:
                self.billing.charged(row.account, row.currency, row.amount_minor)
        self.told |= {each.owner for each in planned}

    async def _history(self, price_book: str) -> PriceHistory:
        if price_book not in self._histories:
            self._histories[price_book] = PriceHistory(await self.ledger.sightings(price_book))
        return self._histories[price_book]

    async def _provisioned(self, page: Sequence[DueContract]) -> Mapping[str, Sequence[Interval]]:
        """What was provisioned of each commitment on the days that are due."""
        firsts = [each.posted_through or each.contract.billing_start for each in page]
        since = min((first for first in firsts if first is not None), default=self.today)
        commitments = {each.contract.commitment for each in page}
        found: dict[str, list[Interval]] = {}
        async for interval in self.ledger.provisioned(commitments, start_of(since), start_of(self.today)):
            found.setdefault(interval.subject, []).append(interval)
        return found

    # -------------------------------------------------------------------------------------------------------- invoices

    async def issue_prepayments(self) -> None:
        """Of every prepaid term that has begun, the invoice of its Prepayment. Looked for, not remembered: whoever posted
        the row may have died before issuing (M6)."""
        begun = [
            each
            for each in await self.ledger.contracts()
            if each.payment is Payment.ANNUAL_PREPAID and each.billing_start and each.billing_start < self.today
        ]
        if not begun:
            return
        known = {each.number for each in await self.ledger.invoices()}
        for contract in begun:
            start = contract.billing_start
            assert start is not None, "of contracts that have begun"  # noqa: S101
            entries = self.ledger.entries(contract=contract.commitment, since=start, until=start + DAY)
            async for entry in entries:
                if entry.transaction.kind is EntryKind.PREPAYMENT:
                    invoice = prepayment_invoice(entry.transaction)
                    if invoice.number not in known:
                        await self.ledger.issue(_issued(invoice))

    async def close_months(self) -> None:
        for books in await self.ledger.books():
            closed = Month.of(books.closed.month) if books.closed is not None else None
            months = months_to_close(books.first_day, closed, self.now)
            try:
                for month in months:
                    await self._close_month(books, month)
            except LedgerRefused as error:  # a later month must not be closed before this one
                log.error("month not closed", account=books.account, currency=books.currency, error=str(error))

    async def _close_month(self, books: AccountBooks, month: Month) -> None:
        through = await self.ledger.position(books.account)
        rows = [
            entry.transaction
            async for entry in self.ledger.uninvoiced(books.account, books.currency, month.end, through=through)
        ]
        invoice = monthly_invoice(books.account, books.currency, month, rows)
        await self.ledger.close_month(
            ClosedMonth(books.account, books.currency, month.start, through),
            _issued(invoice) if invoice is not None else None,
        )


def _issued(invoice: Invoice) -> IssuedInvoice:
    return IssuedInvoice(
        number=invoice.number,
        account=invoice.account,
        currency=invoice.currency,
        month=invoice.month.start,
        issued_at=invoice.issued_at,
        document=document_of(invoice),
    )

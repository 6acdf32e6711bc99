"""The books in a SQL database, SQLite or PostgreSQL: the port's operations, each in one transaction off the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement

from reserved_capacity.adapters.database import agreements, billed, lots, postings, reporting
from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.statements import chunks
from reserved_capacity.domain.billing.contracts import Contract, PriceSighting, Reduction
from reserved_capacity.domain.billing.history import Presence
from reserved_capacity.domain.billing.intervals import Interval
from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.billing.posted import DueContract, PostedContract
from reserved_capacity.domain.tokens.charges import DueLot, PostedLot
from reserved_capacity.domain.tokens.lots import Lot, ReservationName
from reserved_capacity.domain.tokens.prices import UnitPrice
from reserved_capacity.ledger_ports import (
    PAGE,
    AccountBooks,
    ClosedMonth,
    Entry,
    Event,
    Halt,
    IssuedInvoice,
    Lag,
    Notice,
    PoolName,
    TermId,
)

STREAM_PAGE = 2000
POOLS_PAGE = 200


class SqlLedger:
    """`reserved_capacity.ledger_ports.Ledger`; `database` is closed by whoever made it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ------------------------------------------------------------------------------------------------------ agreements

    async def contracts(
        self,
        *,
        account: str | None = None,
        pool: PoolName | None = None,
        commitment: str | None = None,
        open_on: date | None = None,
    ) -> tuple[Contract, ...]:
        conditions = agreements.contract_filters(account, pool, commitment, open_on)
        return await self.database.read(lambda connection: agreements.find_contracts(connection, conditions))

    async def register(self, contracts: Sequence[Contract]) -> tuple[Contract, ...]:
        # Looked at first, as most of the time nothing is new: a look waits for nobody and writes nothing to the disk.
        there = await self.database.read(lambda connection: agreements.needs_registering(connection, contracts))
        if there is not None:
            return there
        return await self.database.write(lambda connection: agreements.register(connection, contracts))

    async def record_sightings(self, sightings: Sequence[PriceSighting]) -> None:
        await self.database.write(lambda connection: agreements.record_sightings(connection, sightings))

    async def sightings(self, price_book: str) -> tuple[PriceSighting, ...]:
        return await self.database.read(lambda connection: agreements.find_sightings(connection, price_book))

    async def record_reductions(self, term: TermId, reductions: Sequence[Reduction]) -> tuple[Reduction, ...]:
        return await self.database.write(lambda connection: agreements.record_reductions(connection, term, reductions))

    async def observe(self, pool: PoolName, present: Collection[Presence], at: datetime) -> int:
        plan = await self.database.read(lambda connection: agreements.plan_observation(connection, pool, present, at))
        if not (plan.ended or plan.begun):
            return 0
        return await self.database.write(lambda connection: agreements.observe(connection, pool, present, at))

    async def intervals(self, pools: Collection[PoolName], since: datetime, until: datetime) -> AsyncIterator[Interval]:
        for chunk in chunks(sorted(pools), POOLS_PAGE):
            for each in await self._intervals(chunk, since, until):
                yield each

    async def _intervals(self, pools: Sequence[PoolName], since: datetime, until: datetime) -> list[Interval]:
        return await self.database.read(lambda connection: agreements.find_intervals(connection, pools, since, until))

    async def provisioned(
        self, commitments: Collection[str], since: datetime, until: datetime
    ) -> AsyncIterator[Interval]:
        for chunk in chunks(sorted(commitments)):
            for each in await self._provisioned(chunk, since, until):
                yield each

    async def _provisioned(self, commitments: Sequence[str], since: datetime, until: datetime) -> list[Interval]:
        return await self.database.read(
            lambda connection: agreements.find_provisioned(connection, commitments, since, until)
        )

    # -------------------------------------------------------------------------------------------------------- postings

    async def begin_close(self, today: date) -> None:
        last_day = today - timedelta(days=1)
        await self.database.write(lambda connection: agreements.close_through(connection, last_day))

    async def due(self, today: date, *, after: TermId | None = None, limit: int = PAGE) -> tuple[DueContract, ...]:
        return await self.database.read(lambda connection: postings.find_due(connection, today, after, limit))

    async def posted(self, terms: Sequence[TermId]) -> tuple[PostedContract, ...]:
        return await self.database.read(lambda connection: postings.find_posted(connection, terms))

    async def append(self, transactions: Sequence[Transaction], *, now: datetime) -> tuple[Entry, ...]:
        postings.check(transactions)
        if not transactions:
            return ()
        moment = now.astimezone(UTC)
        return await self.database.write(lambda connection: postings.append(connection, transactions, moment))

    async def entries(
        self,
        *,
        account: str | None = None,
        contract: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> AsyncIterator[Entry]:
        if account is None and contract is None:
            raise ValueError("whose rows?")
        async for each in self._stream(postings.entry_filters(account, contract, since, until)):
            yield each

    async def _stream(self, conditions: Sequence[ColumnElement[bool]]) -> AsyncIterator[Entry]:
        after: tuple[date, int] | None = None
        while True:
            page = await self._page(conditions, after)
            for each in page:
                yield each
            if len(page) < STREAM_PAGE:
                return
            after = (page[-1].transaction.day, page[-1].number)

    async def _page(self, conditions: Sequence[ColumnElement[bool]], after: tuple[date, int] | None) -> list[Entry]:
        return await self.database.read(
            lambda connection: postings.entries_page(connection, conditions, after, STREAM_PAGE)
        )

    # ------------------------------------------------------------------------------------------------------------ lots

    async def lots(self, *, account: str | None = None, reservation: ReservationName | None = None) -> tuple[Lot, ...]:
        conditions = lots.filters(account, reservation)
        return await self.database.read(lambda connection: lots.find(connection, conditions))

    async def endless_reservations(self) -> tuple[ReservationName, ...]:
        return await self.database.read(lots.find_endless)

    async def register_lots(self, given: Sequence[Lot]) -> tuple[Lot, ...]:
        there = await self.database.read(lambda connection: lots.needs_registering(connection, given))
        if there is not None:
            return there
        return await self.database.write(lambda connection: lots.register(connection, given))

    async def record_unit_prices(self, prices: Sequence[UnitPrice]) -> None:
        await self.database.write(lambda connection: lots.record_prices(connection, prices))

    async def unit_prices(self, price_book: str) -> tuple[UnitPrice, ...]:
        return await self.database.read(lambda connection: lots.find_prices(connection, price_book))

    async def due_lots(self, today: date, *, after: str = "", limit: int = PAGE) -> tuple[DueLot, ...]:
        return await self.database.read(lambda connection: lots.find_due(connection, today, after, limit))

    async def posted_lots(self, names: Sequence[str]) -> tuple[PostedLot, ...]:
        return await self.database.read(lambda connection: lots.find_posted(connection, names))

    # -------------------------------------------------------------------------------------------------------- invoices

    async def books(self, *, account: str | None = None) -> tuple[AccountBooks, ...]:
        return await self.database.read(lambda connection: billed.find_books(connection, account))

    async def position(self, account: str) -> int:
        return await self.database.read(lambda connection: billed.last_number(connection, account))

    async def uninvoiced(self, account: str, currency: str, before: date, *, through: int) -> AsyncIterator[Entry]:
        closed = await self.database.read(lambda connection: billed.last_closed(connection, account, currency))
        for conditions in billed.uninvoiced_filters(account, currency, before, through, closed):
            async for each in self._stream(conditions):
                yield each

    async def invoiced(self, account: str, currency: str, month: date) -> AsyncIterator[Entry]:
        closed, before = await self.database.read(
            lambda connection: billed.closed_with_predecessor(connection, account, currency, month)
        )
        if closed is None:
            return
        end = billed.end_of_month(closed.month)
        for conditions in billed.uninvoiced_filters(account, currency, end, closed.through, before):
            async for each in self._stream(conditions):
                yield each

    async def close_month(self, month: ClosedMonth, invoice: IssuedInvoice | None) -> ClosedMonth:
        return await self.database.write(lambda connection: billed.close_month(connection, month, invoice))

    async def issue(self, invoice: IssuedInvoice) -> IssuedInvoice:
        return await self.database.write(lambda connection: billed.issue(connection, invoice))

    async def invoice(self, number: str) -> IssuedInvoice | None:
        return await self.database.read(lambda connection: billed.find_invoice(connection, number))

    async def invoices(self, *, account: str | None = None, month: date | None = None) -> tuple[IssuedInvoice, ...]:
        return await self.database.read(lambda connection: billed.find_invoices(connection, account, month))

    # ---------------------------------------------------------------------------------------------------------- outbox

    async def backlog(self, *, account: str | None = None) -> tuple[Lag, ...]:
        return await self.database.read(lambda connection: reporting.backlog(connection, account))

    async def claim(self, account: str, owner: str, *, now: datetime, seconds: float) -> bool:
        return await self.database.write(lambda connection: reporting.claim(connection, account, owner, now, seconds))

    async def pending(self, account: str, limit: int) -> tuple[Event, ...]:
        return await self.database.read(lambda connection: reporting.pending(connection, account, limit))

    async def delivered(self, events: Sequence[Event]) -> None:
        await self.database.write(lambda connection: reporting.delivered(connection, events))

    async def announce(self, notices: Sequence[Notice], *, now: datetime) -> tuple[Notice, ...]:
        return await self.database.write(lambda connection: reporting.announce(connection, notices, now))

    async def halt(self, contract: str, why: str, *, now: datetime) -> None:
        await self.database.write(lambda connection: reporting.halt(connection, contract, why, now))

    async def resume(self, contract: str) -> None:
        await self.database.write(lambda connection: reporting.resume(connection, contract))

    async def halts(self) -> tuple[Halt, ...]:
        return await self.database.read(reporting.find_halts)

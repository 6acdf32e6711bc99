"""What the reconcilers need from the books and from billing, as values and Protocols.

Owns the operations on the ledger, the events that billing hears of, and what a failed call means. Every operation may be
repeated: whoever does not know whether a call was carried out (a lost connection, a killed process) calls again, and
what stands in the books already is left as it is. So two operators do no harm to each other, in any order (M4, M5).

Every operation of `Ledger` raises LedgerUnavailable, LedgerFull or LedgerUnusable, and changes nothing then that a
repetition would not change as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol

from reserved_capacity.domain.billing.contracts import Contract, PriceSighting, Reduction
from reserved_capacity.domain.billing.history import Presence
from reserved_capacity.domain.billing.intervals import Interval
from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.billing.posted import DueContract, PostedContract
from reserved_capacity.domain.tokens.charges import DueLot, PostedLot
from reserved_capacity.domain.tokens.lots import Lot, ReservationName
from reserved_capacity.domain.tokens.prices import UnitPrice

Document = Mapping[str, Any]
"""A JSON object. Money in it is a decimal string."""

PAGE = 500
SLOWLY_SECONDS = 60.0


class BooksError(Exception):
    """A call of the books or of billing that did not do what it was asked to, or of which nobody knows whether it did.

    `retry_after`: seconds until it is worth another try; None: soon, then with growing delay. `needs_somebody`: it will
    fail until a person has done something.
    """

    retry_after: float | None = None
    needs_somebody = False


class LedgerError(BooksError):
    """An operation on the books that was not carried out, or of which nobody knows whether it was."""


class LedgerUnavailable(LedgerError):
    """The database does not answer, is locked by somebody else, or broke off: try again, with growing delay."""


class LedgerFull(LedgerError):
    """The database has no room left. Trying again helps once somebody has made room; nothing that was written is lost."""

    needs_somebody = True


class LedgerUnusable(LedgerError):
    """The database is damaged, is none, or is of a newer operator: only a person can mend that; try again slowly."""

    retry_after = SLOWLY_SECONDS
    needs_somebody = True


class LedgerRefused(LedgerError):
    """What was to be written contradicts what stands in the books, or itself: a defect of ours; nothing was written."""

    retry_after = SLOWLY_SECONDS
    needs_somebody = True


@dataclass(frozen=True, slots=True, order=True)
class PoolName:
    """Where a pool stands, or stood: the books outlive it (M9)."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, order=True)
class TermId:
    """Names one contract: a commitment, and the number of its term."""

    commitment: str
    number: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction as it stands in the books: `number` is its place in the account's sequence, in the order of posting."""

    number: int
    posted_at: datetime
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """An invoice as it was issued: immutable (M6). `month` is the first day of its UTC month."""

    number: str
    account: str
    currency: str
    month: date
    issued_at: datetime
    document: Document


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """A month of an account and currency that gets no more rows: `through` is the number of the account's last row at
    that moment. Rows that came later, for whatever day, are for a later month's invoice."""

    account: str
    currency: str
    month: date
    through: int


@dataclass(frozen=True, slots=True)
class AccountBooks:
    """One currency of an account: the earliest day of any row, and the month that was closed last."""

    account: str
    currency: str
    first_day: date
    closed: ClosedMonth | None


class EventType(StrEnum):
    """The last but one word of a CloudEvent's type: io.reservedcapacity.<this>.v1."""

    CHARGE = "charge"
    CREDIT = "credit"
    INVOICE = "invoice"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Event:
    """What billing hears of. `id` is the idempotency key: the same id is the same event, whenever it is sent.

    `place` is the event's place in its account's sequence.
    """

    account: str
    place: int
    type: EventType
    id: str
    time: datetime
    data: Document


@dataclass(frozen=True, slots=True)
class Notice:
    """What a customer's billing system is told without an amount (M8); `contract` may be empty."""

    id: str
    account: str
    contract: str
    data: Document


@dataclass(frozen=True, slots=True)
class Lag:
    """What of an account has not reached billing. `held` are rows of halted contracts, not among the `pending`."""

    account: str
    pending: int
    oldest: datetime | None
    held: int


@dataclass(frozen=True, slots=True)
class Halt:
    """A contract whose rows are not reported, since when, and why."""

    contract: str
    since: datetime
    why: str


class Agreements(Protocol):
    """What was agreed and learnt: each fact once, with the moment it was first told (ADR 0020).

    That moment, also the one at which a pool is observed, goes on record as not before the end of the latest day that is
    closed (`begin_close`), whatever a clock says: no posted day gets another price or Shortfall in hindsight.
    """

    async def contracts(
        self,
        *,
        account: str | None = None,
        pool: PoolName | None = None,
        commitment: str | None = None,
        open_on: date | None = None,
    ) -> tuple[Contract, ...]:
        """Contracts that match everything given, by commitment and number; their reductions by date. `open_on` leaves out
        those whose last charged day is before it; what has no billing_start is open."""

    async def register(self, contracts: Sequence[Contract]) -> tuple[Contract, ...]:
        """Have these contracts in the books; what stands there afterwards, in the order given.

        What is not there is inserted. Of what is there only fields that are None are set (provision_by,
        fully_provisioned_at, first_provisioned_at, billing_start), and reductions are added; everything else stays as it
        is, so whoever comes second gets back what the first one wrote, and compares.
        """

    async def record_sightings(self, sightings: Sequence[PriceSighting]) -> None:
        """Add the list prices that are not there: same price book, term, date and price are the same, whenever seen."""

    async def sightings(self, price_book: str) -> tuple[PriceSighting, ...]:
        """All list prices of a price book that were ever seen, by effective date, then by when they were seen."""

    async def record_reductions(self, term: TermId, reductions: Sequence[Reduction]) -> tuple[Reduction, ...]:
        """Add the reductions that are not there (same date and CU are the same, whenever seen); all of the contract.
        LedgerRefused if there is no such contract."""

    async def observe(self, pool: PoolName, present: Collection[Presence], at: datetime) -> int:
        """Note who has CU of the pool at `at`: intervals of who is not there any more end, those of who is new begin
        (domain.billing.history.plan_intervals). `present` is everything; how many intervals began or ended."""

    def intervals(self, pools: Collection[PoolName], since: datetime, until: datetime) -> AsyncIterator[Interval]:
        """Intervals of these pools that overlap [since, until), whole, by pool, start, kind and subject."""

    def provisioned(self, commitments: Collection[str], since: datetime, until: datetime) -> AsyncIterator[Interval]:
        """The same of what was provisioned of these commitments, under whatever names their pool stood (M9), by start."""


class Postings(Protocol):
    """What stands in the books, and what is to be posted."""

    async def begin_close(self, today: date) -> None:
        """The days before `today` are closed: what is learnt from now on is of later days. So who reads the facts after
        this has read all that the rows of these days are made of, and whoever audits them finds the same."""

    async def due(self, today: date, *, after: TermId | None = None, limit: int = PAGE) -> tuple[DueContract, ...]:
        """Contracts with something to post on `today`, by commitment and number, at most `limit` of those behind `after`.

        Due are those with a billing_start before `today` and no Charge for the last charged day before `today`. Fewer
        than `limit`: there are no more. The page moves on by `after`, whether or not its contracts were posted, so one
        that cannot be posted stops no other.
        """

    async def posted(self, terms: Sequence[TermId]) -> tuple[PostedContract, ...]:
        """These contracts, due or not, with their sums computed from the rows themselves; unknown ones are left out."""

    async def append(self, transactions: Sequence[Transaction], *, now: datetime) -> tuple[Entry, ...]:
        """Post what is not there: all of it, with its events for billing and their places, in one database transaction.

        A transaction is there if its key is, whatever its amount: a posted day is never re-priced (M3). The new ones, in
        the order given. After a repetition these may be fewer than were posted in all, so nothing that must be right may
        be counted from them. Transactions of one account get their numbers, and reach billing, in the order given.
        LedgerRefused, and nothing is posted: one is not balanced, names a book twice, or a key is of another account.

        Postings of 0 are not kept; the others come back in the order of `Book`.
        """

    def entries(
        self,
        *,
        account: str | None = None,
        contract: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> AsyncIterator[Entry]:
        """Rows whose day is in [since, until), by day and number; read in pages, so rows that are posted meanwhile may be
        among them. An account or a contract is given."""


class Invoices(Protocol):
    """What customers were sent."""

    async def books(self, *, account: str | None = None) -> tuple[AccountBooks, ...]:
        """Every account and currency with a row, by name."""

    async def position(self, account: str) -> int:
        """The number of the account's last row, 0 if there is none. All rows up to it can be read: none is under way."""

    def uninvoiced(self, account: str, currency: str, before: date, *, through: int) -> AsyncIterator[Entry]:
        """Rows of days before `before`, with numbers not above `through`, that no closed month has: days that the last one
        does not cover, and rows that were posted after it was closed. By day and number."""

    def invoiced(self, account: str, currency: str, month: date) -> AsyncIterator[Entry]:
        """Rows that this closed month has, by day and number: also those of earlier months that were found later, and
        Prepayments, though they have invoices of their own. None while it is open."""

    async def close_month(self, month: ClosedMonth, invoice: IssuedInvoice | None) -> ClosedMonth:
        """Close a month, and keep its invoice and the event for billing, if there is one; all or nothing.
        A month that is closed already stays as it is, with or without an invoice; what stands. LedgerRefused: a later
        month is closed, or another invoice has the number."""

    async def issue(self, invoice: IssuedInvoice) -> IssuedInvoice:
        """Keep an invoice that closes no month (a prepayment's), and the event for billing, unless there is one of this
        number; the one that is kept."""

    async def invoice(self, number: str) -> IssuedInvoice | None: ...

    async def invoices(self, *, account: str | None = None, month: date | None = None) -> tuple[IssuedInvoice, ...]:
        """Invoices that match, by account, month, currency and number."""


class Outbox(Protocol):
    """What billing still has to hear, in the order of each account (M7).

    The order of an account is the order in which its events were released for reporting. A transaction is released when
    it is posted; of a halted contract when the halt is lifted: then its rows get the next places of the account, behind
    what was reported meanwhile. So one contract's days always arrive in their order, and a contract whose books do not
    balance holds up no other of its account.
    """

    async def backlog(self, *, account: str | None = None) -> tuple[Lag, ...]:
        """Accounts with pending or held events, by name."""

    async def claim(self, account: str, owner: str, *, now: datetime, seconds: float) -> bool:
        """Whether `owner` is the one to deliver for this account for the next `seconds`; claiming again prolongs.

        It saves two operators from sending the same; nothing rests on it. A claim that ends more than two lengths from
        now is not believed: a clock has jumped back. An account that the books do not know has nobody.
        """

    async def pending(self, account: str, limit: int) -> tuple[Event, ...]:
        """The first events that billing has not confirmed, in order, without those of halted contracts."""

    async def delivered(self, events: Sequence[Event]) -> None:
        """Billing has confirmed these."""

    async def announce(self, notices: Sequence[Notice], *, now: datetime) -> tuple[Notice, ...]:
        """Have billing hear of these, each id once for ever; those that are new."""

    async def halt(self, contract: str, why: str, *, now: datetime) -> None:
        """Report nothing more of this contract (a commitment's id); posting goes on. Halted already: nothing changes."""

    async def resume(self, contract: str) -> None:
        """Report again, beginning with what was held."""

    async def halts(self) -> tuple[Halt, ...]: ...


class Lots(Protocol):
    """What was bought by the token unit, and what is posted of it (ADR 0040). What `Agreements` says of moments holds here."""

    async def lots(self, *, account: str | None = None, reservation: ReservationName | None = None) -> tuple[Lot, ...]:
        """Lots that match everything given, by id; their cuts in the order in which they were recorded."""

    async def endless_reservations(self) -> tuple[ReservationName, ...]:
        """Those with a lot of which no end is on record, by name."""

    async def register_lots(self, given: Sequence[Lot]) -> tuple[Lot, ...]:
        """Have these lots in the books; what stands there afterwards, in the order given.

        What is not there is inserted. Of what is there a billing_start that is None is set, and cuts with new numbers are
        added: whoever comes second gets back what the first one wrote. A cut goes on record as not before the day after
        the lot's last posted one, whatever the clock says.
        """

    async def record_unit_prices(self, prices: Sequence[UnitPrice]) -> None:
        """Add the list prices that are not there: all the same but for `seen_at` is the same."""

    async def unit_prices(self, price_book: str) -> tuple[UnitPrice, ...]:
        """All list prices of token units of a price book that were ever seen."""

    async def due_lots(self, today: date, *, after: str = "", limit: int = PAGE) -> tuple[DueLot, ...]:
        """Lots with a day before `today` that is to be charged and is not, by id, at most `limit` of those behind `after`.
        Fewer than `limit`: there are no more."""

    async def posted_lots(self, names: Sequence[str]) -> tuple[PostedLot, ...]:
        """These lots with what is posted of them, computed from the rows; unknown ones are left out."""


class Ledger(Agreements, Postings, Lots, Invoices, Outbox, Protocol):
    """The books. One database a cluster; any number of operators."""


class SinkError(BooksError):
    """Billing has not confirmed. It may have taken some or all of the events: they are sent again, under the same ids.
    `taken`: so many of the first ones it has confirmed all the same."""

    taken = 0


class SinkUnavailable(SinkError):
    """Billing does not answer, or asks to wait: `retry_after` seconds if it said so, else with growing delay."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkRefused(SinkError):
    """Billing will not take these however often they are sent (4xx): a person has to look at either side."""

    retry_after = SLOWLY_SECONDS
    needs_somebody = True


class BillingSink(Protocol):
    async def deliver(self, events: Sequence[Event]) -> None:
        """Returns when billing has every one of these events, which are of one account and in its order. What billing
        already had under the same id counts. Raises SinkUnavailable or SinkRefused."""

"""A story as the operator lives through it: at every look it knows what was entered by then, and closes days."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from reserved_capacity.domain.billing.charges import plan_days
from reserved_capacity.domain.billing.contracts import Contract, Payment, PriceSighting, Reduction
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.billing.pricing import PriceHistory, renewed
from reserved_capacity.domain.orders import PriceEntry, list_price
from reserved_capacity.domain.terms import Term, midnight_after
from tests.money.stories import Entry, Story

TERMS = {90: Term.THREE_MONTHS, 365: Term.ONE_YEAR}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def day(number: int) -> date:
    return (_EPOCH + timedelta(days=number)).date()


@dataclass(slots=True)
class Books:
    """What the database would hold."""

    contracts: list[Contract]
    rows: list[Transaction] = field(default_factory=list)
    posted_through: date | None = None
    sightings: list[PriceSighting] = field(default_factory=list)
    provisioned: list[Interval] = field(default_factory=list)

    @property
    def history(self) -> PriceHistory:
        return PriceHistory(self.sightings)


def replayed(story: Story) -> Books:
    """The books after the last look. Raises AssertionError where a look did not post exactly the days that were due."""
    books = Books([_accepted(story)])
    entries = sorted(story.entries, key=lambda entry: entry.entered_at)
    last = -1
    for seconds in story.looks:
        now = moment(seconds)
        while entries and entries[0].entered_at <= seconds:
            books.sightings.append(_sighting(entries.pop(0), now))
        agreed = _reductions(story, before=last, now=seconds)
        if agreed:
            books.contracts = [replace(each, reductions=each.reductions + agreed) for each in books.contracts]
        last = seconds
        books.provisioned = _provisioned(story, seconds)
        _close(books, story, now)
    return books


def _close(books: Books, story: Story, now: datetime) -> None:
    today, history = now.date(), books.history
    while True:
        latest = books.contracts[-1]
        assert latest.end is not None
        if latest.end > today or len(books.contracts) == len(story.terms):
            break
        following = renewed(latest, history, term=TERMS[story.terms[len(books.contracts)]])
        if following is None:
            break
        books.contracts.append(following)
    for contract in books.contracts:
        rows = plan_days(
            contract, history, posted_through=books.posted_through, today=today, provisioned=books.provisioned
        )
        books.rows += rows
        if rows:
            books.posted_through = rows[-1].day


def _accepted(story: Story) -> Contract:
    at = moment(story.accepted_at)
    term = TERMS[story.terms[0]]
    known = [
        PriceEntry(TERMS[entry.term_days], day(entry.effective_day), Decimal(entry.price).scaleb(-2))
        for entry in story.entries
        if entry.entered_at <= story.accepted_at
    ]
    price = list_price(known, term, at.date())
    assert price is not None
    return Contract(
        commitment="po-1",
        number=1,
        account="acme",
        namespace="acme",
        pool="prod",
        price_book="usd",
        currency="USD",
        compute_units=story.compute_units,
        term=term,
        payment=Payment.ANNUAL_PREPAID if story.prepaid else Payment.MONTHLY,
        ordered_price=price,
        accepted_at=at,
        first_provisioned_at=moment(story.used_at),
        billing_start=midnight_after(moment(story.used_at)).date(),
    )


def _sighting(entry: Entry, now: datetime) -> PriceSighting:
    price = Decimal(entry.price).scaleb(-2)
    return PriceSighting("usd", TERMS[entry.term_days], day(entry.effective_day), price, now)


def _reductions(story: Story, *, before: int, now: int) -> tuple[Reduction, ...]:
    """Those that are seen for the first time. They go to all terms on record; a term to come gets what `renewed` gives it."""
    return tuple(
        Reduction(day(each.at_day), each.compute_units, moment(now))
        for each in story.amendments
        if before < each.entered_at <= now
    )


def _provisioned(story: Story, now: int) -> list[Interval]:
    """An interval is open until its end has been seen."""
    return [
        Interval(
            namespace="acme",
            pool="prod",
            kind=IntervalKind.PROVISIONED,
            subject="po-1",
            owner="po-1",
            compute_units=each.compute_units,
            since=moment(each.since),
            until=moment(each.until) if each.until <= now else None,
        )
        for each in story.stretches
        if each.since <= now
    ]

"""The daily close: the rows of a contract's ledger, day by day (behaviour.md M2, M3, C4, M6, I5).

What a row says follows from the contract, the prices seen and the day alone, so it does not matter when, how often or by
whom a day is closed (M5). The row of day D is due at 00:00 UTC of D+1.

The first row of an AnnualPrepaid term is its Prepayment; the charges draw it down. Whatever lowers the rest of the term is
credited at once, so that the last charge takes what is left: the term's prepaid account ends at exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import Final

from reserved_capacity.domain.billing.contracts import Contract, Payment
from reserved_capacity.domain.billing.intervals import DAY_MOMENTS, Interval, IntervalKind
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Posting, Transaction
from reserved_capacity.domain.billing.money import format_price, minor_ratio
from reserved_capacity.domain.billing.pricing import PriceHistory, Rate, rates
from reserved_capacity.domain.terms import Term, start_of

DAY: Final = timedelta(days=1)
PLANNED: Final = frozenset({EntryKind.CHARGE, EntryKind.SHORTFALL, EntryKind.PREPAYMENT, EntryKind.PRICE_CREDIT})
"""What `plan_days` writes. The rows of one day belong into one database transaction: the last day that has any is closed."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a term of so many days costs at one rate: numerator / denominator minor units a day.

    Day k of N costs T*k//N - T*(k-1)//N (M2), so the days sum to T. Kept as a fraction because a price may be finer than
    a minor unit: the division of a day is the only one that rounds.
    """

    rate: Rate
    price: str
    days: int
    numerator: int
    denominator: int

    @classmethod
    def priced(cls, rate: Rate, term: Term, currency: str) -> Tariff:
        numerator, denominator = minor_ratio(rate.price, currency)
        return cls(
            rate=rate,
            price=format_price(rate.price, currency),
            days=term.days,
            numerator=numerator * rate.compute_units * term.months,
            denominator=denominator * term.days,
        )

    @classmethod
    def of(cls, contract: Contract, rate: Rate) -> Tariff:
        return cls.priced(rate, contract.term, contract.currency)

    def through(self, days: int) -> int:
        """What the first so many days of the term cost at this rate, in minor units."""
        return self.numerator * days // self.denominator

    def of_day(self, number: int) -> int:
        """What day `number` of the term costs, the first being 1."""
        return self.through(number) - self.through(number - 1)

    def from_day(self, number: int) -> int:
        """What the rest of the term costs from day `number` on."""
        return self.through(self.days) - self.through(number - 1)


def plan_days(
    contract: Contract,
    history: PriceHistory,
    *,
    posted_through: date | None,
    today: date,
    provisioned: Sequence[Interval] = (),
) -> tuple[Transaction, ...]:
    """The rows that are due and not posted, in the order of their days: those after `posted_through` and before `today`.

    `posted_through` is the last day of this contract with a row of a PLANNED kind (a day of an earlier term will do).
    `provisioned` is the history of the commitment's CU, of which only what touches the days in question is needed.
    """
    steps = rates(contract, history)
    if contract.billing_start is None or contract.end is None or not steps:
        return ()
    first = contract.billing_start if posted_through is None else max(contract.billing_start, posted_through + DAY)
    last = min(today, contract.end) - DAY
    if first > last:
        return ()
    missing = missing_by_day(contract, steps, provisioned, first, last)
    return tuple(_walk(contract, steps, first, last, missing))


def next_due(contract: Contract, *, posted_through: date | None) -> datetime | None:
    """When the next row of a contract is due, be it past or to come; None when it has none to come.

    The end of the term is taken for the end of the rows: a contract that was reduced to nothing is looked at until then.
    """
    if contract.billing_start is None or contract.end is None:
        return None
    day = contract.billing_start if posted_through is None else max(contract.billing_start, posted_through + DAY)
    return start_of(day + DAY) if day < contract.end else None


def cost_of(contract: Contract, history: PriceHistory, first: date, end: date) -> int:
    """What the days in [first, end) cost that belong to the term, in minor units, posted or not."""
    if contract.billing_start is None or contract.end is None:
        return 0
    steps, total = rates(contract, history), 0
    for rate, following in zip_longest(steps, steps[1:]):
        since, until = max(first, rate.since), min(end, following.since if following else contract.end)
        if since < until:
            tariff = Tariff.of(contract, rate)
            before = (since - contract.billing_start).days
            total += tariff.through(before + (until - since).days) - tariff.through(before)
    return total


def charge_of(contract: Contract, history: PriceHistory, day: date) -> int:
    """What a UTC day costs, in minor units, posted or not; 0 outside the term."""
    return cost_of(contract, history, day, day + DAY)


def missing_by_day(
    contract: Contract, steps: Sequence[Rate], provisioned: Iterable[Interval], first: date, last: date
) -> Mapping[date, int]:
    """CU x MOMENT that were contracted and not provisioned, of the days first..last on which any were (C4); none of days
    on which there was no such pool, be it for a moment (M9)."""
    own = [
        each for each in provisioned if each.kind is IntervalKind.PROVISIONED and each.subject == contract.commitment
    ]
    missing: dict[date, int] = {}
    for interval in own:
        if interval.compute_units >= steps[0].compute_units:
            continue
        day = max(first, interval.since.astimezone(UTC).date())
        while day <= last and (interval.until is None or start_of(day) < interval.until):
            contracted = next((rate.compute_units for rate in reversed(steps) if rate.since <= day), 0)
            short = max(0, contracted - interval.compute_units)
            if short:
                covered = interval.moments_between(start_of(day), start_of(day + DAY))
                missing[day] = missing.get(day, 0) + short * covered
            day += DAY
    return {day: moments for day, moments in missing.items() if _is_known(own, day)}


def _is_known(own: Iterable[Interval], day: date) -> bool:
    """Whether the whole of a day is in the history: a pool that was away and came back begins with nothing (M9)."""
    start, end = start_of(day), start_of(day + DAY)
    return sum(each.moments_between(start, end) for each in own) >= DAY_MOMENTS


def shortfall_minor(charge_minor: int, compute_units: int, missing: int) -> int:
    """What a day with missing CU gives back: charge x missing / contracted CU-seconds, rounded up, never more than the
    charge (C4)."""
    contracted = compute_units * DAY_MOMENTS
    return min(charge_minor, -(-charge_minor * missing // contracted)) if contracted else 0


def correction(contract: Contract, day: date, amount_minor: int, note: str) -> Transaction:
    """What a person found to be wrong: a positive amount is owed on top, a negative one is given back (M4)."""
    book = Book.REVENUE if amount_minor > 0 else Book.CREDITS
    return _row(contract, day, EntryKind.CORRECTION, amount_minor, (Book.RECEIVABLE, book), None, note)


def _walk(
    contract: Contract, steps: tuple[Rate, ...], first: date, last: date, missing: Mapping[date, int]
) -> Iterator[Transaction]:
    """The rows of the days first..last, both inside the term."""
    prepaid = contract.payment is Payment.ANNUAL_PREPAID
    books = (Book.PREPAID if prepaid else Book.RECEIVABLE, Book.REVENUE)
    tariffs = [Tariff.of(contract, rate) for rate in steps]
    index = max(number for number, rate in enumerate(steps) if rate.since <= first)
    start = contract.billing_start or first
    for number in range((first - start).days + 1, (last - start).days + 2):
        day = start + timedelta(days=number - 1)
        if index + 1 < len(steps) and steps[index + 1].since <= day:
            index += 1
        tariff = tariffs[index]
        if prepaid and day == tariff.rate.since:
            yield from _prepaid(contract, tariffs[index - 1] if index else None, tariff, day, number)
        if not tariff.rate.compute_units:
            return
        amount = tariff.of_day(number)
        note = f"day {number} of {tariff.days}"
        yield _row(contract, day, EntryKind.CHARGE, amount, books, tariff, note)
        if day in missing:
            yield from _shortfall(contract, tariff, day, amount, missing[day])


def _prepaid(
    contract: Contract, before: Tariff | None, tariff: Tariff, day: date, number: int
) -> Iterator[Transaction]:
    """The whole term at its start; where the rate falls, what the rest of the term costs less (M3, M6)."""
    if before is None:
        amount = tariff.from_day(number)
        if amount:
            note = f"{tariff.days} days from {day}, paid in advance"
            books = (Book.RECEIVABLE, Book.PREPAID)
            yield _row(contract, day, EntryKind.PREPAYMENT, amount, books, tariff, note)
        return
    saved = before.from_day(number) - tariff.from_day(number)
    if saved:
        note = f"{_fall(before, tariff)} for the remaining {tariff.days - number + 1} of {tariff.days} days"
        yield _row(contract, day, EntryKind.PRICE_CREDIT, -saved, (Book.RECEIVABLE, Book.PREPAID), tariff, note)


def _fall(before: Tariff, tariff: Tariff) -> str:
    changes = []
    if before.price != tariff.price:
        changes.append(f"price from {before.price} to {tariff.price}")
    if before.rate.compute_units != tariff.rate.compute_units:
        changes.append(f"from {before.rate.compute_units} to {tariff.rate.compute_units} CU")
    return " and ".join(changes)


def _shortfall(contract: Contract, tariff: Tariff, day: date, charge_minor: int, missing: int) -> Iterator[Transaction]:
    credit = shortfall_minor(charge_minor, tariff.rate.compute_units, missing)
    if credit:
        hours = -(-missing * 24 // DAY_MOMENTS)
        note = f"{hours} of {tariff.rate.compute_units * 24} CU-hours not provisioned"
        yield _row(contract, day, EntryKind.SHORTFALL, -credit, (Book.RECEIVABLE, Book.CREDITS), tariff, note)


def _row(
    contract: Contract,
    day: date,
    kind: EntryKind,
    amount_minor: int,
    books: tuple[Book, Book],
    tariff: Tariff | None,
    note: str,
) -> Transaction:
    """The amount is debited to the first book and credited to the second; a negative one the other way round."""
    debit, credit = books
    return Transaction(
        contract=contract.commitment,
        account=contract.account,
        day=day,
        kind=kind,
        currency=contract.currency,
        amount_minor=amount_minor,
        postings=(Posting(debit, amount_minor), Posting(credit, -amount_minor)),
        compute_units=tariff.rate.compute_units if tariff else 0,
        price=tariff.price if tariff else "",
        note=note,
    )

"""What an order would cost before it is placed: its days, its amounts by month, what is asked for when (M2, M6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from reserved_capacity.domain.billing.charges import Tariff
from reserved_capacity.domain.billing.contracts import Payment
from reserved_capacity.domain.billing.months import Month, months_between
from reserved_capacity.domain.billing.pricing import Rate
from reserved_capacity.domain.terms import RENEWAL_NOTICE, Term


@dataclass(frozen=True, slots=True)
class Order:
    """What would be bought, at the list price of today."""

    compute_units: int
    term: Term
    payment: Payment
    price: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class MonthCost:
    """Days of the term in a UTC month, and what they cost."""

    month: Month
    days: int
    minor: int


@dataclass(frozen=True, slots=True)
class Due:
    """What an invoice asks for: that of a month, or of the start for what is prepaid."""

    issued: date
    minor: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """`per_day_minor` is rounded down: a day costs that or one minor unit more, so that the days sum to `total_minor`.

    `end` is the day after the last one; until `renewal_deadline` the renewal may be changed. The prices are today's: they
    can fall during the term, and never rise.
    """

    first_day: date
    last_day: date
    end: date
    renewal_deadline: date
    days: int
    per_day_minor: int
    total_minor: int
    months: tuple[MonthCost, ...]
    dues: tuple[Due, ...]


def estimate(order: Order, first_day: date) -> Estimate:
    """The cost of an order that is charged from a UTC day on, which is the one after its first use at the earliest (M1)."""
    term = order.term
    end = first_day + timedelta(days=term.days)
    tariff = Tariff.priced(Rate(first_day, order.compute_units, order.price), term, order.currency)
    months = tuple(_month(tariff, month, first_day, end) for month in months_between(first_day, end))
    return Estimate(
        first_day=first_day,
        last_day=end - timedelta(days=1),
        end=end,
        renewal_deadline=end - RENEWAL_NOTICE,
        days=term.days,
        per_day_minor=tariff.through(1),
        total_minor=tariff.through(term.days),
        months=months,
        dues=_dues(order, tariff, months, first_day),
    )


def _month(tariff: Tariff, month: Month, first_day: date, end: date) -> MonthCost:
    since, until = max(month.start, first_day), min(month.end, end)
    before, through = (since - first_day).days, (until - first_day).days
    return MonthCost(month, through - before, tariff.through(through) - tariff.through(before))


def _dues(order: Order, tariff: Tariff, months: tuple[MonthCost, ...], first_day: date) -> tuple[Due, ...]:
    """A monthly invoice is made 24 hours after the month; the one for a prepayment when the first day is over."""
    if order.payment is Payment.ANNUAL_PREPAID:
        return (Due(first_day + timedelta(days=1), tariff.through(order.term.days)),)
    return tuple(Due(each.month.end + timedelta(days=1), each.minor) for each in months)

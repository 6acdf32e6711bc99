"""The daily rows of a lot (behaviour.md T1, M2, M3, M5): one Charge for each UTC day from its first to its last.

As with commitments: what a row says follows from the lot, the prices seen and the day alone. Day k costs r*k//1 -
r*(k-1)//1 of the daily rate r, so a price that is finer than a minor unit loses nothing over the days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from reserved_capacity.domain.billing.audit import Finding, compare
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Posting, Transaction
from reserved_capacity.domain.billing.money import floor_minor, format_price
from reserved_capacity.domain.billing.posted import Posted
from reserved_capacity.domain.tokens.lots import Lot
from reserved_capacity.domain.tokens.prices import UnitPrices, price_on

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PostedLot:
    """A lot, and what of it stands in the books."""

    lot: Lot
    posted: Posted


@dataclass(frozen=True, slots=True)
class DueLot:
    """A lot with something to post. `posted_through`: the last day with a row of it."""

    lot: Lot
    posted_through: date | None


def plan_lot_days(lot: Lot, prices: UnitPrices, *, posted_through: date | None, today: date) -> tuple[Transaction, ...]:
    """The rows that are due and not posted: those of days after `posted_through` and before `today`."""
    return tuple(_charge(lot, prices, day) for day in _days_due(lot, posted_through, today))


def charged_days(lot: Lot, posted_through: date | None, today: date) -> tuple[date, ...]:
    """The days of which a row is due and not posted."""
    return tuple(_days_due(lot, posted_through, today))


def cost_of_day(lot: Lot, prices: UnitPrices, day: date) -> int:
    """What a UTC day costs in minor units, posted or not; 0 outside the lot's days."""
    if lot.billing_start is None or day < lot.billing_start or not lot.units_on(day):
        return 0
    return _amount(lot, price_on(lot, prices, day), day)


def audit_lot(
    lot: Lot, prices: UnitPrices, rows: Sequence[Transaction], *, through: date, since: date | None = None
) -> tuple[Finding, ...]:
    """What of a lot's rows is missing, too much or wrong; `rows` may be those from a day on only (`since`)."""
    last = max((row.day for row in rows if row.kind is EntryKind.CHARGE), default=through)
    before = since - DAY if since is not None else None
    expected = plan_lot_days(lot, prices, posted_through=before, today=max(last, through) + DAY)
    return compare({row.key: row for row in expected}, rows, through=through)


def _days_due(lot: Lot, posted_through: date | None, today: date) -> list[date]:
    start = lot.billing_start
    if start is None:
        return []
    day = start if posted_through is None else max(start, posted_through + DAY)
    end = today if lot.ends_on is None else min(today, lot.ends_on)
    return [day + timedelta(days=number) for number in range(max(0, (end - day).days))]


def _charge(lot: Lot, prices: UnitPrices, day: date) -> Transaction:
    price, units = price_on(lot, prices, day), lot.units_on(day)
    amount = _amount(lot, price, day)
    return Transaction(
        contract=lot.id,
        account=lot.account,
        day=day,
        kind=EntryKind.CHARGE,
        currency=lot.currency,
        amount_minor=amount,
        postings=(Posting(Book.RECEIVABLE, amount), Posting(Book.REVENUE, -amount)),
        price=format_price(price, lot.currency),
        note=f"{units} {lot.direction.lower()} token units of {lot.offering}",
        token_units=units,
    )


def _amount(lot: Lot, price: Decimal, day: date) -> int:
    units, days = lot.units_on(day), (day - (lot.billing_start or day)).days
    return floor_minor(price, units * (days + 1), lot.currency) - floor_minor(price, units * days, lot.currency)

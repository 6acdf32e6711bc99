"""What a unit of a lot costs on which UTC day (behaviour.md M3 and M8, for token units; ADR 0041).

A lot runs in periods as long as its minimum term. The first has the list price of the day of purchase, each that follows the
list price in force on its first day. Within a period a higher list price changes nothing, and a lower one counts from the
later of its date and the first midnight after the operator saw it: so no posted day is ever re-priced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from reserved_capacity.domain.terms import midnight_after
from reserved_capacity.domain.tokens.lots import Direction, Lot, day_of


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """A list price of a price book for a unit and day, and when the operator first saw it."""

    price_book: str
    offering: str
    direction: Direction
    effective_from: date
    per_unit_day: Decimal
    seen_at: datetime

    @property
    def known_from(self) -> date:
        return midnight_after(self.seen_at).date()


_Article = tuple[str, str, Direction]


class UnitPrices:
    """All list prices that were seen, by price book, offering and direction, the latest `effective_from` last."""

    def __init__(self, seen: Iterable[UnitPrice] = ()) -> None:
        grouped: dict[_Article, list[UnitPrice]] = {}
        for each in seen:
            grouped.setdefault((each.price_book, each.offering, each.direction), []).append(each)
        self._groups = {
            key: tuple(sorted(group, key=lambda each: (each.effective_from, each.seen_at, -each.per_unit_day)))
            for key, group in grouped.items()
        }

    def of(self, lot: Lot) -> tuple[UnitPrice, ...]:
        return self._groups.get((lot.price_book, lot.offering, lot.direction), ())

    def listed(self, lot: Lot, day: date) -> Decimal | None:
        """The list price in force on a UTC day, as far as it was known when the day began."""
        for each in reversed(self.of(lot)):
            if each.effective_from <= day and each.known_from <= day:
                return each.per_unit_day
        return None


def price_on(lot: Lot, prices: UnitPrices, day: date) -> Decimal:
    """The price of a unit of the lot on a UTC day, whether it has begun or not."""
    price, since = lot.ordered_price, day_of(lot.purchased_at)
    for start in (*_renewals(lot, day), None):
        until = day if start is None else start - timedelta(days=1)
        price = min((price, *_lower(lot, prices, since, until)))
        if start is not None:
            listed = prices.listed(lot, start)
            price, since = price if listed is None else listed, start
    return price


def _renewals(lot: Lot, day: date) -> Iterator[date]:
    """The first days of the periods after the first one, up to a day."""
    start = lot.removable_from
    while start is not None and start <= day:
        yield start
        start += timedelta(days=lot.minimum_days)


def _lower(lot: Lot, prices: UnitPrices, since: date, until: date) -> Iterator[Decimal]:
    """List prices that came into force after `since` and by `until`. They change on few days."""
    changes = {max(each.effective_from, each.known_from) for each in prices.of(lot)}
    for day in changes:
        listed = prices.listed(lot, day) if since < day <= until else None
        if listed is not None:
            yield listed

"""From the units that are wanted to lots that are bought and cut (behaviour.md T2).

More units are a new lot at once. Fewer take the oldest lots whose minimum term is over, from the next UTC midnight. Where
that is not enough, the reduction as a whole waits for the day on which it is: the units stay, the customer is told that
day, and then it is done by itself unless the units are put back before (ADR 0040).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from reserved_capacity.domain.terms import midnight_after
from reserved_capacity.domain.tokens.lots import Direction, Lot, LotCut, ReservationName, day_of, lot_id


@dataclass(frozen=True, slots=True)
class UnitTerms:
    """What a unit of one direction is bought for now: tokens per minute, list price of today."""

    unit_tpm: int
    price: Decimal


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who buys, of what, and for how long at least."""

    account: str
    reservation: ReservationName
    offering: str
    price_book: str
    currency: str
    minimum_days: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Units that are not wanted any more and are kept until a day: their minimum term is not over."""

    direction: Direction
    units: int
    until: date


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """`bought` and `cut` are the lots to write: new ones, and known ones with one cut more. `unpriced` are directions
    of which units are wanted and no price is in force: nothing of them is bought. `kept`: see Kept."""

    bought: tuple[Lot, ...] = ()
    cut: tuple[Lot, ...] = ()
    unpriced: tuple[Direction, ...] = ()


def plan_orders(
    wanted: Mapping[Direction, int],
    known: Sequence[Lot],
    buyer: Buyer,
    terms: Mapping[Direction, UnitTerms],
    now: datetime,
) -> OrderPlan:
    """`known` are all lots of the reservation that stand in the books, whoever bought them."""
    bought: list[Lot] = []
    cut: list[Lot] = []
    unpriced: list[Direction] = []
    for direction in Direction:
        own = [lot for lot in known if lot.direction is direction and lot.account == buyer.account]
        have = sum(lot.final_units for lot in own)
        more = wanted.get(direction, 0) - have
        if more < 0:
            cut += _reduced(own, -more, now)
        elif more > 0:
            restored, left = _restored(own, more, now)
            cut += restored
            if left and direction in terms:
                numbers = [lot.number for lot in known if lot.direction is direction]
                bought.append(_lot(buyer, direction, max(numbers, default=0) + 1, left, terms[direction], now))
            elif left:
                unpriced.append(direction)
    return OrderPlan(tuple(bought), tuple(cut), tuple(unpriced))


def plan_end(known: Sequence[Lot], now: datetime) -> tuple[Lot, ...]:
    """The lots to cut when the reservation is gone: each ends at the next midnight, or with its minimum term (T2)."""
    return tuple(
        _with_cut(lot, _earliest(lot, now), 0, now)
        for lot in sorted(known, key=lambda lot: lot.order)
        if lot.final_units
    )


def kept_units(known: Sequence[Lot], now: datetime) -> tuple[Kept, ...]:
    """By direction, what of a reduction has to wait for the end of a minimum term, and until when."""
    today, found = day_of(now), []
    for direction in Direction:
        waiting = [
            lot
            for lot in known
            if lot.direction is direction and not lot.is_removable(now) and lot.units_on(today) > lot.final_units
        ]
        if waiting:
            units = sum(lot.units_on(today) - lot.final_units for lot in waiting)
            until = max(cut.at for lot in waiting for cut in lot.cuts if cut.at > today)
            found.append(Kept(direction, units, until))
    return tuple(found)


def next_change(known: Sequence[Lot], now: datetime) -> date | None:
    """The next UTC day on which units end, or a minimum term does."""
    today = day_of(now)
    days = [cut.at for lot in known for cut in lot.cuts]
    days += [lot.removable_from for lot in known if lot.removable_from is not None]
    return min((day for day in days if day > today), default=None)


def _lot(buyer: Buyer, direction: Direction, number: int, units: int, terms: UnitTerms, now: datetime) -> Lot:
    return Lot(
        id=lot_id(buyer.reservation, direction, number),
        number=number,
        direction=direction,
        account=buyer.account,
        reservation=buyer.reservation,
        offering=buyer.offering,
        price_book=buyer.price_book,
        currency=buyer.currency,
        units=units,
        unit_tpm=terms.unit_tpm,
        minimum_days=buyer.minimum_days,
        ordered_price=terms.price,
        purchased_at=now,
    )


def _reduced(own: Sequence[Lot], fewer: int, now: datetime) -> Iterator[Lot]:
    """What was never backed goes first, and at once; then the oldest lots, all of them on one day."""
    today = day_of(now)
    idle = [lot for lot in own if lot.final_units and lot.billing_start is None]
    for lot, units in _taken(sorted(idle, key=lambda lot: lot.order, reverse=True), fewer):
        yield _with_cut(lot, today, lot.final_units - units, now)
        fewer -= units
    begun = [lot for lot in own if lot.final_units and lot.billing_start is not None]
    begun.sort(key=lambda lot: (not lot.is_removable(now), lot.removable_from or date.max, lot.order))
    taken = list(_taken(begun, fewer))
    at = max((_earliest(lot, now) for lot, _ in taken), default=today)
    for lot, units in taken:
        yield _with_cut(lot, at, lot.final_units - units, now)


def _earliest(lot: Lot, now: datetime) -> date:
    """The first day on which units of a lot may be gone, if that is asked for now."""
    if lot.removable_from is None:
        return day_of(now)
    return max(midnight_after(now).date(), lot.removable_from)


def _taken(lots: Sequence[Lot], units: int) -> Iterator[tuple[Lot, int]]:
    for lot in lots:
        taken = min(units, lot.final_units)
        if taken:
            yield lot, taken
        units -= taken


def _restored(own: Sequence[Lot], more: int, now: datetime) -> tuple[list[Lot], int]:
    """Cuts that have not come are taken back, the newest lot's first; and how many units are still wanted."""
    today, found = day_of(now), []
    for lot in sorted(own, key=lambda lot: lot.order, reverse=True):
        back = min(more, lot.units_on(today) - lot.final_units)
        units = lot.final_units + back
        # Units only fall: before the first day with fewer than that there are enough.
        day = min((cut.at for cut in lot.cuts if cut.at > today and lot.units_on(cut.at) < units), default=None)
        if day is not None:
            found.append(_with_cut(lot, day, units, now))
            more -= back
    return found, more


def _with_cut(lot: Lot, at: date, units: int, now: datetime) -> Lot:
    number = lot.cuts[-1].number + 1 if lot.cuts else 1
    return replace(lot, cuts=(*lot.cuts, LotCut(number, at, units, now)))

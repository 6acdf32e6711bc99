"""A lot: token units of one direction that were bought together (behaviour.md T1, T2; seed: Scale Tier).

What a lot has on a day follows from what was bought and from its cuts, in the order in which these were recorded. A cut that
has not come yet can be taken back by another one; one that has come stays, and more units are another lot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from reserved_capacity.domain.billing.ledger import LOT_PREFIX
from reserved_capacity.domain.terms import midnight_after, start_of

_NAME_LENGTH: Final = 28
_HASH_LENGTH: Final = 10


class Direction(StrEnum):
    """What a token unit counts."""

    INPUT = "Input"
    OUTPUT = "Output"


@dataclass(frozen=True, slots=True, order=True)
class ReservationName:
    """Where a TokenUnitReservation stands, or stood: its lots outlive it (T2)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class LotCut:
    """From 00:00 UTC of `at` on, a lot has so many units. `number` counts the cuts of a lot: of two that hold on a day, the
    one that was recorded later counts."""

    number: int
    at: date
    units: int
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Lot:
    """`units` as bought, each of `unit_tpm` tokens per minute, at `ordered_price` a unit and day: what an offering says of
    later units changes nothing of it. `billing_start` is the first charged UTC day, None until the lot is backed and
    published; then it never changes.
    """

    id: str
    number: int
    direction: Direction
    account: str
    reservation: ReservationName
    offering: str
    price_book: str
    currency: str
    units: int
    unit_tpm: int
    minimum_days: int
    ordered_price: Decimal
    purchased_at: datetime
    billing_start: date | None = None
    cuts: tuple[LotCut, ...] = ()

    @property
    def order(self) -> tuple[datetime, int, str]:
        """Oldest first."""
        return (self.purchased_at, self.number, self.id)

    @property
    def removable_from(self) -> date | None:
        """The day after the minimum term (T1); None while that has not begun."""
        return self.billing_start + timedelta(days=self.minimum_days) if self.billing_start is not None else None

    def is_removable(self, now: datetime) -> bool:
        """Is the minimum term over? What was never backed has none: nothing of it was delivered or charged."""
        return self.removable_from is None or start_of(self.removable_from) <= now

    def units_on(self, day: date) -> int:
        return next((cut.units for cut in reversed(self.cuts) if cut.at <= day), self.units)

    @property
    def final_units(self) -> int:
        """Units when all cuts have come."""
        return self.cuts[-1].units if self.cuts else self.units

    @property
    def ends_on(self) -> date | None:
        """The first day without any unit, as it stands; None: no end is known."""
        days = sorted({cut.at for cut in self.cuts})
        return next((day for day in days if not any(self.units_on(each) for each in days if each >= day)), None)

    def is_over(self, day: date) -> bool:
        return self.ends_on is not None and self.ends_on <= day


def lot_id(reservation: ReservationName, direction: Direction, number: int) -> str:
    """Unique in the cluster, the same whoever makes it, and no commitment's: the order desk's references have no colon."""
    digest = hashlib.sha256(f"{reservation}/{direction}".encode()).hexdigest()[:_HASH_LENGTH]
    short = "in" if direction is Direction.INPUT else "out"
    name = reservation.name[:_NAME_LENGTH].rstrip("-.")
    return f"{LOT_PREFIX}{name}-{short}-{number}-{digest}"


def billing_start(in_force_at: datetime) -> date:
    """Charged from the UTC day after it was first backed and published (T1)."""
    return midnight_after(in_force_at).date()


def units_of(lots: Iterable[Lot], direction: Direction, day: date) -> int:
    return sum(lot.units_on(day) for lot in lots if lot.direction is direction)


def day_of(moment: datetime) -> date:
    return moment.astimezone(UTC).date()

"""Owns what an account may use of an offering (behaviour.md T3): base, bought units, and what one bucket of both holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reserved_capacity.domain.tokens.entitlement import TokenRate, total
from reserved_capacity.domain.tokens.lots import ReservationName

EVERYBODY: Final = "*"


class Overflow(StrEnum):
    """What happens to traffic above the bought units."""

    SPILL = "Spill"
    REJECT = "Reject"


class Enforcement(StrEnum):
    """Whether the gateway acts on the limit."""

    ENFORCE = "Enforce"
    SHADOW = "Shadow"


@dataclass(frozen=True, slots=True)
class ActiveUnits:
    """What a reservation adds now, and the snapshot that serves it."""

    account: str
    reservation: ReservationName
    snapshot: str
    rate: TokenRate
    overflow: Overflow
    enforcement: Enforcement


@dataclass(frozen=True, slots=True)
class AccountLimit:
    """`effective` = base + all active units. `enforcement` Shadow: all units are, so nothing is refused."""

    account: str
    base: TokenRate
    units: tuple[ActiveUnits, ...] = ()

    @property
    def added(self) -> TokenRate:
        return total(each.rate for each in self.units)

    @property
    def effective(self) -> TokenRate:
        return self.base + self.added

    @property
    def spills(self) -> bool:
        """Of several reservations one that may spill is enough."""
        return any(each.overflow is Overflow.SPILL for each in self.units)

    @property
    def limit(self) -> TokenRate:
        """What one bucket for a direction holds: all of it, or the units alone where none may spill. In a direction of
        which nothing was bought there is nothing that could reject, so the base counts there (ADR 0050)."""
        if self.spills or not self.units:
            return self.effective
        added = self.added
        return TokenRate(added.input_tpm or self.base.input_tpm, added.output_tpm or self.base.output_tpm)

    @property
    def enforcement(self) -> Enforcement:
        shadow = self.units and all(each.enforcement is Enforcement.SHADOW for each in self.units)
        return Enforcement.SHADOW if shadow else Enforcement.ENFORCE


def base_of(bases: Mapping[str, TokenRate], account: str) -> TokenRate:
    """An account that is not listed has the base of everybody; without that, none."""
    return bases.get(account, bases.get(EVERYBODY, TokenRate()))


def account_limits(bases: Mapping[str, TokenRate], active: Iterable[ActiveUnits]) -> tuple[AccountLimit, ...]:
    """Of every account that has a base of its own or active units, and of everybody else, by name."""
    units: dict[str, list[ActiveUnits]] = {}
    for each in active:
        units.setdefault(each.account, []).append(each)
    return tuple(
        AccountLimit(account, base_of(bases, account), _ordered(units.get(account, ())))
        for account in sorted({*bases, *units})
    )


def _ordered(units: Iterable[ActiveUnits]) -> tuple[ActiveUnits, ...]:
    return tuple(sorted(units, key=lambda each: (each.reservation, each.snapshot)))

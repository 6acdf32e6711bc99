"""The rate limits of an offering, as any gateway may read them (behaviour.md T3; api.md, Keys; docs/token-limits.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

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
    """`effective` = base + all active units. `limit` is what one bucket for account and direction holds: all of it, or the
    units alone where all of them are of the kind Reject. `enforcement` Shadow: all units are, so nothing is refused."""

    account: str
    base: TokenRate
    units: tuple[ActiveUnits, ...]

    @property
    def added(self) -> TokenRate:
        return total(each.rate for each in self.units)

    @property
    def effective(self) -> TokenRate:
        return self.base + self.added

    @property
    def limit(self) -> TokenRate:
        rejects = self.units and all(each.overflow is Overflow.REJECT for each in self.units)
        return self.added if rejects else self.effective

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


def limits_document(limits: Sequence[AccountLimit]) -> list[dict[str, Any]]:
    """`limits.json`: the same limits are the same document."""
    return [
        {
            "account": each.account,
            "base": rate_document(each.base),
            "units": [
                {
                    "reservation": str(unit.reservation),
                    "snapshot": unit.snapshot,
                    **rate_document(unit.rate),
                    "overflow": str(unit.overflow),
                    "enforcement": str(unit.enforcement),
                }
                for unit in each.units
            ],
            "effective": rate_document(each.effective),
            "limit": {**rate_document(each.limit), "enforcement": str(each.enforcement)},
        }
        for each in limits
    ]


def rate_document(rate: TokenRate) -> dict[str, int]:
    return {"inputTokensPerMinute": rate.input_tpm, "outputTokensPerMinute": rate.output_tpm}

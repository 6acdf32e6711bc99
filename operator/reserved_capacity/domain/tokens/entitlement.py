"""What lots entitle to, and the rate limit of an account with it (behaviour.md T1, T3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from reserved_capacity.domain.tokens.lots import Direction, Lot


@dataclass(frozen=True, slots=True)
class TokenRate:
    """Tokens per minute by direction."""

    input_tpm: int = 0
    output_tpm: int = 0

    @classmethod
    def of(cls, direction: Direction, tpm: int) -> TokenRate:
        return cls(input_tpm=tpm) if direction is Direction.INPUT else cls(output_tpm=tpm)

    def __add__(self, other: TokenRate) -> TokenRate:
        return TokenRate(self.input_tpm + other.input_tpm, self.output_tpm + other.output_tpm)

    def __sub__(self, other: TokenRate) -> TokenRate:
        return TokenRate(self.input_tpm - other.input_tpm, self.output_tpm - other.output_tpm)

    def times(self, number: int) -> TokenRate:
        return TokenRate(self.input_tpm * number, self.output_tpm * number)

    def fits(self, room: TokenRate) -> bool:
        return self.input_tpm <= room.input_tpm and self.output_tpm <= room.output_tpm


def entitlement_of(lots: Iterable[Lot], day: date) -> TokenRate:
    """Units x size of a unit, of all lots on a UTC day."""
    return total(TokenRate.of(lot.direction, lot.units_on(day) * lot.unit_tpm) for lot in lots)


def total(rates: Iterable[TokenRate]) -> TokenRate:
    return sum(rates, TokenRate())

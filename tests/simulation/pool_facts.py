"""Owns what the judge counts of one pool."""

from __future__ import annotations

from dataclasses import dataclass, field

from reserved_capacity.ports import JsonObject
from tests.simulation.facts import Held, lent_to, rollouts_of


@dataclass(slots=True)
class PoolFacts:
    """`free`: blocks on usable nodes that the pool claims and nobody holds; `vanished`: claims on GPUs that are lost."""

    body: JsonObject
    holdings: tuple[Held, ...]
    contracted: int
    lasting: int
    claimed: dict[str, int] = field(default_factory=dict)
    free: dict[str, int] = field(default_factory=dict)
    vanished: int = 0

    @property
    def room(self) -> int:
        return self.lasting - sum(each.blocks for each in self.holdings)

    def of(self, instance: str) -> list[Held]:
        return [each for each in self.holdings if each.instance == instance and not each.releasing]

    @property
    def promised(self) -> int:
        """Blocks kept for the next members of surges that are under way (S2)."""
        return sum(each.places for each in rollouts_of(self.body) if each.moving and each.strategy == "Surge")

    @property
    def lent(self) -> int:
        return lent_to(self.body)

    @property
    def releasing(self) -> bool:
        return any(each.releasing for each in self.holdings)

"""How a node that has failed or is being emptied is left: what is claimed in its place, and when (behaviour.md N2, N3).

Nothing is stored: a pool that has more blocks claimed than contracted has replacements, and these cover the nodes that
it is leaving, in order. So a crash, or a node that comes back half-way, is decided anew from the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class ReplacementStrategy(StrEnum):
    """How members leave a node that is being emptied (cordoned). On one that has failed there is nothing left to stop."""

    REPLACE_FIRST = "ReplaceFirst"
    TERMINATE_FIRST = "TerminateFirst"


@dataclass(frozen=True, slots=True)
class NodeReplacement:
    """A pool's choice. At most so many of its nodes are under replacement at once."""

    strategy: ReplacementStrategy = ReplacementStrategy.REPLACE_FIRST
    max_unavailable_nodes: int = 1

    @property
    def terminates_first(self) -> bool:
        return self.strategy is ReplacementStrategy.TERMINATE_FIRST


@dataclass(frozen=True, slots=True)
class LeavingNode:
    """A node that a pool is leaving: its blocks there, and those that members still hold and are not giving back."""

    name: str
    blocks: int
    held: int
    failed: bool

    @property
    def order(self) -> tuple[bool, str]:
        """Failed nodes before cordoned ones: their members serve no more."""
        return (not self.failed, self.name)


def coverage(leaving: Sequence[LeavingNode], excess: int) -> dict[str, int]:
    """For each node, how many of its blocks are claimed elsewhere already; `excess` are blocks beyond the contract."""
    covered = {}
    for node in sorted(leaving, key=lambda node: node.order):
        covered[node.name] = min(node.blocks, max(0, excess))
        excess -= covered[node.name]
    return covered


def next_replacement(leaving: Sequence[LeavingNode], covered: Mapping[str, int], at_once: int = 1) -> int:
    """Blocks to claim now: what the next nodes lack. A node counts for as long as somebody is held there, also when its
    blocks are claimed elsewhere; so members leave `at_once` nodes at a time, and no more (N2)."""
    missing = under_way = 0
    for node in sorted(leaving, key=lambda node: node.order):
        if under_way == at_once:
            break
        missing += node.blocks - covered[node.name]
        under_way += bool(node.held)
    return missing

"""Which blocks are claimed in place of a node that has failed or is being emptied (behaviour.md N2, N3).

Nothing is stored: a pool that has more blocks claimed than contracted has replacements, and these cover the nodes that
it is leaving, in order. So a crash, or a node that comes back half-way, is decided anew from the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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


def next_replacement(leaving: Sequence[LeavingNode], covered: Mapping[str, int]) -> int:
    """Blocks to claim now: what the next node lacks, and only once nobody is held on those that are covered (N2)."""
    for node in sorted(leaving, key=lambda node: node.order):
        if covered[node.name] < node.blocks:
            return node.blocks - covered[node.name]
        if node.held:
            return 0
    return 0

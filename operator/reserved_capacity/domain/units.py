"""Compute units, blocks and GPUs: the arithmetic between them (behaviour.md C1).

A block is 100 compute units (CU), the smallest thing that is sold, claimed or held. Sums are always recomputed from
lists of claims and holdings, never counted by increments.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_CU = 100


def blocks_of(compute_units: int) -> int:
    """Blocks in an amount of CU that is a whole number of blocks; raises ValueError for any other amount."""
    blocks, rest = divmod(compute_units, BLOCK_CU)
    if rest or compute_units < 0:
        raise ValueError(f"{compute_units} CU is not a whole number of blocks of {BLOCK_CU} CU")
    return blocks


def cu_of(blocks: int) -> int:
    """CU of so many blocks."""
    return blocks * BLOCK_CU


@dataclass(frozen=True, slots=True)
class NodeShape:
    """How the nodes of one AcceleratorClass divide into blocks; the CRD guarantees that a block comes out whole."""

    gpus_per_node: int
    compute_units_per_node: int

    @property
    def gpus_per_block(self) -> int:
        return self.gpus_per_node * BLOCK_CU // self.compute_units_per_node

    def blocks_in(self, allocatable_gpus: int) -> int:
        """Blocks that a node offers: a node with fewer GPUs has fewer, one with more has no more than was agreed."""
        return min(allocatable_gpus // self.gpus_per_block, blocks_of(self.compute_units_per_node))

    def blocks_used_by(self, gpus: int) -> int:
        """Blocks that so many GPUs spoil: a block with one GPU in foreign hands cannot be sold (C11)."""
        return -(-gpus // self.gpus_per_block)

"""What a node is worth: ready, cordoned, failed (behaviour.md N1), and the claims that it carries (C2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, order=True)
class PoolId:
    """One incarnation of a ComputeUnitPool: a pool that is made again under its name has another uid."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """So many blocks of one node, given to one pool. Counts, not GPU indices: blocks of a node are alike."""

    pool: PoolId
    blocks: int


@dataclass(frozen=True, slots=True)
class InventoryNode:
    """One node of an AcceleratorClass. `foreign_blocks` are spoilt by GPU requests of pods that are not ours (C11)."""

    name: str
    zone: str
    blocks: int
    ready: bool
    cordoned: bool
    failed: bool
    claims: tuple[Claim, ...] = ()
    foreign_blocks: int = 0
    not_ready_since: datetime | None = None

    @property
    def claimed_blocks(self) -> int:
        return sum(claim.blocks for claim in self.claims)

    @property
    def free_blocks(self) -> int:
        return max(0, self.blocks - self.claimed_blocks - self.foreign_blocks)

    @property
    def usable(self) -> bool:
        """May new members be placed, or new blocks be claimed here?"""
        return self.ready and not self.cordoned and not self.failed

    def claimed_by(self, pool: PoolId) -> int:
        return sum(claim.blocks for claim in self.claims if claim.pool == pool)


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """A condition of a Node object, as far as repair rules look at it."""

    type: str
    status: str
    since: datetime


@dataclass(frozen=True, slots=True)
class RepairRule:
    """`spec.repair` of an AcceleratorClass: a node counts as failed when its condition has held for `after`."""

    condition_type: str
    status: str
    after: timedelta


def failure_time(conditions: Sequence[NodeCondition], rules: Sequence[RepairRule]) -> datetime | None:
    """When the first repair rule runs, or ran, out for a node in these conditions; None while none applies (N1)."""
    times = [
        condition.since + rule.after
        for rule in rules
        for condition in conditions
        if condition.type == rule.condition_type and condition.status == rule.status
    ]
    return min(times, default=None)


def has_failed(
    conditions: Sequence[NodeCondition], rules: Sequence[RepairRule], *, members_gone: bool, now: datetime
) -> bool:
    """N1: the rule's time is over *and* the members' pods on the node are terminating or gone."""
    at = failure_time(conditions, rules)
    return at is not None and at <= now and members_gone

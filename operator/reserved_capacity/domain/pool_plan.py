"""One pass over a pool, pure: may its order be accepted, what may its instances have, who holds which blocks.

The reconciler carries the plan out and the kubectl plugin shows it before anything is applied; both call this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .admission import plan_holdings
from .eligibility import InstanceFacts, OfferingFacts, PoolFacts, Verdict, judge
from .holdings import Holding, HoldingsPlan, PoolNode, PoolState
from .orders import OrderFacts, OrderVerdict, judge_order
from .terms import CommitmentRecord, Placement, next_moment, plan_commitments
from .units import blocks_of, cu_of


@dataclass(frozen=True, slots=True)
class PoolWorld:
    """Everything that the plan of one pool looks at.

    `members` are names of StatefulSets that exist, `gone` members of Releasing holdings that are confirmed gone,
    `available` members that serve.
    """

    name: str
    order: OrderFacts
    records: tuple[CommitmentRecord, ...]
    placements: Sequence[Placement]
    offerings: Mapping[str, OfferingFacts]
    instances: tuple[InstanceFacts, ...]
    nodes: tuple[PoolNode, ...]
    holdings: tuple[Holding, ...]
    members: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    available: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What the pool's status shall say, and what its instances are told."""

    order: OrderVerdict
    records: tuple[CommitmentRecord, ...]
    verdicts: Mapping[str, Verdict]
    holdings: HoldingsPlan
    next_moment: datetime | None

    @property
    def contracted_cu(self) -> int:
        """CU of all accepted commitments that have not ended."""
        return sum(record.compute_units for record in self.records if not record.ended)


def plan_pool(world: PoolWorld, *, now: datetime) -> PoolPlan:
    order = judge_order(world.order, today=now.date())
    records = plan_commitments(
        world.order.orders,
        world.records,
        acceptable=frozenset(order.acceptable),
        provisioned_cu=cu_of(sum(node.blocks for node in world.nodes)),
        placements=world.placements,
        now=now,
    )
    contracted = sum(record.compute_units for record in records if not record.ended)
    pool = PoolFacts(world.name, world.order.accelerator_class, contracted)
    verdicts = judge(pool, world.offerings, world.instances, now=now)
    holdings = plan_holdings(
        PoolState(
            contracted_blocks=blocks_of(contracted),
            nodes=world.nodes,
            holdings=world.holdings,
            demands=tuple(verdict.demand for verdict in verdicts.values()),
            gone=world.gone,
            taken=world.members,
            available=world.available,
        ),
        now=now,
    )
    return PoolPlan(order, records, verdicts, holdings, _next_moment(world, records, now))


def _next_moment(world: PoolWorld, records: Sequence[CommitmentRecord], now: datetime) -> datetime | None:
    """When the plan changes by itself: a date of a commitment, or a snapshot that retires."""
    retirements = [snapshot.retires_at for each in world.offerings.values() for snapshot in each.snapshots.values()]
    moments = (next_moment(records, world.order.orders, now), *retirements)
    return min((at for at in moments if at is not None and at > now), default=None)

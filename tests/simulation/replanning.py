"""I7: the same world gives the same plan. While a simulation runs, every few plans are made again from the same world
told in another order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

from reserved_capacity.domain.claims import ClaimDemand, ClaimPlan
from reserved_capacity.domain.nodes import InventoryNode
from reserved_capacity.domain.pool_plan import PoolPlan, PoolWorld
from reserved_capacity.reconcilers import capacity, pool

_EVERY = 4


@contextlib.contextmanager
def replanning(found: Callable[[str, str], None]) -> Iterator[None]:
    """`found(message, invariant)` is told when a plan depends on the order of things."""
    plan_claims: Callable[..., ClaimPlan] = vars(capacity)["plan_claims"]
    plan_pool: Callable[..., PoolPlan] = vars(pool)["plan_pool"]
    made = 0

    def due() -> bool:
        nonlocal made
        made += 1
        return made % _EVERY == 0

    def claims(nodes: Sequence[InventoryNode], demands: Sequence[ClaimDemand], **options: Any) -> ClaimPlan:
        plan = plan_claims(nodes, demands, **options)
        if due() and plan_claims(nodes[::-1], demands[::-1], **options) != plan:
            found("claims depend on the order of nodes or pools", "I7")
        return plan

    def holdings(world: PoolWorld, **options: Any) -> PoolPlan:
        plan = plan_pool(world, **options)
        if due():
            told_backwards = replace(
                world,
                instances=world.instances[::-1],
                nodes=world.nodes[::-1],
                holdings=world.holdings[::-1],
                rollouts=world.rollouts[::-1],
                rollout_specs=world.rollout_specs[::-1],
            )
            again = plan_pool(told_backwards, **options)
            if (again.holdings.holdings, again.holdings.waits) != (plan.holdings.holdings, plan.holdings.waits):
                found("holdings depend on the order of instances, nodes or holdings", "I7")
            if again.rollouts.records != plan.rollouts.records:
                found("rollouts depend on the order of instances, nodes, holdings or rollouts", "I7")
        return plan

    with mock.patch.object(capacity, "plan_claims", claims), mock.patch.object(pool, "plan_pool", holdings):
        yield

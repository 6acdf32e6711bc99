"""The planners of capacity at the sizes of the goal: 80,000 blocks, 20,000 members, a pool of 1,000.

    python -m tests.performance.bench_planner --json out.json

Pure functions, so CPU time of this process is what counts; the median of several runs, and the fastest and slowest, so
that it is to be seen how far neighbours on the machine disturbed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.claims import ClaimDemand, ClaimPlan, plan_claims
from reserved_capacity.domain.eligibility import InstanceFacts, OfferingFacts, PoolFacts, SnapshotFacts, judge
from reserved_capacity.domain.holdings import Demand, HoldingsPlan, HoldingState, PoolNode, PoolState, Request
from reserved_capacity.domain.nodes import InventoryNode, PoolId

NOW = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
BLOCKS_PER_NODE = 8
NODES = 10_000
MEMBERS = 1_000
POOLS = 20


@dataclass(frozen=True, slots=True)
class Case:
    """`goal_ms` None: no goal of its own, it explains another."""

    name: str
    run: Callable[[], object]
    goal_ms: float | None


# ----------------------------------------------------------------------------------------------------------- the worlds


def inventory() -> list[InventoryNode]:
    return [
        InventoryNode(f"gpu-{index:05}", f"z{index % 3}", BLOCKS_PER_NODE, ready=True, cordoned=False, failed=False)
        for index in range(NODES)
    ]


def owed(pools: int) -> list[ClaimDemand]:
    """All blocks but a tenth, in equal parts."""
    blocks = NODES * BLOCKS_PER_NODE * 9 // 10 // pools
    return [
        ClaimDemand(PoolId(f"team-{index:04}", "prod", f"uid-{index:04}"), blocks, NOW + timedelta(seconds=index))
        for index in range(pools)
    ]


def claimed(nodes: list[InventoryNode], plan: ClaimPlan) -> list[InventoryNode]:
    """The world once the plan is carried out."""
    claims = {change.node: change.claims for change in plan.changes}
    return [replace(node, claims=claims.get(node.name, node.claims)) for node in nodes]


def holed(nodes: list[InventoryNode], demands: list[ClaimDemand]) -> tuple[list[InventoryNode], list[ClaimDemand]]:
    """Of every claim all blocks but one are held; 100 instances of the first pool want two blocks of one node."""
    held = [
        {node.name: claim.blocks - 1 for node in nodes for claim in node.claims if claim.pool == each.pool}
        for each in demands[:1]
    ]
    wanted = (Request(2),) * 100
    return nodes, [replace(demands[0], held=held[0], staying=held[0], wanted=wanted), *demands[1:]]


def pool(members: int, spare_blocks: int = BLOCKS_PER_NODE) -> PoolState:
    """Instances of one block each on whole nodes, nothing held yet; a few blocks more than they need."""
    blocks = members + spare_blocks
    nodes = tuple(
        PoolNode(f"gpu-{index:05}", BLOCKS_PER_NODE, usable=True) for index in range(-(-blocks // BLOCKS_PER_NODE))
    )
    return PoolState(blocks, nodes, (), tuple(demand(index) for index in range(members)))


def demand(index: int, desired: int = 1) -> Demand:
    created = NOW + timedelta(seconds=index)
    return Demand(f"chat-{index:05}", f"uid-{index:05}", "gpt-3.5-turbo", 1, 1, desired, 0, created)


def granted(state: PoolState) -> PoolState:
    """The pool once its plan is on record and carried out."""
    plan = plan_holdings(state, now=NOW)
    assert not plan.waits
    members = frozenset(holding.member for holding in plan.holdings)
    return replace(state, holdings=plan.holdings, taken=members, available=members)


def crowded(state: PoolState, waiting: int) -> PoolState:
    """So many more instances than the pool has room for."""
    more = tuple(demand(len(state.demands) + index) for index in range(waiting))
    return replace(state, contracted_blocks=len(state.holdings), demands=state.demands + more)


def unprovisioned(members: int, minimum: int) -> PoolState:
    """Everything is ordered, and nothing has been claimed yet."""
    demands = tuple(replace(demand(index), min_instances=minimum) for index in range(members))
    return PoolState(members, (), (), demands)


def fragmented(members: int, waiting: int) -> PoolState:
    """Each node has one block that is free; so many instances want three of one node, which no move of one mends."""
    state = granted(pool(members * 7 // 8, members // 8))
    nodes = tuple(PoolNode(f"gpu-{index:05}", 8, usable=True) for index in range(members // 8))
    spread = tuple(replace(each, nodes=(f"gpu-{index // 7:05}",)) for index, each in enumerate(state.holdings))
    large = tuple(replace(demand(members + index), blocks_per_instance=3) for index in range(waiting))
    return replace(state, nodes=nodes, holdings=spread, contracted_blocks=members, demands=state.demands + large)


def one_more(state: PoolState) -> PoolState:
    return replace(state, demands=(*state.demands, demand(len(state.demands))))


def one_less(state: PoolState) -> PoolState:
    return replace(state, demands=(replace(state.demands[0], desired=0), *state.demands[1:]))


def one_gone(state: PoolState) -> PoolState:
    first, *rest = state.holdings
    released = (replace(first, state=HoldingState.RELEASING), *rest)
    return replace(one_less(state), holdings=released, gone=frozenset({first.member}))


def judged(members: int) -> Callable[[], object]:
    facts = PoolFacts("prod", "h100-8", members * 100)
    snapshots = {"gpt-3.5-turbo-0125": SnapshotFacts()}
    offering = OfferingFacts(
        name="gpt-3.5-turbo",
        sold_reserved=True,
        compute_units_per_instance=100,
        min_instances=1,
        nodes_per_instance=1,
        topology_key="",
        accelerator_classes=frozenset({"h100-8"}),
        profiles=frozenset({"default"}),
        snapshots=snapshots,
    )
    instances = [
        InstanceFacts(
            f"chat-{index}", f"uid-{index}", "gpt-3.5-turbo", "gpt-3.5-turbo-0125", "default", 1, 0, NOW, held=1
        )
        for index in range(members)
    ]
    return lambda: judge(facts, {offering.name: offering}, instances, now=NOW)


# ------------------------------------------------------------------------------------------------------------ the cases


def cases() -> Iterable[Case]:
    empty = inventory()
    for pools in (POOLS, 10 * POOLS):
        demands = owed(pools)
        first = plan_claims(empty, demands, occupied={})
        settled = claimed(empty, first)
        assert not plan_claims(settled, demands, occupied={}).changes
        more = [replace(demands[0], contracted_blocks=demands[0].contracted_blocks + 40), *demands[1:]]
        shape = f"{NODES * BLOCKS_PER_NODE:,} blocks, {pools} pools"
        yield Case(f"claims, {shape}: from nothing", _claims(empty, demands), 1000)
        yield Case(f"claims, {shape}: nothing to do", _claims(settled, demands), 1000)
        yield Case(f"claims, {shape}: one pool grows", _claims(settled, more), 1000)
        yield Case(f"claims, {shape}: 100 requests want room in one piece", _claims(*holed(settled, demands)), 1000)
    fresh = pool(MEMBERS - 1)
    full = granted(fresh)
    yield Case(f"holdings, pool of {MEMBERS:,}: from nothing", _holdings(fresh), None)
    yield Case(f"holdings, pool of {MEMBERS:,}: nothing to do", _holdings(full), 20)
    yield Case(f"holdings, pool of {MEMBERS:,}: one more instance", _holdings(one_more(full)), 20)
    yield Case(f"holdings, pool of {MEMBERS:,}: one is scaled to 0", _holdings(one_less(full)), 20)
    yield Case(f"holdings, pool of {MEMBERS:,}: one is gone", _holdings(one_gone(full)), 20)
    yield Case(f"holdings, pool of {MEMBERS:,}: 1 waits", _holdings(crowded(full, 1)), 20)
    yield Case(f"holdings, pool of {MEMBERS:,}: 100 wait", _holdings(crowded(full, 100)), None)
    yield Case(
        f"holdings, pool of {MEMBERS:,}: 100 wait for three blocks on one node", _holdings(fragmented(1000, 100)), None
    )
    for minimum in (1, 2):
        waiting = unprovisioned(MEMBERS, minimum)
        yield Case(f"holdings, nothing provisioned, {MEMBERS:,} wait, minimum {minimum}", _holdings(waiting), None)
    yield Case(f"verdicts on {MEMBERS:,} instances", judged(MEMBERS), None)
    many = [full] * POOLS
    yield Case(f"holdings, {POOLS * MEMBERS:,} members, {POOLS} pools", lambda: [plan(each) for each in many], 1000)
    single = pool(100)
    yield Case("holdings, pool of 100: from nothing", _holdings(single), None)
    yield Case("holdings, pool of 100: one more instance", _holdings(one_more(granted(single))), None)


def _claims(nodes: list[InventoryNode], demands: list[ClaimDemand]) -> Callable[[], object]:
    return lambda: plan_claims(nodes, demands, occupied={})


def _holdings(state: PoolState) -> Callable[[], object]:
    return lambda: plan(state)


def plan(state: PoolState) -> HoldingsPlan:
    return plan_holdings(state, now=NOW)


def measured(case: Case, runs: int) -> dict[str, object]:
    taken = []
    for _ in range(runs):
        began = time.process_time()
        case.run()
        taken.append(1000 * (time.process_time() - began))
    median = statistics.median(taken)
    met = None if case.goal_ms is None else median <= case.goal_ms
    return {
        "case": case.name, "median_ms": median, "min_ms": min(taken), "max_ms": max(taken), "goal_ms": case.goal_ms, "met": met,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    found = []
    for case in cases():
        row = measured(case, given.runs)
        found.append(row)
        goal = f"goal {row['goal_ms']:.0f}: {'met' if row['met'] else 'MISSED'}" if row["goal_ms"] else ""
        sys.stdout.write(
            f"{row['case']:<58} {row['median_ms']:>9.1f} ms  ({row['min_ms']:.1f} to {row['max_ms']:.1f})  {goal}\n"
        )
        sys.stdout.flush()
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

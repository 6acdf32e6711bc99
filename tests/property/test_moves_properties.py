"""Members that have to leave their nodes (behaviour.md N1-N3, C5, C6, I7, I8): nodes are cordoned, fail and come back,
members serve or do not, in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.holdings import (
    Demand,
    Freeze,
    Holding,
    PoolNode,
    PoolState,
    effective_desired,
    held_count,
    succeeded,
)
from reserved_capacity.domain.releases import floor_of
from reserved_capacity.domain.repair import NodeReplacement, ReplacementStrategy
from tests.property.worlds import LATER, NOW, shuffled

NODES = ("n1", "n2", "n3", "n4")
FREEZES = (Freeze.NOTHING, Freeze.NOTHING, Freeze.EVERYTHING, Freeze.STEPS, Freeze.GROWTH)


@st.composite
def settled_pools(draw: st.DrawFn, *, freezes: tuple[Freeze, ...] = FREEZES) -> PoolState:
    """Two instances of one offering and one of another, all placed and serving, with some room to spare or none."""
    demands = []
    minimum = draw(st.integers(1, 3))
    for name, model in (("a", "x"), ("b", "x"), ("c", "y")):
        desired = draw(st.integers(0, 3))
        demands.append(
            Demand(
                name,
                f"uid-{name}",
                model,
                draw(st.integers(1, 2)),
                minimum if model == "x" else 1,
                desired,
                0,
                NOW,
                min_available=draw(st.none() | st.integers(0, 3)),
                accept_below_minimum=draw(st.booleans()),
            )
        )
    nodes = tuple(PoolNode(name, draw(st.integers(0, 6)), usable=True) for name in NODES)
    chosen = draw(st.sampled_from([*ReplacementStrategy]))
    pool = PoolState(
        sum(node.blocks for node in nodes),
        nodes,
        (),
        tuple(demands),
        replacement=NodeReplacement(chosen, draw(st.integers(1, 3))),
    )
    holdings = plan_holdings(pool, now=NOW).holdings
    held = Counter(each.instance for each in holdings)
    demands = [
        replace(each, freeze=draw(st.sampled_from(freezes)), desired=draw(st.sampled_from((held[each.instance], 2))))
        for each in demands
    ]
    return replace(
        pool,
        demands=tuple(demands),
        holdings=holdings,
        available=frozenset(each.member for each in holdings),
    )


@dataclass(frozen=True)
class Step:
    """One plan, and what it was made from."""

    before: PoolState
    after: PoolState

    def stopped(self) -> list[Holding]:
        releasing = {each.member for each in self.after.holdings if not each.held}
        return [each for each in self.before.holdings if each.held and each.member in releasing]

    def serving(self, state: PoolState, instances: Iterable[str]) -> int:
        return sum(
            each.held and each.member in state.available for each in state.holdings if each.instance in instances
        )


def planned(pool: PoolState) -> Step:
    plan = plan_holdings(pool, now=LATER)
    return Step(pool, replace(pool, holdings=plan.holdings, gone=frozenset()))


def set_node(pool: PoolState, name: str, state: str) -> PoolState:
    def told(node: PoolNode) -> PoolNode:
        failed, cordoned = state == "failed", state == "cordoned"
        return replace(node, usable=state == "fine", failed=failed, evacuate=failed or cordoned)

    nodes = tuple(told(node) if node.name == name else node for node in pool.nodes)
    dead = {each.member for each in pool.holdings if state == "failed" and name in each.nodes}
    return replace(pool, nodes=nodes, available=pool.available - dead)


def happen(data: st.DataObject, pool: PoolState) -> PoolState:
    """Nodes change, members come up or fall, pods of those that are released go."""
    for name in data.draw(st.sets(st.sampled_from(NODES), max_size=2)):
        pool = set_node(pool, name, data.draw(st.sampled_from(("fine", "cordoned", "cordoned", "failed"))))
    failed = {node.name for node in pool.nodes if node.failed}
    held = [each.member for each in pool.holdings if each.held and failed.isdisjoint(each.nodes)]
    changed = data.draw(st.sets(st.sampled_from(held))) if held else set()
    down = data.draw(st.sets(st.sampled_from(held), max_size=1)) if held else set()
    released = [each.member for each in pool.holdings if not each.held]
    gone = data.draw(st.sets(st.sampled_from(released))) if released else set()
    return replace(pool, available=(pool.available | changed) - down - set(released), gone=frozenset(gone))


def lives(data: st.DataObject, pool: PoolState) -> list[Step]:
    steps = []
    for _ in range(data.draw(st.integers(1, 8))):
        steps.append(planned(happen(data, pool)))
        pool = steps[-1].after
    return steps


@given(st.data(), settled_pools())
def test_n2_replace_first_stops_nobody_who_serves_before_the_successor_does(
    data: st.DataObject, pool: PoolState
) -> None:
    for step in lives(data, replace(pool, replacement=NodeReplacement())):
        former = succeeded(step.before.holdings)
        for old in step.stopped():
            if old.member not in step.before.available:
                continue
            heir = former.get(old.member)
            served = heir is not None and heir.member in step.before.available
            demand = next(each for each in pool.demands if each.instance == old.instance)
            fewer = effective_desired(demand, held_count(old.instance, step.before.holdings)) < held_count(
                old.instance, step.before.holdings
            )
            assert served or fewer


@given(st.data(), settled_pools())
def test_n2_whatever_the_strategy_enough_members_keep_serving(data: st.DataObject, pool: PoolState) -> None:
    """minAvailable of the instance, and the minimum of the offering unless it is given up (C6)."""
    for step in lives(data, pool):
        for demand in pool.demands:
            held = held_count(demand.instance, step.before.holdings)
            keep = effective_desired(demand, held)
            if keep < held:
                continue  # it is to serve with fewer
            was, now = (step.serving(state, [demand.instance]) for state in (step.before, step.after))
            assert now >= min(was, floor_of(demand, keep))
        group = [each for each in pool.demands if each.offering == "x"]
        shrinks = any(
            effective_desired(each, held_count(each.instance, step.before.holdings))
            < held_count(each.instance, step.before.holdings)
            for each in group
        )
        if not shrinks and not any(each.accept_below_minimum for each in group):
            names = [each.instance for each in group]
            was, now = (step.serving(state, names) for state in (step.before, step.after))
            heirs = sum(each.member in step.before.available for each in succeeded(step.before.holdings).values())
            assert now >= min(was - heirs, group[0].min_instances)


@given(st.data(), settled_pools())
def test_r1_a_frozen_instance_keeps_as_many_as_it_holds_wherever_they_move(
    data: st.DataObject, pool: PoolState
) -> None:
    for step in lives(data, pool):
        for demand in pool.demands:
            if demand.freeze in (Freeze.EVERYTHING, Freeze.STEPS):
                held = [held_count(demand.instance, each.holdings) for each in (step.before, step.after)]
                assert held[0] == held[1]


@given(st.data(), settled_pools())
def test_n2_no_more_nodes_are_left_at_a_time_than_the_pool_allows(data: st.DataObject, pool: PoolState) -> None:
    for step in lives(data, pool):
        was, now = (set(succeeded(state.holdings)) for state in (step.before, step.after))
        nodes = [
            {node for each in step.after.holdings if each.member in names for node in each.nodes}
            for names in (was, now)
        ]
        if now - was:
            assert len(nodes[1]) <= max(pool.replacement.max_unavailable_nodes, 1)


@given(st.data(), settled_pools())
def test_i7_i8_moves_settle_at_once_and_do_not_depend_on_order(data: st.DataObject, pool: PoolState) -> None:
    for step in lives(data, pool):
        again = planned(step.after)
        assert again.after.holdings == step.after.holdings
        seen = replace(
            step.before,
            nodes=shuffled(data, step.before.nodes),
            holdings=shuffled(data, step.before.holdings),
            demands=shuffled(data, step.before.demands),
        )
        assert planned(seen).after.holdings == step.after.holdings


@given(st.data(), settled_pools(freezes=(Freeze.NOTHING, Freeze.EVERYTHING, Freeze.GROWTH)))
def test_n3_a_drain_comes_to_an_end_when_a_spare_node_takes_everybody(data: st.DataObject, pool: PoolState) -> None:
    """Also for members whose spec is refused. The cordoned nodes' blocks are claimed elsewhere, as the class does (N2)."""
    pool = replace(
        pool, demands=tuple(replace(each, desired=held_count(each.instance, pool.holdings)) for each in pool.demands)
    )
    leaving = data.draw(st.sets(st.sampled_from(NODES), min_size=1, max_size=3))
    for name in leaving:
        pool = set_node(pool, name, "cordoned")
    spare = PoolNode("spare", 18, usable=True)
    nodes = [replace(node, blocks=0, replaced=node.blocks) if node.evacuate else node for node in pool.nodes]
    pool = replace(pool, nodes=(*nodes, spare), contracted_blocks=24)
    for _ in range(60):
        after = planned(pool).after
        released = frozenset(each.member for each in after.holdings if not each.held)
        serving = frozenset(each.member for each in after.holdings if each.held)
        if after == pool and not released:
            break
        pool = replace(after, gone=released, available=serving)
    assert not leaving & {node for each in pool.holdings for node in each.nodes}
    assert all(held_count(each.instance, pool.holdings) == each.desired for each in pool.demands)
    assert not any(each.replaces for each in pool.holdings)

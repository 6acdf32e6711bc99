"""Claims in any world (behaviour.md I1, I2, I7, I8; C2, C3, C7, N2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.claims import ClaimDemand, ClaimPlan, plan_claims
from reserved_capacity.domain.nodes import Claim, InventoryNode, PoolId
from tests.property.worlds import NOW, POOLS, ClassWorld, class_worlds, shuffled


def plan(world: ClassWorld) -> ClaimPlan:
    return plan_claims(world.nodes, world.demands, occupied=world.occupied)


def after(
    nodes: Sequence[InventoryNode], claim_plan: ClaimPlan, writes: int | None = None
) -> tuple[InventoryNode, ...]:
    """The nodes when the plan, or its first writes, are carried out."""
    written = {change.node: change.claims for change in claim_plan.changes[:writes]}
    return tuple(replace(node, claims=written.get(node.name, node.claims)) for node in nodes)


def total(nodes: Sequence[InventoryNode], pool: PoolId) -> int:
    return sum(node.claimed_by(pool) for node in nodes)


def lost(nodes: Sequence[InventoryNode], demand: ClaimDemand) -> int:
    claimed = {node.name: node.claimed_by(demand.pool) for node in nodes}
    return sum(max(0, blocks - claimed.get(name, 0)) for name, blocks in demand.held.items())


@given(class_worlds())
def test_i1_i2_a_claim_grows_only_on_blocks_that_the_node_has_and_nobody_uses(world: ClassWorld) -> None:
    for node, then in zip(world.nodes, after(world.nodes, plan(world)), strict=True):
        if any(then.claimed_by(pool) > node.claimed_by(pool) for pool in POOLS):
            assert then.claimed_blocks + node.foreign_blocks <= node.blocks


@given(class_worlds())
def test_n1_only_what_is_held_comes_back_to_a_node_that_takes_nothing_new(world: ClassWorld) -> None:
    held = {demand.pool: demand.held for demand in world.demands}
    for node, then in zip(world.nodes, after(world.nodes, plan(world)), strict=True):
        for pool in POOLS:
            if then.claimed_by(pool) > node.claimed_by(pool) and not node.usable:
                assert then.claimed_by(pool) <= held[pool].get(node.name, 0)


def being_left(before: Sequence[InventoryNode], nodes: Sequence[InventoryNode], demand: ClaimDemand) -> int:
    """N2: what may be claimed on top while a pool leaves nodes: as much as it has, or had, or holds on these."""
    left = 0
    for was, then in zip(before, nodes, strict=True):
        if was.failed or (was.cordoned and demand.staying.get(was.name)):
            held = demand.held.get(was.name, 0)
            left += max(was.claimed_by(demand.pool), then.claimed_by(demand.pool), held)
    return left + sum(demand.held.get(name, 0) for name in demand.lost_nodes)


@given(class_worlds())
def test_i2_no_pool_has_more_than_its_contract_or_what_its_members_hold(world: ClassWorld) -> None:
    nodes = after(world.nodes, plan(world))
    for demand in world.demands:
        bound = max(demand.contracted_blocks, sum(demand.held.values()))
        assert total(nodes, demand.pool) + lost(nodes, demand) <= bound + being_left(world.nodes, nodes, demand)


@given(class_worlds())
def test_i2_a_crash_between_two_writes_leaves_no_pool_with_more_than_before_or_after(world: ClassWorld) -> None:
    claim_plan = plan(world)
    for demand in world.demands:
        steps = [after(world.nodes, claim_plan, writes) for writes in range(len(claim_plan.changes) + 1)]
        totals = [total(nodes, demand.pool) + lost(nodes, demand) for nodes in steps]
        assert max(totals) <= max(totals[0], totals[-1])


@given(class_worlds())
def test_what_members_hold_is_never_taken_from_a_living_pool(world: ClassWorld) -> None:
    for node, then in zip(world.nodes, after(world.nodes, plan(world)), strict=True):
        for demand in world.demands:
            kept = min(node.claimed_by(demand.pool), demand.held.get(node.name, 0))
            assert then.claimed_by(demand.pool) >= kept


@given(class_worlds())
def test_c7_claims_of_dead_pools_stay_exactly_while_something_runs_there(world: ClassWorld) -> None:
    living = {demand.pool for demand in world.demands}
    for node, then in zip(world.nodes, after(world.nodes, plan(world)), strict=True):
        for pool in set(POOLS) - living:
            runs = bool(world.occupied.get((pool, node.name)))
            assert then.claimed_by(pool) == (node.claimed_by(pool) if runs else 0)


@given(class_worlds())
def test_n2_lost_claims_are_restored_as_far_as_there_is_room(world: ClassWorld) -> None:
    for then in after(world.nodes, plan(world)):
        for demand in world.demands:
            if then.claimed_by(demand.pool) < demand.held.get(then.name, 0):
                assert then.free_blocks == 0


@given(class_worlds())
def test_c4_what_is_missing_is_missing_because_nothing_is_free(world: ClassWorld) -> None:
    claim_plan = plan(world)
    nodes = after(world.nodes, claim_plan)
    for demand in world.demands:
        missing = demand.contracted_blocks - total(nodes, demand.pool) - lost(nodes, demand)
        assert claim_plan.missing_blocks[demand.pool] == max(0, missing)
        if missing > 0:
            assert not any(node.usable and node.free_blocks for node in nodes)


@given(class_worlds())
def test_who_bought_first_is_provisioned_first(world: ClassWorld) -> None:
    claim_plan = plan(world)
    nodes = after(world.nodes, claim_plan)
    in_order = sorted(world.demands, key=lambda demand: (demand.first_accepted, demand.pool))
    for first, later in itertools.combinations(in_order, 2):
        if claim_plan.missing_blocks[first.pool]:
            for node, then in zip(world.nodes, nodes, strict=True):
                restored = max(later.held.get(node.name, 0), later.last_held.get(node.name, 0))
                assert then.claimed_by(later.pool) <= max(node.claimed_by(later.pool), restored)


@given(class_worlds(), st.data())
def test_i7_the_order_in_which_the_world_is_seen_does_not_matter(world: ClassWorld, data: st.DataObject) -> None:
    seen = ClassWorld(
        shuffled(data, [replace(node, claims=shuffled(data, node.claims)) for node in world.nodes]),
        shuffled(data, world.demands),
        dict(shuffled(data, list(world.occupied.items()))),
    )
    assert plan(seen) == plan(world)


@given(class_worlds())
def test_i8_a_plan_carried_out_leaves_nothing_to_write(world: ClassWorld) -> None:
    first = plan(world)
    settled = replace(world, nodes=after(world.nodes, first))
    second = plan(settled)
    assert second.changes == ()
    assert second.missing_blocks == first.missing_blocks


@given(class_worlds())
def test_every_write_differs_from_what_is_there_and_says_why(world: ClassWorld) -> None:
    claims = {node.name: tuple(sorted(node.claims)) for node in world.nodes}
    for change in plan(world).changes:
        assert change.claims != claims[change.node]
        assert change.reasons
        assert all(claim.blocks > 0 for claim in change.claims)


# ------------------------------------------------------------------------------------------ a class that nobody uses yet


@st.composite
def fresh_nodes(draw: st.DrawFn) -> tuple[InventoryNode, ...]:
    zones = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=7))
    return tuple(InventoryNode(f"gpu-{number}", zone, 8, True, False, False) for number, zone in enumerate(zones))


def claimed_fresh(nodes: Sequence[InventoryNode], blocks: int) -> tuple[InventoryNode, ...]:
    return after(nodes, plan_claims(nodes, [ClaimDemand(POOLS[0], blocks, NOW)], occupied={}))


@given(fresh_nodes(), st.integers(1, 60))
def test_c3_whole_nodes_are_claimed_first(nodes: tuple[InventoryNode, ...], blocks: int) -> None:
    claimed = [node.claimed_blocks for node in claimed_fresh(nodes, blocks) if node.claimed_blocks]
    assert sum(claimed) == min(blocks, 8 * len(nodes))
    assert len([count for count in claimed if count < 8]) <= 1


@given(fresh_nodes(), st.integers(1, 60))
def test_c3_a_pool_is_in_as_few_zones_as_there_can_be(nodes: tuple[InventoryNode, ...], blocks: int) -> None:
    zones = {node.zone for node in nodes}
    room = {zone: sum(node.blocks for node in nodes if node.zone == zone) for zone in zones}
    wanted = min(blocks, sum(room.values()))
    fewest = next(
        count
        for count in range(1, len(zones) + 1)
        if any(sum(room[zone] for zone in chosen) >= wanted for chosen in itertools.combinations(zones, count))
    )
    used = {node.zone for node in claimed_fresh(nodes, blocks) if node.claimed_blocks}
    assert len(used) == fewest


@given(fresh_nodes(), st.integers(1, 30), st.integers(1, 30))
def test_c1_claims_are_sums_of_lists_so_growth_in_two_steps_ends_like_growth_in_one(
    nodes: tuple[InventoryNode, ...], first: int, more: int
) -> None:
    grown = claimed_fresh(claimed_fresh(nodes, first), first + more)
    at_once = claimed_fresh(nodes, first + more)
    assert total(grown, POOLS[0]) == total(at_once, POOLS[0])
    for before, then in zip(claimed_fresh(nodes, first), grown, strict=True):
        assert then.claimed_blocks >= before.claimed_blocks


@given(class_worlds())
def test_i2_foreign_pods_on_claimed_blocks_take_no_claim_away(world: ClassWorld) -> None:
    quiet = replace(
        world,
        nodes=tuple(
            replace(node, blocks=8, failed=False, claims=tuple(Claim(pool, 1) for pool in POOLS[:2]), foreign_blocks=0)
            for node in world.nodes
        ),
        demands=tuple(ClaimDemand(pool, len(world.nodes), NOW) for pool in POOLS[:2]),
        occupied={},
    )
    spoilt = replace(quiet, nodes=tuple(replace(node, foreign_blocks=8) for node in quiet.nodes))
    assert plan(quiet).changes == plan(spoilt).changes == ()

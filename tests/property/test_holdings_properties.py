"""Holdings of any pool (behaviour.md I1-I3, I7, I8; C1, C5-C7, C9, R1), with brute force as the judge of small cases."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.holdings import (
    MAX_MEMBERS,
    Demand,
    Freeze,
    Holding,
    HoldingsPlan,
    HoldingState,
    PoolNode,
    PoolState,
    Waiting,
    blocks_held_by_node,
    capacity_of,
    effective_desired,
    held_count,
    may_run,
)
from tests.property.worlds import LATER, NOW, pool_states, shuffled


def plan(pool: PoolState) -> HoldingsPlan:
    return plan_holdings(pool, now=LATER)


def by_member(holdings: Sequence[Holding]) -> dict[str, Holding]:
    return {holding.member: holding for holding in holdings}


def granted(pool: PoolState, made: HoldingsPlan) -> list[Holding]:
    """The new holdings; the name of one that is confirmed gone may be used again."""
    old = by_member(pool.holdings)
    return [each for each in made.holdings if each.member not in old or _dropped(pool, old[each.member])]


def _dropped(pool: PoolState, holding: Holding) -> bool:
    return not holding.held and holding.member in pool.gone


def kept(pool: PoolState) -> list[Holding]:
    return [holding for holding in pool.holdings if not _dropped(pool, holding)]


@given(pool_states())
def test_i1_no_block_has_two_holders(pool: PoolState) -> None:
    made = plan(pool)
    before, then = blocks_held_by_node(kept(pool)), blocks_held_by_node(made.holdings)
    blocks = {node.name: node.blocks for node in pool.nodes}
    for name, used in then.items():
        assert used <= max(blocks.get(name, 0), before.get(name, 0))
    assert len({each.member for each in made.holdings}) == len(made.holdings)


@given(pool_states())
def test_i2_grants_never_go_above_the_contract(pool: PoolState) -> None:
    made = plan(pool)
    if granted(pool, made):
        assert sum(each.blocks for each in made.holdings) <= pool.contracted_blocks


@given(pool_states())
def test_i3_a_grant_leaves_its_offering_at_the_minimum_or_above(pool: PoolState) -> None:
    made = plan(pool)
    offerings = {demand.instance: demand for demand in pool.demands}
    for holding in granted(pool, made):
        demand = offerings[holding.instance]
        group = [each.instance for each in pool.demands if each.offering == demand.offering]
        assert sum(held_count(instance, made.holdings) for instance in group) >= demand.min_instances


@given(pool_states())
def test_c7_a_holding_ends_only_by_being_released_and_then_confirmed_gone(pool: PoolState) -> None:
    then = by_member(plan(pool).holdings)
    for holding in kept(pool):
        after = then[holding.member]
        assert replace(after, state=holding.state) == holding
        assert holding.held or not after.held


@given(pool_states())
def test_c5_nobody_is_preempted_only_surplus_is_released(pool: PoolState) -> None:
    made = plan(pool)
    demands = {demand.instance: demand for demand in pool.demands}
    for instance in {holding.instance for holding in pool.holdings}:
        before, after = held_count(instance, pool.holdings), held_count(instance, made.holdings)
        wanted = effective_desired(demands[instance], before) if instance in demands else 0
        assert after >= min(before, wanted)
        assert after <= max(wanted, 0)


@given(pool_states())
def test_frozen_instances_keep_what_they_hold_and_get_nothing(pool: PoolState) -> None:
    made = plan(pool)
    for demand in pool.demands:
        mine = [each for each in kept(pool) if each.instance == demand.instance]
        if demand.freeze is Freeze.EVERYTHING:
            assert [each for each in made.holdings if each.instance == demand.instance] == sorted(
                mine, key=lambda holding: holding.member
            )
        if demand.freeze is not Freeze.NOTHING:
            assert not [each for each in granted(pool, made) if each.instance == demand.instance]


@given(pool_states())
def test_r1_new_members_are_on_usable_nodes_of_the_right_size_and_under_unused_names(pool: PoolState) -> None:
    usable = {node.name for node in pool.nodes if node.usable}
    sizes = {demand.instance: demand.blocks_per_instance for demand in pool.demands}
    used = {holding.member for holding in kept(pool)} | pool.taken
    for holding in granted(pool, plan(pool)):
        assert usable.issuperset(holding.nodes)
        assert holding.held
        assert (holding.blocks, holding.since) == (sizes[holding.instance], LATER)
        assert holding.member not in used
        ordinal = int(holding.member.removeprefix(f"{holding.instance}-"))
        names = {each.member for each in plan(pool).holdings} | used
        assert all(f"{holding.instance}-{lower}" in names for lower in range(ordinal))


@given(pool_states())
def test_whoever_misses_something_waits_with_a_reason_and_nobody_else(pool: PoolState) -> None:
    made = plan(pool)
    for demand in pool.demands:
        held = held_count(demand.instance, made.holdings)
        assert (demand.instance in made.waits) == (held < effective_desired(demand, held))


@given(pool_states())
def test_the_words_of_a_reason_are_true(pool: PoolState) -> None:
    made = plan(pool)
    capacity = capacity_of(pool.nodes, made.holdings)
    for wait in made.waits.values():
        assert wait.need_cu > 0
        assert 0 <= wait.have_cu <= 100 * capacity.idle
        match wait.reason:
            case Waiting.NOT_YET_PROVISIONED:
                assert wait.have_cu < wait.need_cu
                assert capacity.provisioned < pool.contracted_blocks
            case Waiting.WAITING_FOR_RELEASE:
                assert any(not holding.held for holding in made.holdings)
            case Waiting.FRAGMENTED:
                assert wait.have_cu >= wait.need_cu
            case Waiting.NODES_UNHEALTHY:
                assert any(node.blocks and not node.usable for node in pool.nodes)
            case Waiting.WAITING_FOR_COMPUTE_UNITS:
                assert wait.have_cu < wait.need_cu


@given(pool_states())
def test_i8_a_plan_carried_out_is_planned_again_as_it_is(pool: PoolState) -> None:
    first = plan(pool)
    settled = replace(pool, holdings=first.holdings, gone=frozenset())
    second = plan_holdings(settled, now=LATER.replace(hour=23))
    assert (second.holdings, second.waits, second.notes) == (first.holdings, first.waits, ())


@given(pool_states(), st.data())
def test_i7_the_order_in_which_the_world_is_seen_does_not_matter(pool: PoolState, data: st.DataObject) -> None:
    seen = replace(
        pool,
        nodes=shuffled(data, pool.nodes),
        holdings=shuffled(data, pool.holdings),
        demands=shuffled(data, pool.demands),
    )
    assert plan(seen) == plan(pool)


@given(pool_states(mixed_sizes=False))
def test_c5_nobody_fares_worse_because_somebody_with_less_priority_asks_too(pool: PoolState) -> None:
    """Apart from siblings, whom C6 puts into one batch."""
    ordered = sorted(pool.demands, key=lambda demand: demand.admission_order)
    made = plan(pool)
    for index, demand in enumerate(ordered):
        offerings = {each.offering for each in ordered[: index + 1]}
        rest = tuple(
            each if each.offering in offerings else replace(each, freeze=Freeze.EVERYTHING) for each in pool.demands
        )
        alone = plan(replace(pool, demands=rest))
        assert held_count(demand.instance, made.holdings) == held_count(demand.instance, alone.holdings)


@given(pool_states())
def test_every_block_of_a_pool_is_counted_once(pool: PoolState) -> None:
    for holdings in (pool.holdings, plan(pool).holdings):
        capacity = capacity_of(pool.nodes, holdings)
        assert capacity.provisioned == sum(node.blocks for node in pool.nodes)
        assert capacity.provisioned == capacity.allocated + capacity.idle + capacity.unhealthy
        assert capacity.usable == capacity.provisioned - capacity.unhealthy
        assert 0 <= capacity.releasing <= capacity.allocated
        assert min(capacity.allocated, capacity.idle, capacity.unhealthy) >= 0


# --------------------------------------------------------------------------------------------------------- brute force


def fits(free: Mapping[str, int], size: int, count: int) -> bool:
    """Tries every way to put so many equal requests on the nodes."""
    return any(
        all(size * chosen.count(name) <= blocks for name, blocks in free.items())
        for chosen in itertools.combinations_with_replacement(sorted(free), count)
    )


def free_blocks(pool: PoolState, holdings: Sequence[Holding]) -> dict[str, int]:
    used = blocks_held_by_node(holdings)
    return {node.name: node.blocks - used.get(node.name, 0) for node in pool.nodes if node.usable}


@given(pool_states(mixed_sizes=False))
def test_c9_brute_force_finds_no_place_for_whoever_waits_and_one_after_the_release_that_is_waited_for(
    pool: PoolState,
) -> None:
    made = plan(pool)
    sizes = {demand.instance: demand.blocks_per_instance for demand in pool.demands}
    room = pool.contracted_blocks - sum(holding.blocks for holding in made.holdings)
    for instance, wait in made.waits.items():
        if wait.reason is Waiting.BELOW_MINIMUM_INSTANCES:
            continue
        need = wait.need_cu // 100
        count = need // sizes[instance]
        possible = fits(free_blocks(pool, made.holdings), sizes[instance], count)
        assert not possible or need > room
        if wait.reason is Waiting.FRAGMENTED:
            assert not possible
            assert sum(max(0, blocks) for blocks in free_blocks(pool, made.holdings).values()) >= need
            released = [holding for holding in made.holdings if holding.held]
            assert not fits(free_blocks(pool, released), sizes[instance], count)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 6),
)
def test_c6_equal_requests_are_placed_whenever_brute_force_can_place_them(
    blocks: list[int], size: int, minimum: int, desired: int
) -> None:
    nodes = tuple(PoolNode(f"gpu-{number}", count, usable=True) for number, count in enumerate(blocks))
    demand = Demand("chat", "uid", "m", size, minimum, desired, 0, NOW)
    pool = PoolState(sum(blocks), nodes, (), (demand,))
    made = plan(pool)
    free = free_blocks(pool, ())
    most = max(count for count in range(desired + 1) if fits(free, size, count))
    assert len(made.holdings) == (most if most >= minimum else 0)


def wide_fits(free: Mapping[str, int], zones: Mapping[str, str], part: int, nodes: int, count: int) -> bool:
    """Tries every choice of zone and nodes for one instance after the other."""
    if not count:
        return True
    return any(
        wide_fits(
            {name: blocks - part * (name in chosen) for name, blocks in free.items()}, zones, part, nodes, count - 1
        )
        for chosen in itertools.combinations([name for name, blocks in free.items() if blocks >= part], nodes)
        if len({zones[name] for name in chosen}) == 1
    )


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from("ab")), min_size=1, max_size=5),
    st.integers(1, 2),
    st.integers(2, 3),
    st.integers(1, 3),
)
def test_c8_instances_over_several_nodes_are_placed_whenever_brute_force_can_place_them(
    nodes: list[tuple[int, str]], part: int, width: int, desired: int
) -> None:
    names = [f"gpu-{number}" for number in range(len(nodes))]
    zones = dict(zip(names, (zone for _, zone in nodes), strict=True))
    parts = [
        PoolNode(name, blocks, usable=True, labels={"zone": zones[name]})
        for name, (blocks, _) in zip(names, nodes, strict=True)
    ]
    demand = Demand("wide", "uid", "m", part * width, 1, desired, 0, NOW, nodes_per_instance=width, topology_key="zone")
    made = plan(PoolState(sum(blocks for blocks, _ in nodes), tuple(parts), (), (demand,)))
    free = {part.name: part.blocks for part in parts}
    most = max(count for count in range(desired + 1) if wide_fits(free, zones, part, width, count))
    assert len(made.holdings) == most
    for holding in made.holdings:
        assert len(set(holding.nodes)) == width
        assert len({zones[name] for name in holding.nodes}) == 1


@given(pool_states())
def test_a_pool_never_has_more_members_than_can_be_recorded(pool: PoolState) -> None:
    assert len(plan(pool).holdings) <= MAX_MEMBERS


on_one_node = st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=5).map(
    lambda members: [
        Holding("a", f"a-{number}", blocks, ("n",), NOW, HoldingState.HELD if held else HoldingState.RELEASING)
        for number, (blocks, held) in enumerate(members)
    ]
)


@given(on_one_node, st.integers(0, 8), st.data())
def test_i1_members_start_on_no_more_blocks_of_a_node_than_are_claimed_there(
    holdings: list[Holding], claimed: int, data: st.DataObject
) -> None:
    """Fewer may be claimed than are held; whoever asks first."""
    running = {holding.member for holding in holdings if not holding.held}
    for holding in data.draw(st.permutations([each for each in holdings if each.held])):
        if may_run(holding.member, "n", holdings, running, claimed_blocks=claimed):
            running.add(holding.member)
            assert sum(each.blocks for each in holdings if each.member in running) <= claimed


@given(on_one_node, st.integers(0, 8))
def test_i1_members_that_ask_at_once_get_no_more_than_is_claimed(holdings: list[Holding], claimed: int) -> None:
    """None sees the others run, and none is left out whose blocks are there."""
    held = [holding for holding in holdings if holding.held]
    start = [each for each in held if may_run(each.member, "n", holdings, frozenset(), claimed_blocks=claimed)]
    assert not start or sum(each.blocks for each in holdings if each in start or not each.held) <= claimed
    if sum(each.blocks for each in holdings) <= claimed:
        assert start == held

"""Nodes that are left, told as stories: with which strategy, how many at a time, by whom (behaviour.md N1-N3, C6, R1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from reserved_capacity.domain.holdings import (
    BlockedMove,
    Demand,
    Freeze,
    Holding,
    PoolNode,
    PoolState,
    Waiting,
    held_count,
    standing,
    succeeded,
)
from reserved_capacity.domain.releases import spare_members
from reserved_capacity.domain.repair import (
    LeavingNode,
    NodeReplacement,
    ReplacementStrategy,
    coverage,
    next_replacement,
)
from tests.unit.domain.builders import asks, held, leaving, members, part, planned, pool, releasing

TERMINATE_FIRST = NodeReplacement(ReplacementStrategy.TERMINATE_FIRST)


def cordoned(name: str, blocks: int, *, replaced: int = 0) -> PoolNode:
    return PoolNode(name, blocks, usable=False, evacuate=True, replaced=replaced)


def failed(name: str, blocks: int) -> PoolNode:
    return PoolNode(name, blocks, usable=False, failed=True, evacuate=True)


def serving(
    *demands: Demand,
    nodes: Sequence[PoolNode],
    holdings: Sequence[Holding],
    but: Sequence[str] = (),
    choice: NodeReplacement = NodeReplacement(),  # noqa: B008  a frozen value
) -> PoolState:
    """A pool in which everybody who holds serves, except those in `but`."""
    state = pool(*demands, nodes=nodes, holdings=holdings)
    available = frozenset(each.member for each in holdings if each.held and each.member not in but)
    return replace(state, available=available, replacement=choice)


def ask(
    desired: int = 2, *, least: int | None = None, accept: bool = False, minimum: int = 1, **other: object
) -> Demand:
    made = asks("chat", desired, minimum=minimum, **other)  # type: ignore[arg-type]
    return replace(made, min_available=least, accept_below_minimum=accept)


# ------------------------------------------------------------------------------------------------ the record of a move


def test_n3_who_is_made_in_anothers_place_says_so_and_counts_once() -> None:
    state = serving(ask(1), nodes=[cordoned("n1", 3), part("n2", 3)], holdings=[held("chat-0", 3, "n1")])
    plan = planned(state)
    assert [(each.member, each.replaces, each.held) for each in plan.holdings] == [
        ("chat-0", "", True),
        ("chat-1", "chat-0", True),
    ]
    assert held_count("chat", plan.holdings) == 1
    assert [each.member for each in standing(plan.holdings)] == ["chat-1"]


def test_n3_the_old_one_goes_when_its_successor_serves_and_the_record_forgets_it_when_it_is_gone() -> None:
    both = [held("chat-0", 3, "n1"), replace(held("chat-1", 3, "n2"), replaces="chat-0")]
    state = serving(ask(1), nodes=[cordoned("n1", 3), part("n2", 3)], holdings=both)
    waiting = planned(replace(state, available=frozenset({"chat-0"})))
    assert members(waiting) == ["chat-0", "chat-1"]
    moved = planned(state)
    assert leaving(moved) == ["chat-0"]
    assert moved.notes == ("releasing chat-0: the move is over",)
    done = planned(replace(state, holdings=moved.holdings, gone=frozenset({"chat-0"})))
    assert [(each.member, each.replaces) for each in done.holdings] == [("chat-1", "")]


def test_n3_a_node_that_is_uncordoned_in_time_keeps_its_member_and_the_successor_goes() -> None:
    both = [held("chat-1", 3, "n1"), replace(held("chat-0", 3, "n2"), replaces="chat-1")]
    state = serving(ask(1), nodes=[part("n1", 3), part("n2", 3)], holdings=both, but=["chat-0"])
    assert members(planned(state)) == ["chat-1"]


def test_n3_a_successor_that_is_not_needed_stays_where_more_are_wanted() -> None:
    both = [held("chat-0", 3, "n1"), replace(held("chat-1", 3, "n2"), replaces="chat-0")]
    state = serving(ask(2), nodes=[part("n1", 3), part("n2", 3)], holdings=both, but=["chat-1"])
    assert [(each.member, each.replaces, each.held) for each in planned(state).holdings] == [
        ("chat-0", "", True),
        ("chat-1", "", True),
    ]


@pytest.mark.parametrize("freeze", [Freeze.EVERYTHING, Freeze.GROWTH])
def test_c5_more_that_are_asked_for_and_refused_keep_no_successor_that_is_not_needed(freeze: Freeze) -> None:
    """A contract over 300 CU and a wish for two of 300: the move is undone as if one were asked for (N3, I2)."""
    both = [held("chat-0", 3, "n1"), replace(held("chat-1", 3, "n2"), replaces="chat-0")]
    refused = ask(1 if freeze is Freeze.GROWTH else 2, freeze=freeze)
    state = serving(refused, nodes=[part("n1", 3), part("n2", 3)], holdings=both, but=["chat-1"])
    assert members(planned(state)) == ["chat-0"]
    assert leaving(planned(state)) == ["chat-1"]


@pytest.mark.parametrize(
    ("down", "accept", "goes"),
    [
        (["chat-1"], False, []),
        (["chat-1"], True, ["chat-0"]),
        (["chat-1", "chat-0"], False, ["chat-0"]),  # nobody misses what does not serve
        ([], False, ["chat-0"]),
    ],
)
def test_c6_the_old_one_stays_while_the_offering_would_be_below_its_minimum(
    down: Sequence[str], accept: bool, goes: Sequence[str]
) -> None:
    """minAvailable alone would let it go."""
    three = [held("chat-0", 3, "n1"), held("chat-1", 3, "n2"), replace(held("chat-2", 3, "n3"), replaces="chat-0")]
    nodes = [cordoned("n1", 3), part("n2", 3), part("n3", 3)]
    state = serving(ask(2, least=1, minimum=2, accept=accept), nodes=nodes, holdings=three, but=down)
    assert leaving(planned(state)) == goes


def test_c6_other_instances_of_the_offering_count() -> None:
    """night shares chat's offering, whose minimum is 2, and does not serve: chat-0 stays until it does."""
    night = replace(asks("night", 1, minimum=2), offering=ask(1).offering)
    three = [held("chat-0", 3, "n1"), replace(held("chat-1", 3, "n2"), replaces="chat-0"), held("night-0", 3, "n3")]
    nodes = [cordoned("n1", 3), part("n2", 3), part("n3", 3)]
    state = serving(ask(1, least=0, minimum=2), night, nodes=nodes, holdings=three, but=["night-0"])
    assert leaving(planned(state)) == []
    assert leaving(planned(replace(state, available=state.available | {"night-0"}))) == ["chat-0"]


def test_n3_a_successor_that_has_to_leave_in_turn_hands_its_part_on() -> None:
    chain = [
        held("chat-0", 3, "n1"),
        replace(held("chat-1", 3, "n2"), replaces="chat-0"),
        replace(held("chat-2", 3, "n3"), replaces="chat-1"),
    ]
    nodes = [cordoned("n1", 3), cordoned("n2", 3), part("n3", 3)]
    state = serving(ask(1), nodes=nodes, holdings=chain, but=["chat-1", "chat-2"])
    assert members(planned(state)) == ["chat-0", "chat-1", "chat-2"]
    failing = replace(state, nodes=(cordoned("n1", 3), failed("n2", 3), part("n3", 3)))
    plan = planned(failing)
    assert leaving(plan) == ["chat-1"]
    assert set(succeeded(plan.holdings)) == {"chat-0"}
    after = planned(replace(failing, holdings=plan.holdings, gone=frozenset({"chat-1"})))
    assert [(each.member, each.replaces) for each in after.holdings] == [("chat-0", ""), ("chat-2", "chat-0")]


def test_n1_a_member_whose_node_fails_while_it_moves_gets_no_second_successor() -> None:
    both = [held("chat-0", 3, "n1"), replace(held("chat-1", 3, "n2"), replaces="chat-0")]
    state = serving(ask(1), nodes=[failed("n1", 3), part("n2", 6)], holdings=both, but=["chat-0", "chat-1"])
    assert [(each.member, each.held) for each in planned(state).holdings] == [("chat-0", False), ("chat-1", True)]


def test_shrinking_in_the_middle_of_a_move_gives_up_the_move() -> None:
    three = [held("chat-0", 3, "n1"), held("chat-1", 3, "n2"), replace(held("chat-2", 3, "n3"), replaces="chat-0")]
    nodes = [cordoned("n1", 3), part("n2", 3), part("n3", 3)]
    state = serving(ask(1), nodes=nodes, holdings=three, but=["chat-2"])
    assert members(planned(state)) == ["chat-1"]


# ------------------------------------------------------------------------------------------ specs that are not acted on


@pytest.mark.parametrize("freeze", [Freeze.EVERYTHING, Freeze.GROWTH])
def test_r1_a_member_of_a_refused_spec_leaves_a_cordoned_node_as_others_do(freeze: Freeze) -> None:
    state = serving(
        ask(5, freeze=freeze),
        nodes=[cordoned("n1", 6), part("n2", 6)],
        holdings=[held("chat-0", 3, "n1"), held("chat-1", 3, "n1")],
    )
    plan = planned(state)
    assert members(plan) == ["chat-0", "chat-1", "chat-2"]
    assert held_count("chat", plan.holdings) == 2
    moved = planned(replace(state, holdings=plan.holdings, available=state.available | {"chat-2"}))
    assert leaving(moved) == ["chat-0"]
    assert held_count("chat", moved.holdings) == 2


def test_f3_what_a_change_set_is_moving_is_moved_by_its_steps_alone() -> None:
    state = serving(
        ask(2, freeze=Freeze.STEPS),
        nodes=[cordoned("n1", 6), part("n2", 6)],
        holdings=[held("chat-0", 3, "n1"), held("chat-1", 3, "n1")],
    )
    plan = planned(state)
    assert plan.holdings == state.holdings
    assert plan.blocked_moves == {}
    gone = planned(replace(state, nodes=(failed("n1", 6), part("n2", 6))))
    assert leaving(gone) == ["chat-0", "chat-1"]


# ------------------------------------------------------------------------------------------------ TerminateFirst (N2)

FULL = [held("chat-0", 3, "n1"), held("chat-1", 3, "n2")]
FULL_NODES = [cordoned("n1", 3), part("n2", 3)]


def test_n2_replace_first_stops_nothing_on_a_full_pool_and_says_what_is_missing() -> None:
    plan = planned(serving(ask(2, least=1), nodes=FULL_NODES, holdings=FULL))
    assert members(plan) == ["chat-0", "chat-1"]
    assert plan.blocked_moves == {"chat": BlockedMove("chat-0", "n1", 300, 0)}


def test_n2_terminate_first_gives_up_a_member_before_there_is_another() -> None:
    state = serving(ask(2, least=1), nodes=FULL_NODES, holdings=FULL, choice=TERMINATE_FIRST)
    plan = planned(state)
    assert leaving(plan) == ["chat-0"]
    assert plan.waits["chat"].reason is Waiting.WAITING_FOR_RELEASE
    gone = planned(replace(state, holdings=plan.holdings, gone=frozenset({"chat-0"})))
    assert members(gone) == ["chat-1"]
    assert gone.waits["chat"].reason is Waiting.NODES_UNHEALTHY
    assert gone.wanted == (state.demands[0].request,)
    back = replace(state, holdings=gone.holdings, nodes=(part("n1", 3), part("n2", 3)))
    assert members(planned(back)) == ["chat-0", "chat-1"]


def test_n2_terminate_first_starts_the_other_at_once_where_there_is_room() -> None:
    nodes = [cordoned("n1", 3), part("n2", 6)]
    plan = planned(serving(ask(2, least=1), nodes=nodes, holdings=FULL, choice=TERMINATE_FIRST))
    assert [(each.member, each.replaces, each.held) for each in plan.holdings] == [
        ("chat-0", "", False),
        ("chat-1", "", True),
        ("chat-2", "chat-0", True),
    ]


def test_n2_terminate_first_keeps_min_available() -> None:
    """All three are on the node: one may be missed at a time, and the next waits until its place is taken again."""
    three = [held(f"chat-{number}", 1, "n1") for number in range(3)]
    state = serving(
        ask(3, least=2, blocks=1), nodes=[cordoned("n1", 3), part("n2", 3)], holdings=three, choice=TERMINATE_FIRST
    )
    plan = planned(state)
    assert leaving(plan) == ["chat-0"]
    starting = replace(state, holdings=plan.holdings, available=frozenset({"chat-1", "chat-2"}))
    assert leaving(planned(starting)) == ["chat-0"]
    assert leaving(planned(replace(starting, available=starting.available | {"chat-3"}))) == ["chat-0", "chat-1"]


def test_n2_by_default_all_instances_are_to_serve_so_terminate_first_stops_none_and_moves_as_replace_first() -> None:
    nodes = [cordoned("n1", 3), part("n2", 6)]
    plan = planned(serving(ask(2), nodes=nodes, holdings=FULL, choice=TERMINATE_FIRST))
    assert members(plan) == ["chat-0", "chat-1", "chat-2"]
    full = planned(serving(ask(2), nodes=FULL_NODES, holdings=FULL, choice=TERMINATE_FIRST))
    assert full.blocked_moves == {"chat": BlockedMove("chat-0", "n1", 300, 0, "minAvailable is 2")}


@pytest.mark.parametrize("accept", [False, True])
def test_c6_terminate_first_keeps_the_minimum_of_the_offering_unless_that_is_given_up(accept: bool) -> None:
    state = serving(ask(2, least=1, minimum=2, accept=accept), nodes=FULL_NODES, holdings=FULL, choice=TERMINATE_FIRST)
    plan = planned(state)
    assert leaving(plan) == (["chat-0"] if accept else [])
    if not accept:
        assert "upgrade.acceptBelowMinimum" in plan.blocked_moves["chat"].hint


def test_c6_members_of_a_sibling_that_serve_count_towards_the_minimum() -> None:
    mine = replace(asks("chat", 1, minimum=2, offering="m", blocks=3), min_available=0)
    other = asks("also", 2, minimum=2, offering="m", blocks=1)
    holdings = [held("chat-0", 3, "n1"), held("also-0", 1, "n2"), held("also-1", 1, "n2")]
    state = serving(mine, other, nodes=FULL_NODES, holdings=holdings, choice=TERMINATE_FIRST)
    assert leaving(planned(state)) == ["chat-0"]
    assert leaving(planned(replace(state, available=state.available - {"also-1"}))) == []


def test_n2_a_start_that_fails_never_flips_the_strategy() -> None:
    """chat-2 does not come up: nobody else is stopped, and nobody is doubled instead."""
    holdings = [held("chat-1", 3, "n1"), held("chat-2", 3, "n3")]
    state = serving(
        ask(2, least=1),
        nodes=[cordoned("n1", 3), part("n2", 3), part("n3", 3)],
        holdings=holdings,
        but=["chat-2"],
        choice=TERMINATE_FIRST,
    )
    plan = planned(state)
    assert plan.holdings == state.holdings
    assert plan.blocked_moves == {}
    first = planned(replace(state, replacement=NodeReplacement()))
    assert members(first) == ["chat-0", "chat-1", "chat-2"]
    assert leaving(planned(replace(state, holdings=first.holdings, replacement=NodeReplacement()))) == []


@pytest.mark.parametrize("freeze", [Freeze.EVERYTHING, Freeze.GROWTH])
def test_n2_terminate_first_gives_up_nobody_who_would_not_be_placed_again(freeze: Freeze) -> None:
    state = serving(ask(3, least=1, freeze=freeze), nodes=FULL_NODES, holdings=FULL, choice=TERMINATE_FIRST)
    plan = planned(state)
    assert members(plan) == ["chat-0", "chat-1"]
    assert "its spec can be acted on" in plan.blocked_moves["chat"].hint
    roomy = replace(state, nodes=(cordoned("n1", 3), part("n2", 6)), contracted_blocks=9)
    assert leaving(planned(roomy)) == ["chat-0"]


def test_n1_on_a_failed_node_there_is_nothing_left_to_stop_with_either_strategy() -> None:
    for choice in (NodeReplacement(), TERMINATE_FIRST):
        nodes = [failed("n1", 3), part("n2", 3)]
        plan = planned(serving(ask(2, least=1), nodes=nodes, holdings=FULL, but=["chat-0"], choice=choice))
        assert members(plan) == ["chat-0", "chat-1"]
        assert plan.blocked_moves == {"chat": BlockedMove("chat-0", "n1", 300, 0, failed=True)}


# ------------------------------------------------------------------------------------------- maxUnavailableNodes (N2)


@pytest.mark.parametrize(("most", "moving"), [(1, ["chat-0"]), (2, ["chat-0", "chat-2"])])
def test_n2_members_leave_so_many_nodes_at_a_time_and_each_of_them_one_by_one(most: int, moving: list[str]) -> None:
    holdings = [held(f"chat-{number}", 1, node) for number, node in enumerate(["n1", "n1", "n2", "n3"])]
    nodes = [cordoned("n1", 2), cordoned("n2", 1), cordoned("n3", 1), part("n4", 4)]
    state = serving(
        ask(4, blocks=1), nodes=nodes, holdings=holdings, choice=NodeReplacement(max_unavailable_nodes=most)
    )
    assert sorted(succeeded(planned(state).holdings)) == moving


@pytest.mark.parametrize(("most", "stopped"), [(1, ["chat-0", "chat-1"]), (2, ["chat-0", "chat-1", "chat-2"])])
def test_n2_terminate_first_empties_so_many_nodes_and_no_more(most: int, stopped: list[str]) -> None:
    holdings = [held(f"chat-{number}", 1, node) for number, node in enumerate(["n1", "n1", "n2", "n3"])]
    nodes = [cordoned("n1", 2), cordoned("n2", 1), cordoned("n3", 1)]
    choice = replace(TERMINATE_FIRST, max_unavailable_nodes=most)
    state = serving(ask(4, least=0, blocks=1), nodes=nodes, holdings=holdings, choice=choice)
    plan = planned(state)
    assert leaving(plan) == stopped
    gone = planned(replace(state, holdings=plan.holdings, gone=frozenset(stopped)))
    assert leaving(gone) == []
    assert f"maxUnavailableNodes is {most}" not in str(gone.blocked_moves) or not gone.waits


def test_n2_a_failed_node_whose_blocks_are_not_replaced_counts_as_one_that_is_unavailable() -> None:
    holdings = [held("chat-0", 3, "n1"), held("chat-1", 3, "n2"), held("chat-2", 3, "n3")]
    nodes = [failed("n1", 3), cordoned("n2", 3), part("n3", 3)]
    state = serving(ask(3, least=1), nodes=nodes, holdings=holdings, but=["chat-0"], choice=TERMINATE_FIRST)
    assert leaving(planned(state)) == []
    two = replace(state, replacement=replace(TERMINATE_FIRST, max_unavailable_nodes=2))
    assert leaving(planned(two)) == ["chat-1"]


@pytest.mark.parametrize(("at_once", "blocks"), [(1, 3), (2, 7), (3, 12)])
def test_n2_so_many_nodes_are_replaced_at_once(at_once: int, blocks: int) -> None:
    nodes = [LeavingNode(name, size, size, failed=True) for name, size in (("a", 3), ("b", 4), ("c", 5))]
    assert next_replacement(nodes, coverage(nodes, 0), at_once) == blocks


def test_n2_a_covered_node_counts_until_nobody_is_held_there() -> None:
    busy = [LeavingNode("a", 3, 2, failed=True), LeavingNode("b", 4, 4, failed=True)]
    assert next_replacement(busy, coverage(busy, 3)) == 0
    assert next_replacement(busy, coverage(busy, 3), 2) == 4
    left = [LeavingNode("a", 3, 0, failed=True), LeavingNode("b", 4, 4, failed=True)]
    assert next_replacement(left, coverage(left, 3)) == 4


# ------------------------------------------------------------------------------------------------ what a drain may evict


def test_r1_a_drain_may_evict_what_min_available_leaves() -> None:
    holdings = [held(f"chat-{number}") for number in range(3)]
    assert spare_members([ask(3, least=2)], holdings) == {"chat": 1}
    assert spare_members([ask(3)], holdings) == {"chat": 0}
    assert spare_members([ask(4, least=2)], holdings[:2]) == {"chat": 0}, "two that hold are all that may serve"
    assert spare_members([ask(3, least=2)], [*holdings, releasing("chat-3")]) == {"chat": 1}


def test_c6_a_drain_evicts_no_offering_below_its_minimum_unless_that_is_given_up() -> None:
    holdings = [held(f"{name}-{number}") for name in ("a", "b") for number in range(2)]
    both = [replace(asks(name, 2, minimum=3, offering="m"), min_available=0) for name in ("a", "b")]
    assert spare_members(both, holdings) == {"a": 1, "b": 0}
    given_up = [both[0], replace(both[1], accept_below_minimum=True)]
    assert spare_members(given_up, holdings) == {"a": 1, "b": 2}

"""Holdings: who holds which blocks of a pool, and why the others wait (behaviour.md C1, C5-C7, C9, I2, I3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reserved_capacity.domain.holdings import (
    MAX_MEMBERS,
    Freeze,
    PoolCapacity,
    PoolNode,
    PoolState,
    Wait,
    Waiting,
    blocks_held_by_node,
    capacity_of,
    effective_desired,
    held_count,
)
from tests.unit.domain.builders import LATER, NOW, asks, held, leaving, members, part, planned, pool, releasing


def wait_of(state: PoolState, instance: str = "chat") -> Wait:
    return planned(state).waits[instance]


# --------------------------------------------------------------------------------------------------- grants (C5, C6, R1)


def test_issue_3_two_members_of_300_cu_are_placed_on_600_cu() -> None:
    plan = planned(pool(asks("chat", 2, minimum=2)))
    assert members(plan) == ["chat-0", "chat-1"]
    assert [(each.blocks, each.nodes, each.since) for each in plan.holdings] == [(3, ("gpu-1",), LATER)] * 2
    assert plan.waits == {}
    assert plan.notes == ("granted 300 CU on gpu-1 to chat-0", "granted 300 CU on gpu-1 to chat-1")


def test_c6_the_first_placement_grants_the_minimum_whole_or_not_at_all() -> None:
    one_fits = pool(asks("chat", 2, minimum=2), nodes=[part(blocks=5)], contracted=6)
    plan = planned(one_fits)
    assert plan.holdings == ()
    assert plan.waits["chat"].need_cu == 600
    assert plan.waits["chat"].have_cu == 500


def test_c6_above_the_minimum_instances_come_one_at_a_time() -> None:
    plan = planned(pool(asks("chat", 4, minimum=2), nodes=[part(blocks=9)]))
    assert members(plan) == ["chat-0", "chat-1", "chat-2"]
    assert plan.waits["chat"] == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 300, 0)


def test_c6_the_minimum_is_summed_over_the_instances_of_an_offering_whatever_their_priorities() -> None:
    state = pool(
        asks("urgent", 1, minimum=2, offering="gpt-4-turbo", priority=10),
        asks("middle", 4, blocks=1, priority=5),
        asks("calm", 1, minimum=2, offering="gpt-4-turbo", priority=0),
    )
    plan = planned(state)
    assert members(plan) == ["calm-0", "urgent-0"]
    assert plan.waits["middle"].need_cu == 100


def test_c6_who_asks_first_is_part_of_its_own_batch() -> None:
    state = pool(
        asks("first", 1, minimum=2, offering="m", priority=1),
        asks("second", 3, minimum=2, offering="m"),
    )
    assert members(planned(state)) == ["first-0", "second-0"]


def test_c6_a_batch_that_finds_no_place_makes_every_instance_of_it_wait() -> None:
    state = pool(
        asks("a", 1, minimum=2, offering="m"),
        asks("b", 1, minimum=2, offering="m"),
        nodes=[part(blocks=5)],
    )
    plan = planned(state)
    assert plan.holdings == ()
    assert plan.waits == dict.fromkeys(("a", "b"), Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 600, 500))


def test_c6_an_offering_that_can_never_reach_its_minimum_gets_nothing_and_says_so() -> None:
    plan = planned(pool(asks("chat", 1, minimum=2)))
    assert plan.holdings == ()
    assert plan.waits["chat"] == Wait(Waiting.BELOW_MINIMUM_INSTANCES, 600, 600)


def test_c6_frozen_instances_do_not_help_to_reach_a_minimum() -> None:
    state = pool(
        asks("frozen", 1, minimum=2, offering="m", freeze=Freeze.EVERYTHING),
        asks("free", 1, minimum=2, offering="m"),
    )
    plan = planned(state)
    assert plan.holdings == ()
    assert plan.waits["free"].reason is Waiting.BELOW_MINIMUM_INSTANCES


def test_c6_what_a_frozen_instance_holds_counts_towards_the_minimum() -> None:
    state = pool(
        asks("frozen", 3, minimum=2, offering="m", freeze=Freeze.EVERYTHING),
        asks("free", 1, minimum=2, offering="m"),
        holdings=[held("frozen-0")],
    )
    assert members(planned(state)) == ["free-0", "frozen-0"]


def test_c6_members_that_are_being_released_do_not_count_towards_the_minimum() -> None:
    state = pool(
        asks("chat", 2, minimum=2),
        nodes=[part(blocks=9)],
        holdings=[releasing("chat-0"), releasing("chat-1")],
    )
    plan = planned(state)
    assert members(plan) == []
    assert plan.waits["chat"] == Wait(Waiting.WAITING_FOR_RELEASE, 600, 300)


def test_i8_a_sibling_that_lifts_the_offering_to_its_minimum_lets_the_others_grow_in_the_same_plan() -> None:
    """Members that run may be larger than the offering is today (R3), so the batches of siblings differ."""
    state = pool(
        asks("large", 3, blocks=3, minimum=3, offering="m", priority=1),
        asks("small", 2, blocks=1, minimum=3, offering="m"),
        nodes=[part(blocks=8)],
    )
    plan = planned(state)
    assert members(plan) == ["large-0", "large-1", "small-0", "small-1"]
    assert plan.waits == {"large": Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 300, 0)}


def test_c6_after_a_loss_below_the_minimum_growth_lifts_to_it_whole() -> None:
    state = pool(asks("chat", 3, minimum=3), holdings=[held("chat-0")], nodes=[part(blocks=8)])
    assert members(planned(state)) == ["chat-0"]
    assert members(planned(pool(*state.demands, holdings=state.holdings, nodes=[part(blocks=9)]))) == [
        "chat-0",
        "chat-1",
        "chat-2",
    ]


def test_c5_priority_comes_first_then_creation_time_then_uid() -> None:
    def winner(*demands: tuple[str, int, int]) -> list[str]:
        asked = [asks(name, 1, blocks=6, priority=priority, age=age) for name, priority, age in demands]
        return members(planned(pool(*asked)))

    assert winner(("old", 0, 99), ("urgent", 1, 0)) == ["urgent-0"]
    assert winner(("young", 0, 1), ("old", 0, 2)) == ["old-0"]
    assert winner(("b", 0, 1), ("a", 0, 1)) == ["a-0"]


def test_c5_a_small_request_that_fits_is_not_starved_behind_a_big_one_that_does_not() -> None:
    state = pool(asks("big", 1, blocks=8, priority=9), asks("small", 1, blocks=1))
    plan = planned(state)
    assert members(plan) == ["small-0"]
    assert set(plan.waits) == {"big"}


def test_c5_what_waits_holds_back_nobody_whatever_its_priority() -> None:
    """Room that has to be kept together is what a change set is for (ADR 0017)."""
    big, small = asks("big", 1, blocks=3, priority=10), asks("small", 4, blocks=1)
    state = pool(big, small, nodes=[part(blocks=4)], holdings=[held("small-0", 1), held("small-1", 1)])
    plan = planned(state)
    assert members(plan) == ["small-0", "small-1", "small-2", "small-3"]
    assert plan.waits["big"] == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 300, 0)


def test_c5_a_serving_instance_is_never_preempted() -> None:
    state = pool(asks("urgent", 2, priority=99), asks("calm", 2), holdings=[held("calm-0"), held("calm-1")])
    plan = planned(state)
    assert members(plan) == ["calm-0", "calm-1"]
    assert plan.waits["urgent"].reason is Waiting.WAITING_FOR_COMPUTE_UNITS


def test_r1_a_new_member_gets_the_lowest_ordinal_that_is_not_in_use() -> None:
    state = pool(
        asks("chat", 4, blocks=1),
        holdings=[held("chat-1", 1), releasing("chat-2", 1)],
        taken=["chat-0", "chat-4"],
    )
    assert members(planned(state)) == ["chat-1", "chat-3", "chat-5", "chat-6"]


def test_r1_the_name_of_a_member_that_is_confirmed_gone_is_free_again() -> None:
    state = pool(asks("chat", 2), holdings=[held("chat-1"), releasing("chat-0")], gone=["chat-0"])
    plan = planned(state)
    assert members(plan) == ["chat-0", "chat-1"]
    assert [each.since for each in plan.holdings] == [LATER, NOW]


def test_c3_a_member_goes_where_it_fits_best_so_that_large_holes_stay_large() -> None:
    state = pool(asks("fast", 1, blocks=1), nodes=[part("a", 8), part("b", 1), part("c", 2)])
    assert planned(state).holdings[0].nodes == ("b",)


def test_nodes_that_are_not_usable_get_no_new_member() -> None:
    state = pool(asks("chat", 1), nodes=[part("cordoned", 3, usable=False), part("failed", 3, failed=True)])
    plan = planned(state)
    assert plan.holdings == ()
    assert plan.waits["chat"].reason is Waiting.NODES_UNHEALTHY


def test_an_instance_of_no_size_gets_nothing_since_its_offering_is_gone() -> None:
    plan = planned(pool(asks("orphan", 3, blocks=0)))
    assert plan.holdings == ()
    assert plan.waits == {}


def test_i2_no_more_is_granted_than_is_contracted_though_more_is_claimed() -> None:
    state = pool(asks("chat", 2), nodes=[part(blocks=6)], contracted=5)
    plan = planned(state)
    assert members(plan) == ["chat-0"]
    assert plan.waits["chat"] == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 300, 200)


def test_i2_what_is_held_on_a_node_that_is_gone_counts_against_the_contract() -> None:
    state = pool(
        asks("chat", 2),
        asks("fast", 1, blocks=1),
        nodes=[part("gpu-2", 6)],
        holdings=[held("chat-0", 3, "gone"), held("chat-1", 3, "gone")],
        contracted=6,
    )
    plan = planned(state)
    assert members(plan) == ["chat-0", "chat-1"]
    assert plan.waits["fast"] == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 100, 0)


def test_a_node_that_came_back_smaller_than_what_is_held_there_takes_nothing_and_hides_nothing() -> None:
    state = pool(
        asks("chat", 1, blocks=6),
        asks("fast", 4, blocks=1),
        nodes=[part("shrunk", 2), part("good", 4)],
        holdings=[held("chat-0", 6, "shrunk")],
        contracted=12,
    )
    plan = planned(state)
    assert [each.nodes for each in plan.holdings if each.instance == "fast"] == [("good",)] * 4


def test_a_pool_has_at_most_a_thousand_members() -> None:
    holdings = [held(f"chat-{number}", 1) for number in range(MAX_MEMBERS - 1)]
    state = pool(asks("chat", MAX_MEMBERS + 5, blocks=1), holdings=holdings, nodes=[part(blocks=2 * MAX_MEMBERS)])
    plan = planned(state)
    assert len(plan.holdings) == MAX_MEMBERS
    assert plan.waits["chat"] == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 100, 0)


# ------------------------------------------------------------------------------------------------------- releases (C7)


def test_issue_3_at_zero_all_members_are_releasing_and_others_wait_until_they_are_confirmed_gone() -> None:
    both = [held("chat-0"), held("chat-1")]
    chat, fast = asks("chat", 0, minimum=2), asks("fast", 1, blocks=1)
    told = planned(pool(chat, fast, holdings=both))
    assert leaving(told) == ["chat-0", "chat-1"]
    assert told.waits == {"fast": Wait(Waiting.WAITING_FOR_RELEASE, 100, 0)}
    assert told.notes == ("releasing chat-1: chat asks for 0", "releasing chat-0: chat asks for 0")

    again = planned(pool(chat, fast, holdings=told.holdings))
    assert again.holdings == told.holdings

    one = planned(pool(chat, fast, holdings=told.holdings, gone=["chat-1"]))
    assert leaving(one) == ["chat-0"]
    assert members(one) == ["fast-0"]
    assert one.notes == ("chat-1 is gone: 300 CU are idle again", "granted 100 CU on gpu-1 to fast-0")


def test_c7_a_member_that_holds_is_not_dropped_even_if_its_pods_are_gone() -> None:
    state = pool(asks("chat", 1), holdings=[held("chat-0")], gone=["chat-0"])
    assert members(planned(state)) == ["chat-0"]


def test_c7_a_deleted_instance_keeps_its_blocks_until_its_members_are_gone() -> None:
    plan = planned(pool(holdings=[held("chat-0")]))
    assert leaving(plan) == ["chat-0"]
    assert plan.notes == ("releasing chat-0: chat is deleted",)
    assert planned(pool(holdings=plan.holdings, gone=["chat-0"])).holdings == ()


def test_shrinking_releases_the_highest_ordinals_and_counts_them_as_numbers() -> None:
    holdings = [held(f"chat-{number}", 1) for number in (0, 2, 9, 10, 11)]
    plan = planned(pool(asks("chat", 3, blocks=1), holdings=holdings))
    assert sorted(leaving(plan)) == ["chat-10", "chat-11"]


@pytest.mark.parametrize("nodes", [[part("good", 6), part("bad", 6, usable=False)], [part("good", 6)]])
def test_shrinking_releases_members_off_unusable_or_missing_nodes_first(nodes: list[PoolNode]) -> None:
    holdings = [held("chat-0", 3, "bad"), held("chat-1", 3, "good")]
    plan = planned(pool(asks("chat", 1), nodes=nodes, holdings=holdings))
    assert leaving(plan) == ["chat-0"]


def test_an_instance_that_is_wanted_again_while_it_terminates_waits_for_itself() -> None:
    state = pool(asks("chat", 2), holdings=[releasing("chat-0"), releasing("chat-1")])
    plan = planned(state)
    assert leaving(plan) == ["chat-0", "chat-1"]
    assert plan.waits["chat"].reason is Waiting.WAITING_FOR_RELEASE


def test_releases_free_nothing_in_the_plan_that_makes_them() -> None:
    state = pool(asks("chat", 1), asks("fast", 1, blocks=3), holdings=[held("chat-0"), held("chat-1")])
    plan = planned(state)
    assert leaving(plan) == ["chat-1"]
    assert members(plan, "fast") == []


# ------------------------------------------------------------------------------------------------------------- freezing


def test_a_frozen_instance_keeps_what_it_holds_and_gets_nothing() -> None:
    for desired in (0, 1, 5):
        state = pool(asks("chat", desired, freeze=Freeze.EVERYTHING), holdings=[held("chat-0")])
        plan = planned(state)
        assert members(plan) == ["chat-0"]
        assert plan.waits == {}


def test_an_instance_that_may_not_grow_may_shrink() -> None:
    state = pool(asks("chat", 1, freeze=Freeze.GROWTH), holdings=[held("chat-0"), held("chat-1")])
    assert leaving(planned(state)) == ["chat-1"]
    grown = pool(asks("chat", 3, freeze=Freeze.GROWTH), holdings=[held("chat-0")], nodes=[part(blocks=9)])
    assert members(planned(grown)) == ["chat-0"]


def test_the_effective_wish_is_the_wish_unless_frozen() -> None:
    assert [effective_desired(asks(desired=5, freeze=freeze), 2) for freeze in Freeze] == [5, 2, 2, 2]
    assert [effective_desired(asks(desired=1, freeze=freeze), 2) for freeze in Freeze] == [1, 1, 2, 2]


# ------------------------------------------------------------------------------------------------- reasons (api.md, C9)


def test_issue_3_a_third_model_waits_with_need_100_have_0() -> None:
    state = pool(asks("chat", 2, minimum=2), asks("fast", 1, blocks=1), holdings=[held("chat-0"), held("chat-1")])
    assert wait_of(state, "fast") == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 100, 0)


def test_not_yet_provisioned_while_what_is_contracted_is_not_claimed() -> None:
    assert wait_of(pool(asks("chat", 2, minimum=2), nodes=[], contracted=6)) == Wait(
        Waiting.NOT_YET_PROVISIONED, 600, 0
    )
    assert wait_of(pool(asks("chat", 1), nodes=[part(blocks=2)], contracted=6)).reason is Waiting.NOT_YET_PROVISIONED


def test_not_yet_provisioned_only_if_what_is_to_come_is_enough() -> None:
    state = pool(asks("chat", 1), nodes=[part(blocks=1)], contracted=2)
    assert wait_of(state).reason is Waiting.WAITING_FOR_COMPUTE_UNITS


def test_blocks_that_members_hold_without_a_claim_come_back_to_them_and_not_to_those_that_wait() -> None:
    state = pool(
        asks("chat", 1),
        asks("fast", 1, blocks=1),
        nodes=[],
        holdings=[held("chat-0", 3, "re-created")],
        contracted=3,
    )
    assert wait_of(state, "fast") == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 100, 0)


def test_what_comes_back_to_its_holder_is_not_yet_to_be_provisioned_while_idle_units_are_on_a_failed_node() -> None:
    state = pool(
        asks("chat", 1),
        asks("other", 1),
        nodes=[part("bad", 3, failed=True)],
        holdings=[held("chat-0", 3, "re-created")],
        contracted=6,
    )
    assert wait_of(state, "other").reason is Waiting.NODES_UNHEALTHY


def test_waiting_for_release_if_what_is_released_makes_room_though_the_idle_sum_would_do() -> None:
    state = pool(
        asks("chat", 1),
        nodes=[part("a", 5), part("b", 2)],
        holdings=[releasing("old-0", 3, "a")],
    )
    assert wait_of(state) == Wait(Waiting.WAITING_FOR_RELEASE, 300, 400)


def test_c9_enough_compute_units_but_no_place_that_fits_is_fragmented() -> None:
    state = pool(asks("chat", 1), nodes=[part("a", 2), part("b", 2)])
    assert wait_of(state) == Wait(Waiting.FRAGMENTED, 300, 400)


def test_c9_a_node_with_more_held_than_claimed_does_not_hide_fragmentation() -> None:
    state = pool(
        asks("old", 1, blocks=4),
        asks("chat", 1),
        nodes=[part("a", 2), part("b", 2), part("shrunk", 1)],
        holdings=[held("old-0", 4, "shrunk")],
        contracted=8,
    )
    assert wait_of(state).reason is Waiting.FRAGMENTED


def test_nodes_unhealthy_if_the_rest_is_on_nodes_that_take_nothing() -> None:
    cordoned = pool(asks("chat", 1), nodes=[part("a", 2), part("b", 4, usable=False)])
    assert wait_of(cordoned) == Wait(Waiting.NODES_UNHEALTHY, 300, 600)
    failed = pool(asks("chat", 1), nodes=[part("a", 2), part("b", 4, failed=True)])
    assert wait_of(failed) == Wait(Waiting.NODES_UNHEALTHY, 300, 200)


def test_blocks_in_use_on_a_failed_node_are_no_hope_for_others() -> None:
    state = pool(
        asks("old", 1),
        asks("chat", 1),
        nodes=[part("bad", 3, failed=True)],
        holdings=[held("old-0", 3, "bad")],
    )
    assert wait_of(state).reason is Waiting.WAITING_FOR_COMPUTE_UNITS


def test_the_idle_units_in_a_reason_are_those_that_are_left_when_all_grants_are_made() -> None:
    state = pool(asks("big", 1, blocks=8, priority=9), asks("small", 4, blocks=1), nodes=[part(blocks=6)])
    assert wait_of(state, "big") == Wait(Waiting.WAITING_FOR_COMPUTE_UNITS, 800, 200)


# --------------------------------------------------------------------------------------------- sums (api.md, identities)


def test_every_block_is_counted_once_unhealthy_before_allocated_before_idle() -> None:
    nodes = [part("good", 8), part("bad", 6, failed=True), part("cordoned", 4, usable=False)]
    holdings = [held("a-0", 3, "good"), releasing("a-1", 2, "good"), held("b-0", 3, "bad"), held("c-0", 1, "cordoned")]
    assert capacity_of(nodes, holdings) == PoolCapacity(provisioned=18, allocated=6, idle=6, unhealthy=6, releasing=2)
    assert capacity_of(nodes, holdings).usable == 12


def test_no_more_is_allocated_on_a_node_than_is_claimed_there() -> None:
    assert capacity_of([part("shrunk", 2)], [held("a-0", 3, "shrunk")]) == PoolCapacity(
        provisioned=2, allocated=2, idle=0, unhealthy=0, releasing=0
    )


def test_a_member_on_several_nodes_holds_equal_parts_of_each() -> None:
    spread = held("big-0", 8, "a", "b")
    assert spread.blocks_per_node == 4
    assert blocks_held_by_node([spread, held("small-0", 1, "b")]) == {"a": 4, "b": 5}


def test_a_holding_without_nodes_holds_no_block_of_any() -> None:
    nowhere = replace(held("chat-0"), nodes=())
    assert nowhere.blocks_per_node == 0
    assert blocks_held_by_node([nowhere]) == {}


def test_members_that_are_being_released_are_not_counted_as_held() -> None:
    assert held_count("chat", [held("chat-0"), releasing("chat-1"), held("other-0")]) == 1


def test_c9_the_message_names_the_smallest_move_that_would_make_room() -> None:
    nodes = (part("gpu-0", 3), part("gpu-1", 3))
    holdings = (held("fast-0", 1, "gpu-0"), held("fast-1", 1, "gpu-1"))
    plan = planned(pool(asks("fast", 2, blocks=1), asks("large", 1, blocks=3), nodes=nodes, holdings=holdings))
    wait = plan.waits["large"]
    assert (wait.reason, wait.need_cu, wait.have_cu) == (Waiting.FRAGMENTED, 300, 400)
    assert wait.remedy == "moving fast (fast-0) from gpu-0 to gpu-1 would make room"
    assert [request.blocks for request in plan.wanted] == [3]

"""Claims: which nodes give blocks to which pools (behaviour.md C1-C4, C7, C11, N2, I2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from reserved_capacity.domain.claims import plan_claims
from reserved_capacity.domain.holdings import Request
from reserved_capacity.domain.nodes import Claim, PoolId
from tests.unit.domain.builders import BATCH, NOW, PROD, apply_claims, claims_after, inventory_node, owed


def test_c3_600_cu_on_one_800_cu_node_claim_six_of_its_blocks() -> None:
    nodes = [inventory_node("gpu-1")]
    plan = plan_claims(nodes, [owed(blocks=6)], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 6}}
    assert plan.missing_blocks == {PROD: 0}
    assert plan.changes[0].reasons == ("claimed 6 blocks for acme/prod",)


def test_c3_whole_nodes_are_claimed_first_and_the_rest_where_it_fits_best() -> None:
    nodes = [
        inventory_node("a-half", claims={BATCH: 4}),
        inventory_node("b-tight", claims={BATCH: 6}),
        inventory_node("c-whole"),
        inventory_node("d-whole"),
    ]
    plan = plan_claims(nodes, [owed(blocks=10), owed(BATCH, 10)], occupied={})
    after = claims_after(nodes, plan)
    assert after["c-whole"] == {PROD: 8}
    assert after["b-tight"] == {BATCH: 6, PROD: 2}
    assert "d-whole" not in after


def test_c3_a_node_in_part_spoilt_by_others_is_not_a_whole_one() -> None:
    nodes = [inventory_node("a", claims={BATCH: 1}), inventory_node("b")]
    plan = plan_claims(nodes, [owed(BATCH, 1), owed(blocks=8)], occupied={})
    assert claims_after(nodes, plan)["b"] == {PROD: 8}


def test_c3_of_nodes_that_are_wanted_whole_the_largest_come_first() -> None:
    nodes = [inventory_node("a", 4), inventory_node("b", 8)]
    plan = plan_claims(nodes, [owed(blocks=8)], occupied={})
    assert claims_after(nodes, plan) == {"b": {PROD: 8}}


def test_c3_a_rest_prefers_a_node_that_the_pool_is_on_to_one_that_fits_as_well() -> None:
    nodes = [inventory_node("a", claims={BATCH: 6}), inventory_node("b", claims={PROD: 6})]
    plan = plan_claims(nodes, [owed(blocks=8), owed(BATCH, 6)], occupied={})
    assert claims_after(nodes, plan)["b"] == {PROD: 8}


def test_c3_a_pool_stays_in_the_zone_where_it_is() -> None:
    nodes = [inventory_node("tight", 6, zone="a"), inventory_node("home", zone="b", claims={PROD: 1})]
    plan = plan_claims(nodes, [owed(blocks=7)], occupied={})
    assert claims_after(nodes, plan) == {"home": {PROD: 7}}


def test_c3_one_zone_that_fits_is_better_than_two_and_the_tightest_is_best() -> None:
    nodes = [
        *(inventory_node(f"a{number}", zone="a") for number in range(3)),
        *(inventory_node(f"b{number}", zone="b") for number in range(2)),
        inventory_node("c0", zone="c"),
    ]
    plan = plan_claims(nodes, [owed(blocks=16)], occupied={})
    assert set(claims_after(nodes, plan)) == {"b0", "b1"}


def test_c3_where_no_zone_fits_the_largest_is_filled_first() -> None:
    nodes = [
        inventory_node("a0", zone="a"),
        *(inventory_node(f"b{number}", zone="b") for number in range(2)),
        inventory_node("c0", zone="c"),
    ]
    plan = plan_claims(nodes, [owed(blocks=24)], occupied={})
    assert set(claims_after(nodes, plan)) == {"a0", "b0", "b1"}


def test_c4_what_cannot_be_claimed_is_a_number_and_not_an_error() -> None:
    nodes = [inventory_node("gpu-1", 4)]
    plan = plan_claims(nodes, [owed(blocks=6)], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 4}}
    assert plan.missing_blocks == {PROD: 2}


def test_n1_nothing_new_is_claimed_on_nodes_that_are_not_ready_cordoned_or_failed() -> None:
    nodes = [
        inventory_node("not-ready", ready=False),
        inventory_node("cordoned", cordoned=True),
        inventory_node("failed", failed=True),
    ]
    plan = plan_claims(nodes, [owed(blocks=6)], occupied={})
    assert plan.changes == ()
    assert plan.missing_blocks == {PROD: 6}


def test_n1_claims_on_a_node_that_becomes_unusable_stay_and_are_not_claimed_twice() -> None:
    nodes = [inventory_node("bad", claims={PROD: 6}, ready=False), inventory_node("good")]
    plan = plan_claims(nodes, [owed(blocks=6)], occupied={})
    assert plan.changes == ()


def test_c11_blocks_whose_gpus_foreign_pods_use_are_not_free() -> None:
    nodes = [inventory_node("gpu-1", claims={BATCH: 3}, foreign=2)]
    plan = plan_claims(nodes, [owed(BATCH, 3), owed(blocks=6)], occupied={})
    assert claims_after(nodes, plan)["gpu-1"] == {BATCH: 3, PROD: 3}
    assert plan.missing_blocks[PROD] == 3


def test_who_bought_first_is_provisioned_first() -> None:
    nodes = [inventory_node("gpu-1")]
    demands = [owed(PROD, 6, since=NOW), owed(BATCH, 6, since=NOW - timedelta(days=1))]
    plan = plan_claims(nodes, demands, occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {BATCH: 6, PROD: 2}}
    assert plan.missing_blocks == {BATCH: 0, PROD: 4}


def test_the_claims_of_others_are_never_touched() -> None:
    nodes = [inventory_node("gpu-1", claims={BATCH: 8}), inventory_node("gpu-2")]
    plan = plan_claims(nodes, [owed(blocks=6), owed(BATCH, 8, held={"gpu-1": 8})], occupied={})
    assert [change.node for change in plan.changes] == ["gpu-2"]


def test_c7_claims_of_a_pool_that_is_gone_stay_until_nothing_of_it_runs_there() -> None:
    nodes = [inventory_node("gpu-1", claims={BATCH: 8})]
    occupied = {(BATCH, "gpu-1"): 3}
    waiting = plan_claims(nodes, [owed(blocks=6)], occupied=occupied)
    assert waiting.changes == ()
    assert waiting.missing_blocks == {PROD: 6}
    free = plan_claims(nodes, [owed(blocks=6)], occupied={})
    assert claims_after(nodes, free) == {"gpu-1": {PROD: 6}}


def test_m9_a_pool_that_is_made_again_under_its_name_takes_over_the_claims_of_the_old() -> None:
    again = PoolId(PROD.namespace, PROD.name, "another-uid")
    nodes = [inventory_node("gpu-1", claims={PROD: 6})]
    plan = plan_claims(nodes, [owed(again, 6)], occupied={(PROD, "gpu-1"): 6})
    assert claims_after(nodes, plan) == {"gpu-1": {again: 6}}


def test_n2_a_node_that_comes_back_without_its_claims_is_restored_to_its_holder_before_anybody_grows() -> None:
    nodes = [inventory_node("gpu-1")]
    older = owed(BATCH, 8, since=NOW - timedelta(days=9))
    plan = plan_claims(nodes, [older, owed(PROD, 6, held={"gpu-1": 6})], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 6, BATCH: 2}}


def test_n2_nothing_is_claimed_in_place_of_blocks_that_members_hold_on_a_node_that_is_gone() -> None:
    nodes = [inventory_node("gpu-2")]
    plan = plan_claims(nodes, [owed(blocks=6, held={"gone": 6})], occupied={})
    assert plan.changes == ()
    assert plan.missing_blocks == {PROD: 0}


def test_n2_the_idle_part_of_a_node_that_is_gone_is_claimed_anew() -> None:
    nodes = [inventory_node("gpu-2")]
    plan = plan_claims(nodes, [owed(blocks=6, held={"gone": 4})], occupied={})
    assert claims_after(nodes, plan) == {"gpu-2": {PROD: 2}}


def test_n2_a_node_that_comes_back_smaller_is_restored_as_far_as_it_goes_and_the_rest_is_not_replaced() -> None:
    nodes = [inventory_node("gpu-1", 4), inventory_node("gpu-2")]
    plan = plan_claims(nodes, [owed(blocks=6, held={"gpu-1": 6})], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 4}}


def test_n2_a_claim_is_restored_also_on_a_node_that_takes_nothing_new() -> None:
    nodes = [inventory_node("gpu-1", cordoned=True)]
    plan = plan_claims(nodes, [owed(blocks=6, held={"gpu-1": 6})], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 6}}


def test_n2_a_claim_is_restored_in_the_same_plan_that_frees_its_place() -> None:
    nodes = [inventory_node("gpu-1", claims={BATCH: 8})]
    plan = plan_claims(nodes, [owed(BATCH, 0), owed(blocks=6, held={"gpu-1": 6})], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 6}}


def test_i2_idle_claims_above_the_contract_are_given_back_and_held_ones_never() -> None:
    nodes = [inventory_node("gpu-1", claims={PROD: 8})]
    plan = plan_claims(nodes, [owed(blocks=3, held={"gpu-1": 5})], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 5}}
    assert plan.missing_blocks == {PROD: 0}


def test_i2_fully_idle_nodes_are_given_back_before_the_idle_rest_of_a_node_in_use() -> None:
    nodes = [inventory_node("a-used", claims={PROD: 8}), inventory_node("b-idle", claims={PROD: 4})]
    plan = plan_claims(nodes, [owed(blocks=8, held={"a-used": 5})], occupied={})
    assert claims_after(nodes, plan) == {"a-used": {PROD: 8}}


def test_i2_the_smallest_rest_is_given_back_first_so_that_what_stays_is_whole() -> None:
    nodes = [inventory_node("a-whole", claims={PROD: 8}), inventory_node("b-rest", claims={PROD: 2})]
    plan = plan_claims(nodes, [owed(blocks=8)], occupied={})
    assert claims_after(nodes, plan) == {"a-whole": {PROD: 8}}


def test_i2_what_nobody_can_use_now_is_given_back_before_what_serves() -> None:
    nodes = [inventory_node("a-good", claims={PROD: 6}), inventory_node("b-bad", claims={PROD: 6}, failed=True)]
    plan = plan_claims(nodes, [owed(blocks=6)], occupied={})
    assert claims_after(nodes, plan) == {"a-good": {PROD: 6}}


def test_i2_blocks_held_on_a_node_that_is_gone_count_against_the_contract_since_it_may_come_back() -> None:
    nodes = [inventory_node("gpu-2", claims={PROD: 6})]
    plan = plan_claims(nodes, [owed(blocks=6, held={"gone": 4})], occupied={})
    assert claims_after(nodes, plan) == {"gpu-2": {PROD: 2}}


def test_c3_idle_claims_on_blocks_that_a_node_has_no_more_are_swapped_for_real_ones() -> None:
    nodes = [inventory_node("shrunk", 4, claims={PROD: 8}), inventory_node("spare")]
    plan = plan_claims(nodes, [owed(blocks=8, held={"shrunk": 3})], occupied={})
    assert claims_after(nodes, plan) == {"shrunk": {PROD: 4}, "spare": {PROD: 4}}


def test_c3_a_swap_never_moves_what_members_hold() -> None:
    nodes = [inventory_node("shrunk", 2, claims={PROD: 8}), inventory_node("spare")]
    plan = plan_claims(nodes, [owed(blocks=8, held={"shrunk": 5})], occupied={})
    assert claims_after(nodes, plan) == {"shrunk": {PROD: 5}, "spare": {PROD: 3}}


def test_n1_a_node_whose_gpus_are_not_counted_yet_loses_nothing_where_there_is_nothing_to_swap_with() -> None:
    nodes = [inventory_node("booting", 0, claims={PROD: 8})]
    waiting = owed(BATCH, 8, since=NOW - timedelta(days=1))
    assert plan_claims(nodes, [waiting, owed(blocks=8)], occupied={}).changes == ()


def test_n1_a_node_that_is_not_ready_is_not_believed_to_have_fewer_blocks() -> None:
    nodes = [inventory_node("silent", 0, claims={PROD: 8}, ready=False), inventory_node("spare")]
    assert plan_claims(nodes, [owed(blocks=8)], occupied={}).changes == ()


def test_a_swap_comes_after_the_growth_of_every_pool_that_is_owed_something() -> None:
    nodes = [inventory_node("shrunk", 4, claims={PROD: 8}), inventory_node("spare")]
    plan = plan_claims(nodes, [owed(blocks=8), owed(BATCH, 8, since=NOW + timedelta(days=1))], occupied={})
    assert claims_after(nodes, plan) == {"shrunk": {PROD: 8}, "spare": {BATCH: 8}}


def test_i2_nodes_that_only_lose_claims_are_written_before_those_that_gain() -> None:
    nodes = [inventory_node("a-spare"), inventory_node("b-shrunk", 4, claims={PROD: 8})]
    plan = plan_claims(nodes, [owed(blocks=8)], occupied={})
    assert [change.node for change in plan.changes] == ["b-shrunk", "a-spare"]


def test_c1_an_annotation_that_names_a_pool_twice_gives_it_the_sum() -> None:
    twice = replace(inventory_node("gpu-1"), claims=(Claim(BATCH, 3), Claim(BATCH, 4)))
    plan = plan_claims([twice], [owed(blocks=4)], occupied={(BATCH, "gpu-1"): 1})
    assert claims_after([twice], plan) == {"gpu-1": {BATCH: 7, PROD: 1}}


def test_i8_a_settled_class_is_not_written() -> None:
    nodes = [inventory_node("gpu-1"), inventory_node("gpu-2")]
    demands = [owed(blocks=6), owed(BATCH, 10)]
    settled = apply_claims(nodes, plan_claims(nodes, demands, occupied={}))
    assert plan_claims(settled, demands, occupied={}).changes == ()


def test_n2_a_node_that_comes_back_bare_is_offered_to_who_last_had_it_before_anybody_grows() -> None:
    nodes = [inventory_node("gpu-1", 4)]
    older, late = owed(BATCH, 8, since=NOW - timedelta(days=1)), owed(PROD, 3)
    assert claims_after(nodes, plan_claims(nodes, [older, late], occupied={})) == {"gpu-1": {BATCH: 4}}
    back = replace(late, last_held={"gpu-1": 3, "gpu-2": 1})
    assert claims_after(nodes, plan_claims(nodes, [older, back], occupied={})) == {"gpu-1": {BATCH: 1, PROD: 3}}


def test_n2_what_has_been_found_elsewhere_is_not_taken_back() -> None:
    nodes = [inventory_node("gpu-1", 4), inventory_node("gpu-2", 4, claims={PROD: 3})]
    back = replace(owed(PROD, 3), last_held={"gpu-1": 3})
    assert plan_claims(nodes, [back], occupied={}).changes == ()


def test_n2_a_cordoned_nodes_idle_blocks_are_claimed_elsewhere_once_somebody_waits_for_room() -> None:
    nodes = [inventory_node("gpu-1", cordoned=True, claims={PROD: 3}), inventory_node("gpu-2")]
    assert plan_claims(nodes, [owed(PROD, 3)], occupied={}).changes == ()
    waited_for = replace(owed(PROD, 3), wanted=(Request(3),))
    assert claims_after(nodes, plan_claims(nodes, [waited_for], occupied={})) == {"gpu-2": {PROD: 3}}


def test_c9_room_is_put_together_for_all_that_is_wanted_at_once() -> None:
    nodes = [inventory_node("gpu-1", 4, claims={PROD: 4}), inventory_node("gpu-2", 8, claims={PROD: 2})]
    one = replace(owed(PROD, 6), wanted=(Request(3),))
    assert plan_claims(nodes, [one], occupied={}).changes == ()
    both = replace(owed(PROD, 6), wanted=(Request(3), Request(3)))
    assert claims_after(nodes, plan_claims(nodes, [both], occupied={})) == {"gpu-1": {PROD: 3}, "gpu-2": {PROD: 3}}


def test_s2_what_rollouts_borrow_is_claimed_last_and_given_back_where_it_is_idle() -> None:
    nodes = [inventory_node("gpu-1"), inventory_node("gpu-2")]
    full = replace(owed(PROD, 6, held={"gpu-1": 6}), lent=3)
    lent = plan_claims(apply_claims(nodes, plan_claims(nodes, [owed(PROD, 6)], occupied={})), [full], occupied={})
    after = apply_claims([inventory_node("gpu-1", claims={PROD: 6}), nodes[1]], lent)
    assert sum(node.claimed_by(PROD) for node in after) == 9

    # The rollout is over, and one of its members has stayed on what was lent: as much goes back elsewhere.
    held = {node.name: node.claimed_by(PROD) for node in after}
    held[max(held)] -= 3
    done = plan_claims(after, [owed(PROD, 6, held=held)], occupied={})
    assert sum(node.claimed_by(PROD) for node in apply_claims(after, done)) == 6


def test_s2_nobody_lends_what_somebody_has_bought() -> None:
    nodes = [inventory_node("gpu-1", claims={PROD: 6})]
    plan = plan_claims(nodes, [replace(owed(PROD, 6, held={"gpu-1": 6}), lent=2), owed(BATCH, 4)], occupied={})
    assert claims_after(nodes, plan) == {"gpu-1": {PROD: 6, BATCH: 2}}
    assert plan.missing_blocks[BATCH] == 2

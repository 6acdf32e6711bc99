"""Eligibility: the ordered chain of checks on a ModelInstance's spec (api.md, reasons; behaviour.md C6, S8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from reserved_capacity.domain.eligibility import (
    InstanceFacts,
    OfferingFacts,
    PoolFacts,
    SnapshotFacts,
    Verdict,
    judge,
)
from reserved_capacity.domain.holdings import Freeze
from reserved_capacity.domain.reasons.instance import InstanceAccepted
from tests.unit.domain.builders import NOW, SNAPSHOT, instance_facts, offering_facts

POOL = PoolFacts("prod", "h100-8", 600)


def judged(*instances: InstanceFacts, offering: OfferingFacts | None = None) -> dict[str, Verdict]:
    offered = offering or offering_facts()
    return judge(POOL, {offered.name: offered}, instances, now=NOW)


def refusal_of(instance: InstanceFacts, offering: OfferingFacts | None = None) -> tuple[InstanceAccepted, str]:
    refusal = judged(instance, offering=offering)[instance.name].refusal
    assert refusal is not None
    return refusal.reason, refusal.message


def reasons(*instances: InstanceFacts, offering: OfferingFacts | None = None) -> dict[str, str | None]:
    verdicts = judged(*instances, offering=offering)
    return {name: verdict.refusal.reason.value if verdict.refusal else None for name, verdict in verdicts.items()}


def retired(hours: int, replacement: str = "") -> OfferingFacts:
    return offering_facts(snapshots={SNAPSHOT: SnapshotFacts(NOW + timedelta(hours=hours), replacement)})


def test_a_spec_that_can_be_acted_on_becomes_a_demand_as_it_is() -> None:
    verdict = judged(instance_facts(desired=2))["chat"]
    assert verdict.refusal is None
    demand = verdict.demand
    assert (demand.desired, demand.blocks_per_instance, demand.min_instances) == (2, 3, 2)
    assert demand.freeze is Freeze.NOTHING


@pytest.mark.parametrize(
    ("instance", "offering", "reason", "remedy"),
    [
        (instance_facts(offering="gpt-5"), None, InstanceAccepted.UNKNOWN_OFFERING, "create it"),
        (instance_facts(snapshot="0613"), None, InstanceAccepted.UNKNOWN_SNAPSHOT, f"one of {SNAPSHOT}"),
        (instance_facts(profile="fast"), None, InstanceAccepted.UNKNOWN_PROFILE, "one of default, low-latency"),
        (instance_facts(), offering_facts(sold=False), InstanceAccepted.NOT_SOLD_RESERVED, "TokenUnitReservation"),
        (instance_facts(), offering_facts(classes=("b200",)), InstanceAccepted.CLASS_NOT_OFFERED, "a pool of b200"),
        (instance_facts(), retired(-1, "new-one"), InstanceAccepted.SNAPSHOT_RETIRED, "set spec.snapshot to new-one"),
        (instance_facts(name_taken_by="Service chat"), None, InstanceAccepted.NAME_TAKEN, "Service chat exists"),
        (instance_facts(desired=1), None, InstanceAccepted.BELOW_MINIMUM_INSTANCES, "to 0 or to at least 2"),
        (instance_facts(desired=3), None, InstanceAccepted.EXCEEDS_POOL, "lower spec.instances to 2"),
    ],
)
def test_a_refusal_names_its_reason_and_the_next_step_and_freezes_what_is_held(
    instance: InstanceFacts, offering: OfferingFacts | None, reason: InstanceAccepted, remedy: str
) -> None:
    found, message = refusal_of(instance, offering)
    assert found is reason
    assert remedy in message
    growth_only = reason is InstanceAccepted.SNAPSHOT_RETIRED
    demand = judged(instance, offering=offering)[instance.name].demand
    assert demand.freeze is (Freeze.GROWTH if growth_only else Freeze.EVERYTHING)


def test_the_first_reason_that_matches_stands() -> None:
    """Every spec here is wrong in all the ways that come after the one that is reported."""
    offered = offering_facts(sold=False, classes=("b200",), nodes=2, snapshots={SNAPSHOT: SnapshotFacts(NOW)})
    wrong = instance_facts(desired=1, offering="none", snapshot="none", profile="none", name_taken_by="y")
    mends: list[Callable[[InstanceFacts, OfferingFacts], tuple[InstanceFacts, OfferingFacts]]] = [
        lambda instance, offering: (replace(instance, offering=offering.name), offering),
        lambda instance, offering: (replace(instance, snapshot=SNAPSHOT), offering),
        lambda instance, offering: (replace(instance, profile="default"), offering),
        lambda instance, offering: (instance, replace(offering, sold_reserved=True)),
        lambda instance, offering: (instance, replace(offering, accelerator_classes=frozenset({"h100-8"}))),
        lambda instance, offering: (instance, replace(offering, snapshots={SNAPSHOT: SnapshotFacts()})),
        lambda instance, offering: (replace(instance, name_taken_by=""), offering),
        lambda instance, offering: (replace(instance, desired=3), offering),
        lambda instance, offering: (replace(instance, desired=2), offering),
    ]
    order = []
    for mend in mends:
        order.append(refusal_of(wrong, offered)[0].value)
        wrong, offered = mend(wrong, offered)
    assert order == [
        "UnknownOffering",
        "UnknownSnapshot",
        "UnknownProfile",
        "NotSoldReserved",
        "ClassNotOffered",
        "SnapshotRetired",
        "NameTaken",
        "BelowMinimumInstances",
        "ExceedsPool",
    ]
    assert judged(wrong, offering=offered)["chat"].refusal is None


def test_issue_3_chat_at_three_exceeds_the_pool_and_says_need_and_have() -> None:
    reason, message = refusal_of(instance_facts(desired=3, held=2, held_blocks=3))
    assert reason is InstanceAccepted.EXCEEDS_POOL
    assert "need 900 CU for 3 instances, pool prod has 600 CU contracted" in message


def test_issue_3_chat_at_one_names_the_two_valid_counts() -> None:
    reason, message = refusal_of(instance_facts(desired=1, held=2, held_blocks=3))
    assert reason is InstanceAccepted.BELOW_MINIMUM_INSTANCES
    assert "set spec.instances to 0 or to at least 2" in message


def test_c6_zero_instances_are_always_a_valid_count() -> None:
    assert judged(instance_facts(desired=0, held=2))["chat"].refusal is None


def test_c6_the_floor_is_judged_over_all_instances_of_the_offering() -> None:
    assert reasons(instance_facts("a", 1), instance_facts("b", 1)) == {"a": None, "b": None}
    refused = judged(
        instance_facts("a", 1), instance_facts("b", 1), offering=offering_facts(minimum=3, compute_units=100)
    )
    assert {name: verdict.refusal and verdict.refusal.message for name, verdict in refused.items()} == dict.fromkeys(
        ("a", "b"),
        "gpt-4-turbo needs at least 3 instances on pool prod and 2 is asked for: set spec.instances to at least 2, or "
        "that of all to 0 (other ModelInstances ask for 1)",
    )


def test_c6_an_instance_of_another_offering_does_not_count() -> None:
    other = offering_facts("gpt-35", compute_units=100, minimum=1)
    offered = offering_facts()
    verdicts = judge(
        POOL,
        {offered.name: offered, other.name: other},
        [instance_facts("a", 1), instance_facts("b", 1, offering="gpt-35")],
        now=NOW,
    )
    assert verdicts["a"].refusal is not None
    assert verdicts["b"].refusal is None


def test_c6_who_is_refused_counts_for_what_it_holds() -> None:
    stuck = instance_facts("stuck", 5, snapshot="typo", held=1)
    assert reasons(stuck, instance_facts("b", 1)) == {"stuck": "UnknownSnapshot", "b": None}
    assert reasons(replace(stuck, held=0), instance_facts("b", 1))["b"] == "BelowMinimumInstances"


def test_c6_a_sibling_may_not_shrink_below_the_floor_on_the_strength_of_what_exceeds_the_pool() -> None:
    greedy = instance_facts("greedy", 100, held=1, held_blocks=3)
    shrinking = instance_facts("shrinking", 0, held=1, held_blocks=3)
    verdicts = judged(greedy, shrinking)
    assert reasons(greedy, shrinking) == {"greedy": "ExceedsPool", "shrinking": "BelowMinimumInstances"}
    assert verdicts["shrinking"].demand.freeze is Freeze.EVERYTHING


def test_c6_who_is_kept_by_its_change_set_counts_for_what_it_holds() -> None:
    waiting, shrinking = instance_facts("waiting", 1), instance_facts("shrinking", 1, held=2)
    assert reasons(waiting, shrinking) == {"waiting": None, "shrinking": None}
    offered = offering_facts()
    verdicts = judge(POOL, {offered.name: offered}, [waiting, shrinking], now=NOW, kept={"waiting"})
    refusal = verdicts["shrinking"].refusal
    assert refusal is not None
    assert refusal.reason is InstanceAccepted.BELOW_MINIMUM_INSTANCES


def test_c6_after_the_deletion_of_a_sibling_the_survivor_keeps_what_it_holds() -> None:
    verdict = judged(instance_facts("survivor", 1, held=1))["survivor"]
    assert verdict.refusal is not None
    assert verdict.refusal.reason is InstanceAccepted.BELOW_MINIMUM_INSTANCES
    assert verdict.demand.freeze is Freeze.EVERYTHING


def test_exceeds_pool_is_about_one_object_alone() -> None:
    assert reasons(instance_facts("a", 2), instance_facts("b", 2)) == {"a": None, "b": None}


def test_exceeds_pool_does_not_freeze_what_is_held_already_when_the_contract_shrinks() -> None:
    assert judged(instance_facts(desired=3, held=4, held_blocks=3))["chat"].refusal is None


def test_exceeds_pool_never_advises_a_count_below_the_minimum() -> None:
    big = offering_facts(compute_units=500, minimum=2)
    assert "lower spec.instances to 0 or add a commitment" in refusal_of(instance_facts(desired=2), big)[1]


def test_r3_growth_repeats_the_size_of_what_runs_whatever_the_offering_says_today() -> None:
    edited = offering_facts(compute_units=200)
    verdict = judged(instance_facts(desired=2, held=1, held_blocks=3), offering=edited)["chat"]
    assert verdict.demand.blocks_per_instance == 3
    assert refusal_of(instance_facts(desired=3, held=1, held_blocks=3), edited)[0] is InstanceAccepted.EXCEEDS_POOL
    assert judged(instance_facts(desired=3), offering=edited)["chat"].refusal is None


def test_s8_a_retired_snapshot_stops_growth_only_and_only_from_its_moment_on() -> None:
    assert judged(instance_facts(), offering=retired(1))["chat"].refusal is None
    assert refusal_of(instance_facts(), retired(0))[0] is InstanceAccepted.SNAPSHOT_RETIRED
    assert judged(instance_facts(held=2), offering=retired(-1))["chat"].refusal is None
    assert "set spec.snapshot" not in refusal_of(instance_facts(), retired(-1))[1]


def test_s8_the_moment_of_retirement_is_told_in_utc() -> None:
    moment = NOW.astimezone(timezone(timedelta(hours=9, minutes=30)))
    offering = offering_facts(snapshots={SNAPSHOT: SnapshotFacts(moment)})
    assert "retired at 2026-03-01T12:00:00Z" in refusal_of(instance_facts(), offering)[1]


def test_without_its_offering_an_instance_keeps_what_it_holds_and_has_no_size_for_more() -> None:
    verdict = judge(POOL, {}, [instance_facts(held=2, held_blocks=3), instance_facts("new")], now=NOW)
    assert (verdict["chat"].demand.blocks_per_instance, verdict["new"].demand.blocks_per_instance) == (3, 0)
    assert {each.demand.freeze for each in verdict.values()} == {Freeze.EVERYTHING}

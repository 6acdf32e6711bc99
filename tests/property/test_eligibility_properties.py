"""Verdicts on any set of instances of a pool (behaviour.md C6, I3, I7)."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.eligibility import (
    InstanceFacts,
    OfferingFacts,
    PoolFacts,
    SnapshotFacts,
    Verdict,
    judge,
)
from reserved_capacity.domain.holdings import Freeze, effective_desired
from tests.property.worlds import NOW, shuffled

POOL = PoolFacts("prod", "h100-8", 1200)
SNAPSHOTS = {"v1": SnapshotFacts(), "old": SnapshotFacts(NOW - timedelta(days=1), "v1")}
OFFERINGS = {
    name: OfferingFacts(name, True, size, minimum, 1, "zone", frozenset({"h100-8"}), frozenset({"default"}), SNAPSHOTS)
    for name, size, minimum in (("big", 300, 2), ("mid", 200, 3), ("small", 100, 1))
}


@st.composite
def instance_lists(draw: st.DrawFn) -> tuple[InstanceFacts, ...]:
    instances = []
    for name in draw(st.sets(st.sampled_from("abcdef"))):
        held = draw(st.integers(0, 4))
        instances.append(
            InstanceFacts(
                name=name,
                uid=f"uid-{name}",
                offering=draw(st.sampled_from(("big", "big", "mid", "small", "unknown"))),
                snapshot=draw(st.sampled_from(("v1", "v1", "v1", "old", "typo"))),
                profile="default",
                desired=draw(st.integers(0, 7)),
                priority=0,
                created_at=NOW,
                held=held,
                held_blocks=draw(st.integers(1, 4)) if held else None,
            )
        )
    return tuple(sorted(instances, key=lambda instance: instance.name))


def verdicts(instances: tuple[InstanceFacts, ...]) -> dict[str, Verdict]:
    return judge(POOL, OFFERINGS, instances, now=NOW)


@given(instance_lists())
def test_i3_what_verdicts_allow_ends_at_zero_or_the_minimum_or_leaves_all_as_it_is(
    instances: tuple[InstanceFacts, ...],
) -> None:
    judged = verdicts(instances)
    for name, offering in OFFERINGS.items():
        group = [instance for instance in instances if instance.offering == name]
        ends = [effective_desired(judged[instance.name].demand, instance.held) for instance in group]
        unchanged = ends == [instance.held for instance in group]
        assert unchanged or sum(ends) == 0 or sum(ends) >= offering.min_instances


@given(instance_lists())
def test_a_refusal_never_takes_or_gives_anything(instances: tuple[InstanceFacts, ...]) -> None:
    judged = verdicts(instances)
    for instance in instances:
        verdict = judged[instance.name]
        assert (verdict.refusal is None) == (verdict.demand.freeze is Freeze.NOTHING)
        if verdict.refusal is not None:
            assert effective_desired(verdict.demand, instance.held) == instance.held


@given(instance_lists())
def test_an_instance_that_asks_for_what_it_holds_is_never_told_that_it_exceeds_the_pool(
    instances: tuple[InstanceFacts, ...],
) -> None:
    judged = verdicts(instances)
    for instance in instances:
        refusal = judged[instance.name].refusal
        if instance.desired <= instance.held and refusal is not None:
            assert refusal.reason.value in ("UnknownOffering", "UnknownSnapshot", "BelowMinimumInstances")


@given(instance_lists(), st.data())
def test_i7_the_order_in_which_instances_are_seen_does_not_matter(
    instances: tuple[InstanceFacts, ...], data: st.DataObject
) -> None:
    assert verdicts(shuffled(data, instances)) == verdicts(instances)

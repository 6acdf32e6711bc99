"""S3: which Jobs bring an artifact to its nodes, when one is tried again, and where it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.rollout.pulls import Pull, PullState, WantedPulls, plan_pulls, prefetched_of

NOW = datetime(2026, 3, 7, 12, tzinfo=UTC)
NODES = {"gpu-1": "uid-1", "gpu-2": "uid-2"}
WANTED = WantedPulls("v2", "recipe", ("gpu-1", "gpu-2"))


def pull(node: str = "gpu-1", state: PullState = PullState.RUNNING, attempt: int = 1, **more: object) -> Pull:
    ended = NOW if state is not PullState.RUNNING else None
    made = Pull(f"{node}-{attempt}", "uid", node, NODES[node], "v2", "recipe", attempt, state, ended_at=ended)
    return replace(made, **more)  # type: ignore[arg-type]


def test_s3_every_node_that_needs_it_gets_one_job() -> None:
    plan = plan_pulls([pull("gpu-1")], WANTED, NODES, now=NOW)
    assert [(each.node, each.attempt) for each in plan.creates] == [("gpu-2", 1)]
    assert plan.deletes == ()


def test_s3_one_that_is_done_stays_as_the_record_of_it() -> None:
    done = pull("gpu-1", PullState.DONE)
    assert plan_pulls([done], replace(WANTED, nodes=()), NODES, now=NOW).deletes == ()
    assert prefetched_of([done], "v2", NODES, (), patience="45m").nodes == {"gpu-1"}


@pytest.mark.parametrize(("attempt", "minutes"), [(1, 1), (2, 2), (3, 4), (9, 30), (1000, 30)])
def test_s3_one_that_failed_is_tried_again_after_a_while_that_doubles(attempt: int, minutes: int) -> None:
    failed, at = pull(state=PullState.FAILED, attempt=attempt), NOW + timedelta(minutes=minutes)
    wanted = replace(WANTED, nodes=("gpu-1",))
    before = plan_pulls([failed], wanted, NODES, now=at - timedelta(seconds=1))
    assert (before.creates, before.deletes, before.next_moment) == ((), (), at)
    again = plan_pulls([failed], wanted, NODES, now=at)
    assert [each.attempt for each in again.creates] == [attempt + 1]
    assert again.deletes == (failed,)


def test_s3_a_crash_between_the_next_attempt_and_the_end_of_the_last_one_leaves_the_next() -> None:
    failed, following = pull(state=PullState.FAILED), pull(attempt=2)
    plan = plan_pulls([failed, following], WANTED, NODES, now=NOW + timedelta(hours=1))
    assert plan.deletes == (failed,)
    assert [each.node for each in plan.creates] == ["gpu-2"]


def test_s3_what_is_pulled_with_other_rights_begins_anew_unless_it_is_there_already() -> None:
    """The offering's pull secret was corrected."""
    running, done = pull("gpu-1", recipe="old"), pull("gpu-2", PullState.DONE, recipe="old")
    plan = plan_pulls([running, done], WANTED, NODES, now=NOW)
    assert ([each.node for each in plan.creates], plan.deletes) == (["gpu-1"], (running,))


def test_s3_a_node_that_was_registered_anew_has_nothing_and_of_one_that_is_gone_nothing_stays() -> None:
    former, lost = pull("gpu-1", PullState.DONE, node_uid="before"), pull("gpu-2", PullState.DONE)
    nodes = {"gpu-1": "uid-1"}
    plan = plan_pulls([former, lost], WANTED, nodes, now=NOW)
    assert ([each.node for each in plan.creates], plan.deletes) == (["gpu-1"], (former, lost))
    assert prefetched_of([former, lost], "v2", nodes, (), patience="45m").nodes == frozenset()


def test_s3_another_target_and_the_end_of_the_rollout_take_all_away() -> None:
    pulls = [pull("gpu-1", PullState.DONE), pull("gpu-2")]
    assert plan_pulls(pulls, None, NODES, now=NOW).deletes == tuple(pulls)
    assert plan_pulls(pulls, WantedPulls("v3", "recipe", ()), NODES, now=NOW).deletes == tuple(pulls)


def test_s3_why_it_is_not_there_is_what_the_last_attempt_says() -> None:
    pulls = [pull("gpu-1", PullState.FAILED), pull("gpu-1", attempt=2, trouble="401"), pull("gpu-2", PullState.FAILED)]
    found = prefetched_of(pulls, "v2", NODES, (), patience="45m")
    assert found.failures["gpu-1"] == "401"
    assert found.failures["gpu-2"] == "not there within 45m, tried again at 2026-03-07T12:01:00Z"
    assert prefetched_of(pulls, "v2", NODES, ["gpu-1", "gpu-2"], patience="45m").failures == {}, "members run it there"


_PULLS = st.builds(
    pull,
    st.sampled_from(sorted(NODES)),
    st.sampled_from(PullState),
    st.integers(1, 4),
    node_uid=st.sampled_from(["uid-1", "uid-2"]),
    snapshot=st.sampled_from(["v1", "v2"]),
    recipe=st.sampled_from(["recipe", "old"]),
)
_WANTED = st.none() | st.builds(
    WantedPulls, st.just("v2"), st.sampled_from(["recipe", ""]), st.lists(st.sampled_from(sorted(NODES)), unique=True)
)


@given(st.lists(_PULLS, max_size=5, unique_by=lambda each: (each.node, each.attempt)), _WANTED, st.integers(0, 60))
def test_s3_what_was_planned_leaves_nothing_to_plan(
    pulls: list[Pull], wanted: WantedPulls | None, minutes: int
) -> None:
    """I8; and a pull that is done and needed is never thrown away."""
    now = NOW + timedelta(minutes=minutes)
    plan = plan_pulls(pulls, wanted, NODES, now=now)
    gone = {each.name for each in plan.deletes}
    made = [
        pull(each.node, attempt=each.attempt, node_uid=each.node_uid, name=f"new-{each.node}") for each in plan.creates
    ]
    after = [each for each in pulls if each.name not in gone] + made
    again = plan_pulls(after, wanted, NODES, now=now)
    assert (again.creates, again.deletes) == ((), ())
    for node in wanted.nodes if wanted is not None else ():
        had = prefetched_of(pulls, "v2", NODES, (), patience="").nodes
        assert (node in had) == (node in prefetched_of(after, "v2", NODES, (), patience="").nodes)

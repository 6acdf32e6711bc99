"""A rollout on the screen: who is old and new, what it waits for since when, and how to go on (issue 7, item 7)."""

from __future__ import annotations

from typing import Any

import pytest

from reserved_capacity.cli.findings import verdict_of
from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.rollouts import Outcome, outcome_of, rollout_view
from reserved_capacity.cli.view import instance_screen, status_view
from reserved_capacity.cli.world import World
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_INSTANCES, JsonObject
from reserved_capacity.snapshot import parse_instance
from tests.unit.cli.builders import (
    NEW,
    OLD,
    chat,
    condition,
    holding,
    member,
    page,
    pool,
    record,
    rolling,
    serves,
    text,
    world,
)

CANARY = {"canary": {"instances": 1}, "minAvailable": 1, "whenNoSpare": "InPlace"}
FAILED_AT = "2026-03-01T02:50:00Z"
APPROVE = f"the canary serves: set spec.upgrade.canary.approvedRollout to 4 to go on, or the snapshot back to {OLD}"
NEED = "need 300 CU, spare 0: set spec.upgrade.whenNoSpare to InPlace or to BorrowSpare, or free 300 CU in the pool"


def awaiting(**more: Any) -> World:
    told = rolling("AwaitingApproval", "AwaitingApproval", blocked_on=APPROVE, upgrade=CANARY, **more)
    return world(pool(rollouts=[record(canarySince="2026-03-01T02:50:00Z")]), told)


def one(seen: World, width: int = 80) -> str:
    instance = parse_instance(seen.store, next(iter(seen.store.all(MODEL_INSTANCES))))
    return text(render_status(instance_screen(seen, instance, "acme"), page(width)))


def whole(seen: World) -> str:
    return text(render_status(status_view(seen, "acme"), page()))


def test_a_canary_that_waits_shows_who_is_new_since_when_and_the_commands_that_make_sense() -> None:
    assert (
        one(awaiting())
        == f"""\
Namespace acme   2026-03-01 03:00:00Z
! Goes on when a person says so: mi/chat (AwaitingApproval)

  INSTANCE  OFFERING / SNAPSHOT     DESIRED  HELD  AVAILABLE   CU  READY
  chat      gpt-4-turbo                   2     2          2  600  ! Unknown
            gpt-4-turbo-2025-01-15
    chat-0  new  Available  gpu-1  since 02:46:00Z (14m ago)
    chat-1  old  Available  gpu-1  since 02:46:00Z (14m ago)
    Rollout 4   {OLD} → {NEW}   InPlace
      State       ! AwaitingApproval since 02:50:00Z (10m ago)
      Step        1 of 2 run gpt-4-turbo-2025-01-15
      Waits for   the canary serves: set spec.upgrade.canary.approvedRollout to
                  4 to go on, or the snapshot back to gpt-4-turbo-2024-04-09
      Throughput  not compared yet: old and new have to make 1,000 output tokens
                  each
      Started     02:46:00Z (14m ago)
      Go on       kubectl reserved approve chat -n acme
                  rollout 4 goes on beyond its canary to gpt-4-turbo-2025-01-15
                  kubectl reserved rollback chat -n acme
                  who has moved goes back to gpt-4-turbo-2024-04-09, the others
                  are not restarted
"""
    )


def test_s7_who_is_to_approve_a_canary_sees_what_it_has_brought_so_far_and_what_it_cost() -> None:
    seen = awaiting()
    measured = {"throughput": {"from": "812.4", "to": "1015.5", "ratio": "1.250"}, "unavailableSeconds": 37}
    told = next(iter(seen.store.all(MODEL_INSTANCES)))
    told["status"]["rollout"] |= measured
    assert "old 812.4, new 1015.5 tokens/s per 100 CU: x 1.250 so far" in one(seen, 120)
    assert "37 s with too few serving" in one(seen, 120)


def test_s3_an_artifact_that_cannot_be_pulled_is_told_once_with_the_node() -> None:
    why = f"the artifact of {NEW} could not be pulled, no capacity was released: gpu-1: 401 Unauthorized"
    told = rolling("Prefetching", "RolloutBlocked", status="False", step="0 of 2", blocked_on=why, updated=0)
    failed = condition("SnapshotCached", "False", "PrefetchFailed", why)
    told["status"]["conditions"].append(failed)
    shown = whole(world(pool(rollouts=[record(strategy=None)]), told))
    assert "✗ Prefetching" in shown
    assert " ".join(shown.split()).count("401 Unauthorized") == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_a_rollout_is_wider_than_the_page(width: int) -> None:
    assert max(map(len, one(awaiting(), width).splitlines())) <= width


def test_s2_a_blocked_rollout_says_its_need_once_and_nobody_is_called_new() -> None:
    members = [member("chat-0", snapshot=OLD), member("chat-1", snapshot=OLD)]
    told = rolling(
        "Blocked", "RolloutBlocked", status="False", step="0 of 2", blocked_on=NEED, members=members, updated=0
    )
    shown = whole(world(pool(rollouts=[record(strategy=None)]), told))
    assert "✗ Blocked since 02:46:00Z (14m ago)" in shown
    assert shown.count("need 300 CU, spare 0") == 1
    assert "nobody has moved, so all stay on" in shown
    assert " new " not in shown
    assert "reserved pause" not in shown


def test_a_successor_is_shown_in_whose_place_it_comes_and_a_step_may_be_paused() -> None:
    heir = holding("chat-2") | {"replaces": "chat-0", "snapshot": NEW, "profile": "default"}
    members = [member("chat-0", snapshot=OLD), member("chat-1", snapshot=OLD), member("chat-2", "Pending")]
    told = rolling("Progressing", "RollingOut", step="0 of 2", members=members)
    shown = whole(world(pool(rollouts=[record()], holdings=[holding("chat-0"), holding("chat-1"), heir]), told))
    assert "chat-2  new  Pending    gpu-1  since 02:46:00Z (14m ago), in place of" in shown
    assert "Go on    by itself" in shown
    assert "kubectl reserved pause chat -n acme" in shown
    assert "On its way by itself: mi/chat (RollingOut)" in shown


def test_s6_a_rollout_that_went_back_tells_its_failure_and_how_to_bring_git_in_line() -> None:
    failure = {
        "member": "chat-0",
        "reason": "NotServing",
        "message": "chat-0 did not serve within 45m",
        "at": FAILED_AT,
    }
    members = [member("chat-0", snapshot=OLD), member("chat-1", snapshot=OLD)]
    told = rolling("Idle", "RolledBack", status="False", step=f"rolled back: all members run {OLD}", members=members)
    shown = whole(world(pool(rollouts=[record("RolledBack", failure=failure)]), told))
    assert "✗ RolledBack since 02:50:00Z (10m ago)" in shown
    assert "chat-0 did not serve within 45m (2026-03-01 02:50:00Z)" in shown
    assert "kubectl reserved rollback chat -n acme" in shown


def test_a_rollout_that_is_done_is_one_line_where_the_instance_alone_is_asked_for_and_else_none() -> None:
    done = world(pool(rollouts=[record("Done")]), chat(updated_to_date(), snapshot=NEW, rollout={"id": 4}))
    assert f"Rollout 4   {OLD} → {NEW}   done" in one(done)
    assert "throughput" not in one(done)
    assert "Rollout" not in whole(done)
    assert "All is as it should be" in whole(done)


@pytest.mark.parametrize(
    ("ratio", "about", "shown"), [("1.412", OLD, True), ("NotMeasured", OLD, False), ("2", "x", False)]
)
def test_s7_a_rollout_that_is_done_says_what_it_brought_if_that_was_measured(
    ratio: str, about: str, shown: bool
) -> None:
    told = chat(updated_to_date(), snapshot=NEW, rollout={"id": 4})
    told["status"]["upgradeReport"] = {"from": about, "to": NEW, "throughputRatio": ratio, "result": "Done"}
    assert ("throughput per CU x 1.412" in one(world(pool(rollouts=[record("Done")]), told))) is shown


def test_s5_members_of_a_version_that_was_given_up_are_called_so() -> None:
    back = record(to={"snapshot": OLD, "profile": "default"})
    told = rolling("RollingBack", "RollingOut", snapshot=OLD)
    shown = whole(world(pool(rollouts=[back]), told))
    assert "chat-0  given up  Available" in shown
    assert "chat-1  old       Available" in shown
    assert f"→ {OLD}" in shown


def test_without_the_right_to_read_the_pool_the_rollout_is_shown_from_the_instance_alone() -> None:
    seen = world(rolling("Progressing", "RollingOut"), unread=[COMPUTE_UNIT_POOLS])
    shown = one(seen)
    assert "Rollout 4" in shown
    assert "Progressing" in shown
    assert "reserved rollback" not in shown  # what ran before is on the pool's record


# -------------------------------------------------------------------------------------------------------- how it ends


def updated_to_date(reason: str = "Ready", status: str = "True") -> list[JsonObject]:
    *others, _ = serves()
    return [*others, condition("UpToDate", "True", "UpToDate", "all"), condition("Ready", status, reason, "2 of 2")]


def outcome(told: JsonObject, *records: JsonObject) -> Outcome:
    seen = world(pool(rollouts=list(records)), told)
    instance = parse_instance(seen.store, told)
    return outcome_of(verdict_of(instance, instance.status), rollout_view(seen, instance))


def test_a_watch_goes_on_while_anything_is_open_and_tells_success_from_failure() -> None:
    ended = chat(updated_to_date(), snapshot=NEW)
    assert outcome(ended, record("Done")) is Outcome.DONE
    assert outcome(ended) is Outcome.DONE  # there was none
    assert outcome(chat(updated_to_date(), snapshot=NEW, generation=2), record("Done")) is Outcome.OPEN
    assert outcome(chat(updated_to_date("PendingEvaluation", "Unknown")), record("Done")) is Outcome.OPEN
    assert outcome(chat([])) is Outcome.OPEN
    for phase, reason in (
        ("Blocked", "RolloutBlocked"),
        ("Paused", "Paused"),
        ("AwaitingApproval", "AwaitingApproval"),
    ):
        assert outcome(rolling(phase, reason), record()) is Outcome.OPEN
    assert outcome(rolling("RollingBack", "RollingOut"), record("RollingBack")) is Outcome.OPEN
    assert outcome(rolling("Halted", "RolloutFailed", status="False"), record("Halted")) is Outcome.FAILED
    assert outcome(rolling("Idle", "RolledBack", status="False"), record("RolledBack")) is Outcome.FAILED

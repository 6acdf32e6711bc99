"""The parts of a rollout one by one; whole rollouts are told in tests/golden (behaviour.md S1-S6, S8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from reserved_capacity.domain.holdings import Freeze, Holding, HoldingState, Waiting
from reserved_capacity.domain.lifecycle import LifecycleDates
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.rollout import words
from reserved_capacity.domain.rollout.conditions import snapshot_cached, up_to_date
from reserved_capacity.domain.rollout.planning import plan_rollouts
from reserved_capacity.domain.rollout.records import current_record
from reserved_capacity.domain.rollout.target import AutoUpgrade, Listed, effective_target
from reserved_capacity.domain.rollout.values import (
    Canary,
    Failure,
    RolloutPhase,
    RolloutRecord,
    RolloutReport,
    RolloutSpec,
    RolloutsPlan,
    RolloutState,
    Strategy,
    WhenNoSpare,
)
from reserved_capacity.domain.versions import Version
from tests.unit.domain.builders import LATER, NOW, asks, held, part, pool

V1, V2, V3 = Version("v1"), Version("v2"), Version("v3")
CHAT = asks("chat", 2)


def member(name: str, version: Version = V1) -> Holding:
    return replace(held(name), version=version)


def spec(target: Version = V2, generation: int = 7, **changes: object) -> RolloutSpec:
    return replace(RolloutSpec("chat", generation, target), **changes)


def record(target: Version = V2, **changes: object) -> RolloutRecord:
    made = RolloutRecord("chat", "uid-chat", 7, V1, target, NOW, spec(target).attempt)
    return replace(made, **changes)


def planned(
    *records: RolloutRecord, asked: RolloutSpec | None = None, lent: int = 0, **changes: object
) -> RolloutsPlan:
    """chat has two members of v1 that serve, on a full node and with room for one more beside it, unless told."""
    state = replace(
        pool(
            CHAT,
            nodes=(part("gpu-1", 6), part("gpu-2", 3)),
            holdings=(member("chat-0"), member("chat-1")),
        ),
        available=frozenset({"chat-0", "chat-1"}),
    )
    return plan_rollouts(replace(state, **changes), [asked or spec()], records, now=LATER, lent=lent)


# --------------------------------------------------------------------------------------------------------------- target

DAY = date(2026, 6, 1)
MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)
RETIRES = datetime(2026, 12, 1, tzinfo=UTC)
CATALOGUE: Mapping[str, Listed] = {
    "v1": Listed(LifecycleDates(deprecated_from=DAY, retires_at=RETIRES), "v2"),
    "v2": Listed(LifecycleDates(deprecated_from=DAY + timedelta(days=30)), "v3"),
    "v3": Listed(LifecycleDates()),
}


@pytest.mark.parametrize(
    ("policy", "now", "target", "changes_at"),
    [
        (AutoUpgrade.NEVER, RETIRES, "v1", None),
        (AutoUpgrade.AT_DEPRECATION, MIDNIGHT - timedelta(seconds=1), "v1", MIDNIGHT),
        (AutoUpgrade.AT_DEPRECATION, MIDNIGHT, "v2", MIDNIGHT + timedelta(days=30)),
        (AutoUpgrade.AT_DEPRECATION, RETIRES, "v3", None),
        (AutoUpgrade.AT_RETIREMENT, RETIRES - timedelta(seconds=1), "v1", RETIRES),
        (AutoUpgrade.AT_RETIREMENT, RETIRES, "v2", None),
    ],
)
def test_only_who_has_opted_in_is_moved_to_the_replacement_and_at_the_moment_agreed(
    policy: AutoUpgrade, now: datetime, target: str, changes_at: datetime | None
) -> None:
    """S1, S8."""
    found = effective_target(Version("v1", "fast"), CATALOGUE, policy, now=now)

    assert (found.version, found.changes_at) == (Version(target, "fast"), changes_at)
    assert bool(found.because) == (target != "v1")


@pytest.mark.parametrize("replacement", ["", "unheard-of", "v1"])
def test_a_replacement_that_leads_nowhere_or_back_is_not_followed(replacement: str) -> None:
    catalogue = {"v1": Listed(LifecycleDates(deprecated_from=DAY), replacement)}

    found = effective_target(V1, catalogue, AutoUpgrade.AT_DEPRECATION, now=RETIRES)

    assert (found.version, found.changes_at) == (V1, None)


def test_a_snapshot_without_a_deprecation_date_gives_way_when_it_retires() -> None:
    catalogue = {"v1": Listed(LifecycleDates(retires_at=RETIRES), "v2"), "v2": Listed(LifecycleDates())}

    assert effective_target(V1, catalogue, AutoUpgrade.AT_DEPRECATION, now=RETIRES).version == V2


# --------------------------------------------------------------------------------------------------------------- records


def test_a_rollout_has_the_generation_that_started_it_as_its_id_whatever_else_is_edited_later() -> None:
    (begun,) = planned().records
    (later,) = planned(begun, asked=spec(generation=9)).records

    assert (begun.id, later.id) == (7, 7)


def test_what_ran_before_is_what_goes_back_in_also_after_a_second_edit() -> None:
    """S5."""
    (first,) = planned().records
    second = current_record(spec(V3, 8), CHAT, first, [], LATER)

    assert second is not None
    assert (second.id, second.source, second.target) == (8, V1, V3)


def test_setting_the_old_version_back_is_told_from_a_rollout() -> None:
    back = current_record(spec(V1, 8), CHAT, record(), [], LATER)

    assert back is not None
    assert back.goes_back


def test_a_record_of_a_namesake_that_is_gone_counts_for_nothing() -> None:
    former = record(instance_uid="uid-of-another", state=RolloutState.ROLLED_BACK)

    (now,) = planned(former).records

    assert (now.state, now.instance_uid) == (RolloutState.RUNNING, "uid-chat")


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"progress_deadline": timedelta(hours=2)}, True),
        ({"strategy": Strategy.IN_PLACE}, True),
        ({"paused": True}, False),
        ({"canary": None, "generation": 12}, False),
    ],
)
def test_a_failed_rollout_is_tried_again_when_something_that_bears_on_it_changes(
    changes: dict[str, object], again: bool
) -> None:
    """S6."""
    failed = record(state=RolloutState.ROLLED_BACK)

    found = current_record(replace(spec(generation=8), **changes), CHAT, failed, [], LATER)

    assert (found != failed) == again


def test_an_approval_is_no_other_attempt() -> None:
    canary = Canary(1)

    assert spec(canary=canary).attempt == spec(canary=replace(canary, approved_rollout=7)).attempt


def test_an_instance_that_shall_not_run_has_no_rollout() -> None:
    asked = replace(CHAT, desired=0)

    assert current_record(spec(), asked, record(), [], LATER) is None
    assert current_record(spec(), replace(asked, freeze=Freeze.EVERYTHING), record(), [], LATER) == record()


# -------------------------------------------------------------------------------------------------------- what is planned


def test_members_that_run_what_is_asked_for_are_left_alone() -> None:
    plan = planned(asked=spec(V1))

    assert (plan.records, plan.holdings.notes) == ((), ())
    assert plan.reports["chat"].phase is RolloutPhase.IDLE


def test_the_same_plan_a_second_time_changes_nothing() -> None:
    """I8."""
    first = planned()
    second = planned(*first.records, holdings=first.holdings.holdings)

    assert second.holdings.holdings == first.holdings.holdings
    assert second.records == first.records
    assert not second.holdings.notes


def test_a_name_that_is_used_again_has_not_served_yet() -> None:
    """chat-0 was stopped and is gone; an EndpointSlice still names it. Its successor of that name is not believed."""
    running = record(strategy=Strategy.IN_PLACE, vacated=("chat-0",))
    plan = planned(
        running,
        asked=spec(strategy=Strategy.IN_PLACE),
        demands=(replace(CHAT, min_available=1),),
        holdings=(member("chat-1"),),
        available=frozenset({"chat-0", "chat-1"}),
    )

    (now,) = plan.records
    assert now.starting == ("chat-0",)
    assert all(each.held for each in plan.holdings.holdings)


def test_whose_place_is_empty_in_the_middle_of_a_step_waits_for_nothing_else() -> None:
    plan = planned(
        record(strategy=Strategy.IN_PLACE, vacated=("chat-0",)),
        demands=(replace(CHAT, min_available=1),),
        nodes=(part("gpu-1", 6),),
        contracted_blocks=6,
        holdings=(replace(member("chat-0"), state=HoldingState.RELEASING), member("chat-1")),
        available=frozenset({"chat-1"}),
    )

    assert plan.holdings.waits["chat"].reason is Waiting.WAITING_FOR_RELEASE


def test_a_blocked_rollout_says_need_and_spare_and_the_ways_on() -> None:
    """S2, api.md."""
    plan = planned(nodes=(part("gpu-1", 6),), contracted_blocks=6)

    report = plan.reports["chat"]
    assert report.phase is RolloutPhase.BLOCKED
    assert report.blocked_on.startswith("need 300 CU, spare 0")
    assert "InPlace" in report.blocked_on
    assert "BorrowSpare" in report.blocked_on
    assert [each.held for each in plan.holdings.holdings] == [True, True]


def test_what_is_borrowed_is_asked_for_until_the_rollout_ends_and_not_longer() -> None:
    asked = spec(when_no_spare=WhenNoSpare.BORROW_SPARE, max_surge=5)
    full = {"nodes": (part("gpu-1", 6),), "contracted_blocks": 6}

    blocked = planned(asked=asked, **full)
    done = planned(
        replace(blocked.records[0], strategy=Strategy.SURGE),
        asked=asked,
        holdings=(member("chat-2", V2), member("chat-3", V2)),
        available=frozenset({"chat-2", "chat-3"}),
        **full,
    )

    assert blocked.records[0].borrowed == 6
    assert (done.records[0].borrowed, done.records[0].state) == (0, RolloutState.DONE)


def test_i2_nobody_grows_into_what_is_lent_to_a_rollout_that_cannot_begin() -> None:
    """300 CU are lent, in pieces that are too small for a member of chat, and large enough for somebody else."""
    small = asks("small", 1, blocks=2)
    plan = planned(
        record(borrowed=3),
        asked=spec(when_no_spare=WhenNoSpare.BORROW_SPARE),
        demands=(CHAT, small),
        nodes=(part("gpu-1", 6), part("gpu-2", 2), part("gpu-3", 1)),
        contracted_blocks=6,
        lent=3,
    )

    assert [each.instance for each in plan.holdings.holdings] == ["chat", "chat"]
    assert plan.holdings.waits["small"].reason is Waiting.WAITING_FOR_COMPUTE_UNITS
    assert plan.holdings.waits["small"].have_cu == 0


def test_what_was_borrowed_goes_back_when_the_spec_says_in_place() -> None:
    """It was asked for while the spec said BorrowSpare, and nobody stands on it."""
    plan = planned(
        record(borrowed=6), asked=spec(strategy=Strategy.IN_PLACE), demands=(replace(CHAT, min_available=1),)
    )

    (now,) = plan.records
    assert (now.borrowed, now.strategy, now.vacated) == (0, Strategy.IN_PLACE, ("chat-0",))


def test_c6_no_step_in_place_begins_in_the_plan_in_which_a_move_ends() -> None:
    """chat-0 has to leave gpu-1, chat-2 serves in its place, and chat-1 has its turn: if both went, one of two were left."""
    three = (member("chat-0"), member("chat-1"), replace(member("chat-2"), replaces="chat-0"))
    plan = planned(
        record(strategy=Strategy.IN_PLACE),
        asked=spec(strategy=Strategy.IN_PLACE),
        demands=(replace(CHAT, min_available=1, min_instances=2),),
        nodes=(replace(part("gpu-1", 3, usable=False), evacuate=True), part("gpu-2", 6)),
        holdings=tuple(
            replace(each, nodes=(node,)) for each, node in zip(three, ("gpu-1", "gpu-2", "gpu-2"), strict=True)
        ),
        available=frozenset({"chat-0", "chat-1", "chat-2"}),
    )

    assert sum(not each.held for each in plan.holdings.holdings) == 1


def test_rollouts_of_instances_that_are_gone_are_forgotten() -> None:
    plan = plan_rollouts(pool(CHAT), [spec(V1)], [record(), replace(record(), instance="gone")], now=LATER)

    assert all(each.instance == "chat" for each in plan.records)


# ------------------------------------------------------------------------------------------------------------ conditions


@pytest.mark.parametrize(
    ("phase", "reason", "status"),
    [
        (RolloutPhase.IDLE, "UpToDate", ConditionStatus.TRUE),
        (RolloutPhase.PREFETCHING, "RollingOut", ConditionStatus.UNKNOWN),
        (RolloutPhase.BLOCKED, "RolloutBlocked", ConditionStatus.FALSE),
        (RolloutPhase.AWAITING_WINDOW, "AwaitingWindow", ConditionStatus.UNKNOWN),
        (RolloutPhase.AWAITING_APPROVAL, "AwaitingApproval", ConditionStatus.UNKNOWN),
        (RolloutPhase.PAUSED, "Paused", ConditionStatus.UNKNOWN),
        (RolloutPhase.CANARY, "RollingOut", ConditionStatus.UNKNOWN),
        (RolloutPhase.PROGRESSING, "RollingOut", ConditionStatus.UNKNOWN),
        (RolloutPhase.ROLLING_BACK, "RollingOut", ConditionStatus.UNKNOWN),
        (RolloutPhase.HALTED, "RolloutFailed", ConditionStatus.FALSE),
    ],
)
def test_every_phase_has_its_reason(phase: RolloutPhase, reason: str, status: ConditionStatus) -> None:
    found = up_to_date(RolloutReport(phase, V2))

    assert (found.reason, found.status) == (reason, status)
    assert found.message


def test_after_a_rollback_the_condition_tells_the_failure_and_the_next_step() -> None:
    failure = Failure("chat-2", "ProgressDeadlineExceeded", "chat-2 with v2 did not serve within 45m", NOW)
    rolled_back = record(state=RolloutState.ROLLED_BACK, failure=failure)

    found = up_to_date(RolloutReport(RolloutPhase.IDLE, V2, rolled_back, step="rolled back: all members run v1"))

    assert (found.reason, found.status) == ("RolledBack", ConditionStatus.FALSE)
    assert "did not serve within 45m" in found.message
    assert "back to v1" in found.message


def test_an_artifact_is_cached_where_it_will_be_needed_or_the_node_is_named() -> None:
    """S3."""
    report = RolloutReport(RolloutPhase.PREFETCHING, V2, record(), prefetch=("gpu-2",))

    assert snapshot_cached(RolloutReport(RolloutPhase.IDLE, V2)).reason == "Cached"
    assert snapshot_cached(report).reason == "Prefetching"
    failed = snapshot_cached(replace(report, unpulled={"gpu-2": "401 Unauthorized"}))
    assert (failed.reason, "gpu-2: 401 Unauthorized" in failed.message) == ("PrefetchFailed", True)


@pytest.mark.parametrize(
    ("time", "told"),
    [
        (timedelta(minutes=45), "45m"),
        (timedelta(hours=1), "1h"),
        (timedelta(hours=1, minutes=30, seconds=5), "1h30m5s"),
        (timedelta(), "0s"),
    ],
)
def test_durations_are_told_as_the_api_writes_them(time: timedelta, told: str) -> None:
    assert words.lasting(time) == told


@pytest.mark.parametrize(
    ("usable", "reason"), [(True, Waiting.WAITING_FOR_COMPUTE_UNITS), (False, Waiting.NODES_UNHEALTHY)]
)
def test_whose_place_is_lost_in_the_middle_of_a_step_waits_for_room_like_everybody(
    usable: bool, reason: Waiting
) -> None:
    """Nobody gives anything back: to say so would have people wait for ever."""
    nodes = (part("gpu-1", 3), part("gpu-2", 0 if usable else 3, usable=usable))
    plan = planned(
        record(strategy=Strategy.IN_PLACE, vacated=("chat-0",)),
        demands=(replace(CHAT, min_available=1),),
        nodes=nodes,
        contracted_blocks=3 if usable else 6,
        holdings=(member("chat-1"),),
        available=frozenset({"chat-1"}),
    )

    assert plan.holdings.waits["chat"].reason is reason

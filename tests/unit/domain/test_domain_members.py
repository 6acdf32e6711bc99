"""Members: from holdings to StatefulSets (behaviour.md R1, R3, C7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.members import MembersPlan, ObservedMember, Templates, current_revision, plan_members
from reserved_capacity.domain.versions import Version
from tests.unit.domain.builders import SNAPSHOT, held, observed_member, releasing

ASKED, NEXT = Version(SNAPSHOT), Version("gpt-4-turbo-2025-01-15")
NOW = Templates(ASKED, {ASKED: "rev-now", NEXT: "rev-next"})


def plan(holdings: Sequence[Holding], observed: Sequence[ObservedMember], *, suspended: bool = False) -> MembersPlan:
    return plan_members(
        holdings,
        observed,
        owner_uid="uid-chat",
        templates=NOW,
        suspended=suspended,
    )


def test_every_holding_without_a_stateful_set_gets_one() -> None:
    made = plan([held("chat-1"), held("chat-0")], [observed_member("chat-1")])
    assert [each.holding.member for each in made.creates] == ["chat-0"]
    assert made.creates[0].reason == "chat-0 holds 3 blocks and has no StatefulSet"
    assert (made.scales, made.deletes) == ((), ())


def test_a_member_has_one_pod_per_node() -> None:
    announced = observed_member("chat-0", replicas=0)
    assert [each.replicas for each in plan([held("chat-0", 4, "a", "b")], [announced]).scales] == [2]


def test_a_settled_instance_plans_nothing() -> None:
    settled = plan([held("chat-0")], [observed_member("chat-0")])
    assert (settled.creates, settled.scales, settled.deletes) == ((), (), ())


def test_c7_a_member_whose_holding_is_being_released_is_deleted_once() -> None:
    gone = plan([releasing("chat-0")], [observed_member("chat-0")])
    assert [(each.member.name, each.reason) for each in gone.deletes] == [("chat-0", "its holding is being released")]
    assert plan([releasing("chat-0")], [observed_member("chat-0", terminating=True)]).deletes == ()


def test_a_member_without_any_holding_is_deleted() -> None:
    assert [each.member.name for each in plan([], [observed_member("chat-7")]).deletes] == ["chat-7"]


def test_a_member_that_terminates_is_made_anew_only_when_it_is_gone() -> None:
    waiting = plan([held("chat-0")], [observed_member("chat-0", terminating=True, replicas=0)])
    assert (waiting.creates, waiting.scales, waiting.deletes) == ((), (), ())


def test_a_member_of_a_former_incarnation_goes_though_the_holding_stays() -> None:
    former = observed_member("chat-0", owner="uid-of-the-deleted-one", replicas=0)
    replaced = plan([held("chat-0")], [former])
    assert [each.reason for each in replaced.deletes] == ["its owner is gone"]
    assert (replaced.creates, replaced.scales) == ((), ())


def test_suspend_scales_to_nothing_and_back_and_deletes_nothing() -> None:
    down = plan([held("chat-0")], [observed_member("chat-0")], suspended=True)
    assert [(each.replicas, each.reason) for each in down.scales] == [(0, "suspended")]
    assert down.deletes == ()
    up = plan([held("chat-0")], [observed_member("chat-0", replicas=0)])
    assert [(each.replicas, each.reason) for each in up.scales] == [(1, "its holding stands")]


def test_a_suspended_member_that_is_released_is_deleted_and_not_scaled() -> None:
    both = plan([releasing("chat-0")], [observed_member("chat-0", replicas=0)])
    assert both.scales == ()
    assert len(both.deletes) == 1


def test_r3_new_members_run_what_the_others_run_and_the_offering_of_now_if_none_does() -> None:
    running = [observed_member("chat-1", revision="rev-b"), observed_member("chat-0", revision="rev-a")]
    assert current_revision(running, "uid-chat", ASKED, NOW) == "rev-a"
    assert current_revision([], "uid-chat", ASKED, NOW) == "rev-now"
    (made,) = plan([held("chat-0"), held("chat-1")], [running[0]]).creates
    assert made.revision == "rev-b"


def test_r3_what_terminates_or_belongs_to_another_incarnation_decides_nothing() -> None:
    others = [
        observed_member("chat-0", revision="rev-a", terminating=True),
        observed_member("chat-1", revision="rev-b", owner="uid-of-the-deleted-one"),
    ]
    assert current_revision(others, "uid-chat", ASKED, NOW) == "rev-now"


def test_r1_a_member_runs_the_version_that_its_holding_says_whatever_the_others_run() -> None:
    new = replace(held("chat-2"), version=NEXT, replaces="chat-0")
    old = replace(held("chat-3"), version=ASKED)
    made = plan([held("chat-0"), new, old], [observed_member("chat-0", revision="rev-a")])
    assert [(each.holding.member, each.revision) for each in made.creates] == [
        ("chat-2", "rev-next"),
        ("chat-3", "rev-a"),
    ]


def test_s6_the_way_back_does_not_depend_on_the_catalogue() -> None:
    gone = Templates(NEXT, {NEXT: "rev-next"}, kept={ASKED: "rev-kept"})
    assert current_revision([], "uid-chat", ASKED, gone) == "rev-kept"
    assert current_revision([], "uid-chat", Version("unheard-of"), gone) == ""


def test_i7_the_order_in_which_things_are_seen_does_not_matter() -> None:
    holdings = [held("chat-0"), held("chat-1"), releasing("chat-2")]
    observed = [observed_member("chat-1", replicas=0), observed_member("chat-2"), observed_member("chat-9")]
    assert plan(holdings, observed) == plan(holdings[::-1], observed[::-1])

"""Who stops when contracted CU fall, and when (behaviour.md M8, C6; ADR 0026)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from reserved_capacity.domain.expiry import (
    Drained,
    ExpirySettings,
    Runner,
    Stop,
    drain,
    outlook,
    plan_stops,
)
from reserved_capacity.domain.holdings import Demand, Freeze, Holding, PoolNode, PoolState, Waiting
from reserved_capacity.domain.terms import CommitmentRecord, CommitmentState, Reduction
from reserved_capacity.domain.versions import Version
from tests.unit.domain.builders import NOW, asks, held, leaving, members, part, planned, pool, releasing

DAY = timedelta(days=1)
END = NOW + 20 * DAY
HOUR = ExpirySettings()


def stops(*runners: Runner, room: int, order: Sequence[str] = ()) -> dict[str, int]:
    found: dict[str, int] = {}
    for unit in plan_stops(runners, room, order):
        for instance, count in unit.instances:
            found[instance] = found.get(instance, 0) + count
    return found


def runs(instance: str, count: int, blocks: int = 1, **more: int | str) -> Runner:
    return Runner(asks(instance, count, blocks=blocks, **more), count)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ who stops


def test_m8_what_fits_stops_nobody() -> None:
    assert stops(runs("a", 3), runs("b", 3), room=6) == {}


def test_m8_those_that_are_named_stop_first_in_their_order_then_the_lowest_priority_then_the_youngest() -> None:
    crowd = (
        runs("named-second", 1, priority=9),
        runs("named-first", 1, priority=9),
        runs("old", 1, age=50),
        runs("young", 1, age=1),
        runs("precious", 1, priority=5),
    )
    order = ("named-first", "absent", "named-second")
    gone = [list(stops(*crowd, room=room, order=order)) for room in (4, 3, 2, 1, 0)]
    assert gone[-1] == ["named-first", "named-second", "young", "old", "precious"]
    assert gone == [gone[-1][: count + 1] for count in range(5)]


def test_m8_no_more_stop_than_have_to() -> None:
    assert stops(runs("chat", 4, blocks=3), room=7) == {"chat": 2}
    # The small one goes first, is not enough, and so was not needed: the large one is.
    assert stops(runs("large", 1, blocks=3), runs("small", 1), room=1, order=("small", "large")) == {"large": 1}


def test_c6_an_offering_stops_to_its_minimum_or_to_nothing() -> None:
    assert stops(runs("chat", 4, blocks=3, minimum=2), room=6) == {"chat": 2}
    assert stops(runs("chat", 4, blocks=3, minimum=2), room=5) == {"chat": 4}
    assert stops(runs("chat", 2, blocks=3, minimum=2), runs("fast", 2, age=9), room=6) == {"chat": 2}


def test_c6_siblings_of_one_offering_count_together_and_none_falls_for_one_of_less_priority() -> None:
    low = runs("low", 1, offering="m", minimum=2)
    high = runs("high", 1, offering="m", minimum=2, priority=9)
    other = runs("other", 1, priority=5)
    assert stops(low, high, other, room=2) == {"other": 1}
    assert stops(low, high, other, room=0) == {"other": 1, "low": 1, "high": 1}


def test_c6_what_is_below_the_minimum_already_stops_as_a_whole_or_not_at_all() -> None:
    assert stops(runs("left", 1, minimum=3), runs("b", 1, priority=1), room=1) == {"left": 1}


def test_what_is_stopped_to_nothing_leaves_no_single_instance_of_the_offering_behind() -> None:
    crowd = (runs("chat", 4, blocks=1, minimum=3), runs("big", 1, blocks=5, priority=1))
    assert stops(*crowd, room=6) == {"chat": 4}


# -------------------------------------------------------------------------------------------------------- when they stop


def commitment(
    cu: int = 600, *, id_: str = "po-1", state: CommitmentState = CommitmentState.EXPIRING
) -> CommitmentRecord:
    return CommitmentRecord(id_, NOW - 300 * DAY, cu, state, billing_start=NOW - 299 * DAY, term_end=END)


LASTING = replace(commitment(300, id_="po-2", state=CommitmentState.ACTIVE), term_end=END + 200 * DAY)


def world(*holdings: Holding, demands: Sequence[Demand] = (), blocks: int = 9) -> PoolState:
    return pool(
        *(demands or (asks("chat", 2, minimum=2), asks("fast", 3, blocks=1, priority=1))),
        nodes=(part(blocks=blocks),),
        holdings=holdings,
    )


FULL = (held("chat-0"), held("chat-1"), held("fast-0", 1), held("fast-1", 1), held("fast-2", 1))


def drained(state: PoolState, *records: CommitmentRecord, ahead: timedelta, settings: ExpirySettings = HOUR) -> Drained:
    """So long before the end."""
    now = END - ahead
    return drain(state, outlook(records, settings, now=now), settings, now=now)


def released(found: Drained) -> list[str]:
    return [each.member for each in found.holdings if not each.held]


def test_m8_the_plan_is_there_30_days_ahead_and_nothing_moves_before_the_drain() -> None:
    found = drained(world(*FULL), commitment(), LASTING, ahead=20 * DAY)
    assert found.plan is not None
    assert (found.plan.at, found.plan.stops) == (END - timedelta(hours=1), (Stop("chat", 2),))
    assert released(found) == []
    assert outlook((commitment(), LASTING), HOUR, now=END - timedelta(hours=1, seconds=1)).lasting_cu == 900


def test_m8_before_the_end_they_stop_one_after_the_other_each_when_the_one_before_is_gone() -> None:
    four = [held(f"fast-{number}", 1) for number in range(4)]
    crowd = [asks("fast", 4, blocks=1)]
    begun = drained(world(*four, demands=crowd, blocks=4), replace(commitment(400)), ahead=timedelta(minutes=59))
    assert released(begun) == ["fast-3"]
    again = drained(world(*begun.holdings, demands=crowd, blocks=4), commitment(400), ahead=timedelta(minutes=50))
    assert released(again) == ["fast-3"]
    assert again.plan is not None
    assert again.plan.stops == (Stop("fast", 3),)
    next_ = drained(world(*four[:3], demands=crowd, blocks=4), commitment(400), ahead=timedelta(minutes=40))
    assert released(next_) == ["fast-2"]


def test_m8_at_the_end_all_that_is_left_over_stops_at_once() -> None:
    over = replace(commitment(), state=CommitmentState.EXPIRED, compute_units=600)
    found = drained(world(*FULL, releasing("old-0", 1)), over, ahead=timedelta())
    assert sorted(released(found)) == ["chat-0", "chat-1", "fast-0", "fast-1", "fast-2", "old-0"]


def test_m8_of_several_commitments_only_what_the_ending_one_brings_goes() -> None:
    over = replace(commitment(), state=CommitmentState.EXPIRED)
    found = drained(world(*FULL), over, LASTING, ahead=timedelta())
    assert released(found) == ["chat-0", "chat-1"]


def test_m8_a_further_commitment_bought_meanwhile_cancels_the_plan_also_in_mid_drain() -> None:
    begun = drained(world(*FULL), commitment(), LASTING, ahead=timedelta(minutes=59))
    assert released(begun) == ["chat-0", "chat-1"]
    new = CommitmentRecord("po-3", NOW, 600)
    assert drained(world(*FULL), commitment(), LASTING, new, ahead=timedelta(minutes=59)) == Drained(FULL)


def test_a_renewing_commitment_stops_nobody() -> None:
    renewing = commitment(900, state=CommitmentState.RENEWING)
    assert drained(world(*FULL), renewing, ahead=timedelta(minutes=1)) == Drained(FULL)


def test_nothing_stops_because_a_record_is_lost_or_an_order_shrank() -> None:
    assert drained(world(*FULL), ahead=timedelta()) == Drained(FULL)
    assert drained(world(*FULL), LASTING, ahead=timedelta()) == Drained(FULL)


def test_an_agreed_reduction_stops_what_does_not_fit_any_more() -> None:
    reduction = Reduction(END.date() + timedelta(days=1), 300, NOW)
    reduced = replace(LASTING, compute_units=900, ordered_cu=900, reductions=(reduction,))
    at = reduction.holds_from
    early = outlook((reduced,), HOUR, now=at - DAY)
    plan = drain(world(*FULL), early, HOUR, now=at - DAY).plan
    assert plan is not None
    assert (plan.fall.before_cu, plan.fall.after_cu, plan.stops) == (900, 300, (Stop("chat", 2),))
    holds = replace(reduced, compute_units=300)
    found = drain(world(*FULL), outlook((holds,), HOUR, now=at), HOUR, now=at)
    assert released(found) == ["chat-0", "chat-1"]


def test_of_what_is_about_to_end_nothing_is_granted_any_more() -> None:
    crowd = [asks("fast", 4, blocks=1)]
    now = END - timedelta(minutes=30)
    ahead = outlook((commitment(400), replace(LASTING, compute_units=100)), HOUR, now=now)
    assert (ahead.contracted_cu, ahead.lasting_cu) == (500, 100)
    state = replace(world(held("fast-0", 1), demands=crowd, blocks=5), contracted_blocks=ahead.lasting_cu // 100)
    assert [each.member for each in planned(state, now=now).holdings] == ["fast-0"]


def test_what_is_released_anyway_counts_and_the_drain_waits_for_it() -> None:
    """Three of four are wanted: the fourth goes, and only then is the next one asked to."""
    four = [held(f"fast-{number}", 1) for number in range(4)]
    state = world(*four, demands=[asks("fast", 3, blocks=1)], blocks=4)
    lasting = replace(LASTING, compute_units=300)
    assert drained(state, commitment(100), lasting, ahead=timedelta(minutes=30)) == Drained(tuple(four))
    assert leaving(planned(state)) == ["fast-3"]


def test_i3_what_is_too_many_anyway_goes_with_those_that_stop_and_leaves_no_rest_below_the_minimum() -> None:
    over = replace(commitment(), state=CommitmentState.EXPIRED)
    three = [held(f"chat-{number}", 2) for number in range(3)]
    state = world(*three, demands=[asks("chat", 2, blocks=2, minimum=2)], blocks=6)
    assert released(drained(state, over, ahead=timedelta())) == ["chat-0", "chat-1", "chat-2"]


def test_c6_at_the_end_who_was_to_go_anyway_goes_with_the_rest_and_none_is_left_below_the_minimum() -> None:
    """One of two is wanted, and all that is left stops: not one now and the other with the next plan."""
    crowd = [asks("pair", 1, blocks=1, minimum=2), asks("other", 2, blocks=1, offering="pair", minimum=2)]
    state = world(*(held(name, 1) for name in ("pair-0", "pair-1", "other-0", "other-1")), demands=crowd, blocks=4)
    over = replace(commitment(400), state=CommitmentState.EXPIRED)
    assert sorted(released(drained(state, over, ahead=timedelta()))) == ["other-0", "other-1", "pair-0", "pair-1"]


def test_members_off_usable_nodes_stop_first_and_a_lost_node_holds_no_drain_up() -> None:
    nodes = (part("sick", 1, failed=True), part("fine", 3))
    holdings = (held("fast-0", 1, "sick"), held("fast-1", 1, "fine"), held("fast-2", 1, "fine"))
    state = pool(asks("fast", 3, blocks=1), nodes=nodes, holdings=holdings)
    ending, lasting = commitment(200), replace(LASTING, compute_units=200)
    found = drained(state, ending, lasting, ahead=timedelta(minutes=30))
    assert released(found) == ["fast-0"]
    lasting = replace(LASTING, compute_units=100)
    again = drained(replace(state, holdings=found.holdings), ending, lasting, ahead=timedelta(minutes=20))
    assert released(again) == ["fast-0", "fast-2"]


def test_m8_in_mid_rollout_who_runs_what_has_not_proved_itself_stops_first() -> None:
    old, new = Version("chat-1"), Version("chat-2")
    holdings = (
        replace(held("fast-0", 1), version=new),
        replace(held("fast-1", 1), version=old),
        replace(held("fast-2", 1), version=old),
    )
    state = pool(replace(asks("fast", 3, blocks=1), version=old), nodes=(part(blocks=3),), holdings=holdings)
    lasting = replace(LASTING, compute_units=200)
    assert released(drained(state, commitment(100), lasting, ahead=timedelta(minutes=30))) == ["fast-0"]


def test_i2_what_stopped_for_a_member_that_cannot_move_is_not_granted_its_room_again() -> None:
    """keep-0 is on a cordoned node, its change set will move it, and its place elsewhere is claimed already."""
    left = PoolNode("left", 0, usable=False, evacuate=True, replaced=3)
    state = pool(
        asks("keep", 1, priority=9, freeze=Freeze.STEPS),
        asks("fast", 3, blocks=1),
        nodes=(left, part("fine", 3)),
        holdings=(held("keep-0", 3, "left"),),
        contracted=3,
    )
    plan = planned(state)
    assert members(plan) == ["keep-0"]
    assert plan.waits["fast"].reason is Waiting.WAITING_FOR_COMPUTE_UNITS
    free = replace(state, demands=(asks("keep", 1, priority=9), asks("fast", 3, blocks=1)))
    assert members(planned(free)) == ["keep-0", "keep-1"], "it may move there itself"


def test_the_drain_is_planned_for_after_a_change_of_its_length_too() -> None:
    slow = ExpirySettings(timedelta(days=90))
    assert slow.drain == 30 * DAY
    moments = outlook((commitment(),), ExpirySettings(timedelta(hours=3)), now=END - DAY)
    assert moments.next_moment == END - timedelta(hours=3)
    assert outlook((commitment(),), ExpirySettings(timedelta()), now=END - DAY).next_moment == END


def test_the_fall_says_what_ends_and_what_is_reduced() -> None:
    reduced = replace(LASTING, reductions=(Reduction(date(2026, 3, 10), 100, NOW),))
    ahead = outlook((commitment(), reduced), HOUR, now=NOW)
    assert [fall.why for fall in ahead.falls] == [
        "commitment po-2 is reduced at 2026-03-10T00:00:00Z",
        "commitment po-1 ends at 2026-03-21T12:00:00Z",
    ]

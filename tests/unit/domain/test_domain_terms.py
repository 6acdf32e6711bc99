"""Terms: acceptance, first use, charging from a midnight, the end (behaviour.md M1, M2, M5, M9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from reserved_capacity.domain.terms import (
    CommitmentOrder,
    CommitmentRecord,
    CommitmentState,
    Placement,
    RenewalPolicy,
    Term,
    midnight_after,
    next_moment,
    plan_commitments,
)

ACCEPTED = datetime(2026, 2, 20, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def order(
    id_: str = "po-1",
    compute_units: int = 600,
    *,
    term: Term = Term.ONE_YEAR,
    provision_by: date | None = None,
    renewal: RenewalPolicy = RenewalPolicy.EXPIRE,
) -> CommitmentOrder:
    return CommitmentOrder(id_, compute_units, term, provision_by, renewal)


def plan(
    orders: Sequence[CommitmentOrder],
    recorded: Sequence[CommitmentRecord] = (),
    *,
    provisioned: int = 0,
    placed: Sequence[tuple[str, int]] = (),
    now: datetime = ACCEPTED,
    refused: Sequence[str] = (),
) -> tuple[CommitmentRecord, ...]:
    return plan_commitments(
        orders,
        recorded,
        acceptable=frozenset(each.id for each in orders) - frozenset(refused),
        provisioned_cu=provisioned,
        placements=[Placement(utc(at), compute_units) for at, compute_units in placed],
        now=now,
    )


def started(at: str, *, term: Term = Term.ONE_YEAR, renewal: RenewalPolicy = RenewalPolicy.EXPIRE) -> CommitmentRecord:
    """A commitment of 600 CU that was first used at that moment."""
    orders = [order(term=term, renewal=renewal)]
    accepted = plan(orders)
    return plan(orders, accepted, provisioned=600, placed=[(at, 300)], now=utc(at))[0]


# ----------------------------------------------------------------------------------------------------- acceptance, states


def test_an_order_is_accepted_now_and_waits_for_capacity() -> None:
    assert plan([order()]) == (CommitmentRecord("po-1", ACCEPTED, 600, CommitmentState.ORDERED, ordered_cu=600),)


def test_an_order_that_may_not_be_accepted_is_not_on_record() -> None:
    assert plan([order("po-1"), order("po-2")], refused=["po-1"])[0].id == "po-2"


def test_an_accepted_commitment_stays_accepted_though_it_could_not_be_today() -> None:
    accepted = plan([order()])
    assert plan([order()], accepted, refused=["po-1"], now=ACCEPTED + DAY) == accepted


def test_a_commitment_without_capacity_follows_its_order_and_goes_with_it() -> None:
    accepted = plan([order(compute_units=600)])
    assert plan([order(compute_units=700)], accepted)[0].compute_units == 700
    assert plan([], accepted) == ()


def test_m9_a_running_commitment_stays_on_record_whatever_the_spec_says() -> None:
    running = started("2026-03-01T10:00:00")
    assert plan([], [running], provisioned=600, now=utc("2026-03-02T10:00:00")) == (running,)
    provisioning = plan([order()], plan([order()]), provisioned=100)
    assert plan([], provisioning, provisioned=100) == provisioning


def test_some_claimed_capacity_is_provisioning_and_a_lost_node_does_not_open_the_contract_again() -> None:
    provisioning = plan([order()], plan([order()]), provisioned=100)
    assert (provisioning[0].state, provisioning[0].provisioned_cu) == (CommitmentState.PROVISIONING, 100)
    lost = plan([order()], provisioning)
    assert (lost[0].state, lost[0].provisioned_cu) == (CommitmentState.PROVISIONING, 0)


def test_running_commitments_are_those_between_ordered_and_expired() -> None:
    assert [state for state in CommitmentState if not state.running] == ["Ordered", "Expired"]


def test_m1_capacity_belongs_to_the_commitments_in_the_order_of_acceptance_then_of_id() -> None:
    first = plan([order("po-9", 300)])
    orders = [order("po-2", 300), order("po-1", 300), order("po-9", 300)]
    records = plan(orders, first, provisioned=700, now=ACCEPTED + DAY)
    assert [(each.id, each.provisioned_cu) for each in records] == [("po-9", 300), ("po-1", 300), ("po-2", 100)]
    assert [each.fully_provisioned_at for each in records] == [ACCEPTED + DAY, ACCEPTED + DAY, None]


def test_the_day_of_full_provision_is_written_once() -> None:
    full = plan([order()], plan([order()]), provisioned=600)
    lost = plan([order()], full, provisioned=0, now=ACCEPTED + timedelta(hours=1))
    again = plan([order()], lost, provisioned=600, now=ACCEPTED + timedelta(hours=2))
    assert again[0].fully_provisioned_at == ACCEPTED


# --------------------------------------------------------------------------------------------------- the start (M1)


@pytest.mark.parametrize(
    ("moment", "start"),
    [
        ("2026-03-01T23:59:59", "2026-03-02T00:00:00"),
        ("2026-03-02T00:00:00", "2026-03-03T00:00:00"),
        ("2026-03-01T23:59:59.999999", "2026-03-02T00:00:00"),
        ("2028-02-28T12:00:00", "2028-02-29T00:00:00"),
        ("2028-02-29T12:00:00", "2028-03-01T00:00:00"),
        ("2026-02-28T12:00:00", "2026-03-01T00:00:00"),
        ("2026-12-31T23:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_m1_charging_starts_at_the_midnight_utc_of_the_day_after(moment: str, start: str) -> None:
    assert midnight_after(utc(moment)) == utc(start)
    assert started(moment).billing_start == utc(start)


@pytest.mark.parametrize("hours", [-12, -3.5, 0, 5.75, 14])
def test_m1_the_day_is_that_of_utc_whatever_zone_a_moment_is_told_in(hours: float) -> None:
    zone = timezone(timedelta(hours=hours))
    late, early = utc("2026-03-01T23:59:59").astimezone(zone), utc("2026-03-02T00:00:00").astimezone(zone)
    assert midnight_after(late) == utc("2026-03-02T00:00:00")
    assert midnight_after(early) == utc("2026-03-03T00:00:00")
    assert midnight_after(late).tzinfo is UTC


@pytest.mark.parametrize(
    ("term", "first_used", "end"),
    [
        (Term.ONE_YEAR, "2026-03-01T10:00:00", "2027-03-02T00:00:00"),
        (Term.ONE_YEAR, "2028-02-28T10:00:00", "2029-02-28T00:00:00"),
        (Term.THREE_MONTHS, "2026-03-01T10:00:00", "2026-05-31T00:00:00"),
        (Term.THREE_MONTHS, "2028-02-01T10:00:00", "2028-05-02T00:00:00"),
    ],
)
def test_m2_a_term_is_90_or_365_days_whatever_the_calendar_says(term: Term, first_used: str, end: str) -> None:
    record = started(first_used, term=term)
    assert record.term_end == utc(end)
    assert record.renewal_deadline == utc(end) - 30 * DAY
    assert record.state is CommitmentState.ACTIVE


def test_m1_the_first_of_several_placements_decides_in_whatever_order_they_are_seen() -> None:
    placed = [("2026-03-05T10:00:00", 300), ("2026-03-01T10:00:00", 100), ("2026-03-03T10:00:00", 300)]
    record = plan([order()], plan([order()]), provisioned=600, placed=placed, now=utc("2026-03-06T00:00:00"))[0]
    assert record.first_provisioned_at == utc("2026-03-01T10:00:00")


def test_m1_moments_are_recorded_once_and_never_computed_again() -> None:
    record = started("2026-03-01T10:00:00")
    later = plan([order()], [record], provisioned=600, placed=[("2026-04-01T00:00:00", 600)], now=utc("2026-04-02"))
    assert later == (record,)


def test_m1_a_later_commitment_is_first_used_when_allocated_exceeds_the_sum_of_those_before() -> None:
    orders = [order("po-1", 300), order("po-2", 300), order("po-3", 300)]
    placed = [("2026-03-01T10:00:00", 300), ("2026-03-04T10:00:00", 100), ("2026-03-09T10:00:00", 300)]
    records = plan(orders, plan(orders), provisioned=900, placed=placed, now=utc("2026-03-09T11:00:00"))
    assert [each.first_provisioned_at for each in records] == [utc(at) for at, _ in placed]


def test_m1_exactly_the_sum_of_those_before_is_no_use_of_the_next() -> None:
    orders = [order("po-1", 300), order("po-2", 300)]
    records = plan(orders, plan(orders), provisioned=600, placed=[("2026-02-20T10:00:00", 300)])
    assert records[0].first_provisioned_at is not None
    assert records[1].first_provisioned_at is None


def test_m1_one_large_placement_may_start_two_commitments_at_once() -> None:
    orders = [order("po-1", 100), order("po-2", 300)]
    records = plan(orders, plan(orders), provisioned=400, placed=[("2026-02-20T10:00:00", 400)])
    assert {each.billing_start for each in records} == {utc("2026-02-21T00:00:00")}


def test_m1_when_a_commitment_has_ended_what_it_carried_falls_to_the_next_from_that_moment() -> None:
    first = started("2026-03-01T10:00:00", term=Term.THREE_MONTHS)
    end = first.term_end
    assert end is not None
    orders = [order("po-1", term=Term.THREE_MONTHS), order("po-2")]
    placed = [("2026-03-01T10:00:00", 600)]
    before = plan(orders, [first], provisioned=1200, placed=placed, now=end - DAY)
    assert before[1].first_provisioned_at is None
    # Charged by use, and not by the fallback, since it was fully provisioned only now.
    fresh = replace(before[1], fully_provisioned_at=None)
    after = plan(orders, [before[0], fresh], provisioned=1200, placed=placed, now=end)
    assert after[1].first_provisioned_at == end
    assert after[1].billing_start == end + DAY


def test_m1_a_commitment_is_not_charged_for_a_time_before_it_was_accepted() -> None:
    first = started("2026-03-01T10:00:00", term=Term.THREE_MONTHS)
    assert first.term_end is not None
    now = first.term_end + 20 * DAY
    orders = [order("po-1", term=Term.THREE_MONTHS), order("po-2")]
    records = plan(orders, [first], provisioned=600, placed=[("2026-03-01T10:00:00", 600)], now=now)
    assert [each.state for each in records] == [CommitmentState.EXPIRED, CommitmentState.ACTIVE]
    assert records[1].first_provisioned_at == now


# ------------------------------------------------------------------------------------------------ the fallback (M1)


def test_m1_without_a_placement_charging_starts_the_day_after_all_its_cu_were_provisioned() -> None:
    full = plan([order()], plan([order()]), provisioned=600, now=utc("2026-03-01T10:00:00"))
    assert full[0].billing_start is None
    assert next_moment(full, [order()], utc("2026-03-01T10:00:00")) == utc("2026-03-02T00:00:00")
    last = plan([order()], full, provisioned=600, now=utc("2026-03-01T23:59:59"))
    assert last[0].billing_start is None
    due = plan([order()], full, provisioned=600, now=utc("2026-03-02T00:00:00"))
    assert due[0].billing_start == utc("2026-03-02T00:00:00")
    assert due[0].first_provisioned_at is None
    assert due[0].state is CommitmentState.ACTIVE


def test_m1_the_fallback_waits_for_the_day_after_provision_by_if_that_is_later() -> None:
    agreed = [order(provision_by=date(2026, 3, 10))]
    full = plan(agreed, plan(agreed), provisioned=600, now=utc("2026-03-01T10:00:00"))
    assert plan(agreed, full, provisioned=600, now=utc("2026-03-10T23:59:59"))[0].billing_start is None
    due = plan(agreed, full, provisioned=600, now=utc("2026-03-11T00:00:00"))
    assert due[0].billing_start == utc("2026-03-11T00:00:00")
    late = plan(agreed, plan(agreed), provisioned=600, now=utc("2026-03-20T10:00:00"))
    assert next_moment(late, agreed, utc("2026-03-20T10:00:00")) == utc("2026-03-21T00:00:00")


def test_m1_capacity_in_part_starts_nothing_by_itself() -> None:
    part = plan([order()], plan([order()]), provisioned=500)
    assert plan([order()], part, provisioned=500, now=ACCEPTED + 99 * DAY)[0].billing_start is None
    assert next_moment(part, [order()], ACCEPTED) is None


def test_m1_a_placement_before_provision_by_starts_charging_early() -> None:
    agreed = [order(provision_by=date(2026, 3, 10))]
    placed = [("2026-03-01T10:00:00", 300)]
    record = plan(agreed, plan(agreed), provisioned=600, placed=placed, now=utc("2026-03-01T10:00:05"))[0]
    assert record.billing_start == utc("2026-03-02T00:00:00")


def test_m5_a_fallback_midnight_that_has_passed_stands_though_we_look_only_after_a_placement() -> None:
    full = plan([order()], plan([order()]), provisioned=600, now=utc("2026-03-01T10:00:00"))
    placed = [("2026-03-05T10:00:00", 300)]
    late = plan([order()], full, provisioned=600, placed=placed, now=utc("2026-03-05T10:00:05"))
    assert late[0].billing_start == utc("2026-03-02T00:00:00")
    assert late[0].first_provisioned_at == utc("2026-03-05T10:00:00")


def test_the_first_use_is_recorded_also_when_charging_has_begun_without_one() -> None:
    full = plan([order()], plan([order()]), provisioned=600, now=utc("2026-03-01T10:00:00"))
    due = plan([order()], full, provisioned=600, now=utc("2026-03-02T00:00:00"))
    used = plan([order()], due, provisioned=600, placed=[("2026-03-05T10:00:00", 300)], now=utc("2026-03-05T11:00:00"))
    assert used[0] == replace(due[0], first_provisioned_at=utc("2026-03-05T10:00:00"))


# -------------------------------------------------------------------------------------------------------------- the end


def test_states_follow_the_clock_from_active_by_the_deadline_to_expired() -> None:
    record = started("2026-03-01T10:00:00")
    assert (record.renewal_deadline, record.term_end) == (utc("2027-01-31"), utc("2027-03-02"))

    def state(now: str) -> CommitmentState:
        return plan([order()], [record], provisioned=600, now=utc(now))[0].state

    assert state("2027-01-30T23:59:59") is CommitmentState.ACTIVE
    assert state("2027-01-31T00:00:00") is CommitmentState.EXPIRING
    assert state("2027-03-01T23:59:59") is CommitmentState.EXPIRING
    assert state("2027-03-02T00:00:00") is CommitmentState.EXPIRED


def test_a_renewing_commitment_says_so_and_its_policy_is_frozen_past_the_deadline() -> None:
    renew = order(renewal=RenewalPolicy.RENEW)
    active = started("2026-03-01T10:00:00", renewal=RenewalPolicy.RENEW)
    now = utc("2027-02-01")
    renewing = plan([renew], [active], provisioned=600, now=now)
    assert renewing[0].state is CommitmentState.RENEWING
    assert plan([order()], renewing, provisioned=600, now=now)[0].state is CommitmentState.RENEWING
    expiring = plan([order()], [active], provisioned=600, now=now)
    assert plan([renew], expiring, provisioned=600, now=now)[0].state is CommitmentState.EXPIRING


def test_the_policy_is_reversible_until_the_deadline() -> None:
    active = started("2026-03-01T10:00:00", renewal=RenewalPolicy.RENEW)
    day_before = plan([order()], [active], provisioned=600, now=utc("2027-01-30"))
    assert day_before[0].state is CommitmentState.ACTIVE
    assert plan([order()], day_before, provisioned=600, now=utc("2027-01-31"))[0].state is CommitmentState.EXPIRING


def test_m5_a_commitment_that_ended_while_nobody_looked_is_expired_at_the_first_look() -> None:
    active = started("2026-03-01T10:00:00")
    assert plan([order()], [active], provisioned=600, now=utc("2028-01-01"))[0].state is CommitmentState.EXPIRED


def test_an_ended_commitment_gives_its_capacity_to_the_next_in_the_same_plan() -> None:
    first = started("2026-03-01T10:00:00", term=Term.THREE_MONTHS)
    assert first.term_end is not None
    orders = [order("po-1", term=Term.THREE_MONTHS), order("po-2")]
    both = plan(orders, [first], provisioned=600, now=first.term_end - DAY)
    assert [each.provisioned_cu for each in both] == [600, 0]
    after = plan(orders, both, provisioned=600, now=first.term_end)
    assert [each.provisioned_cu for each in after] == [0, 600]
    assert plan(orders, after, provisioned=600, now=first.term_end) == after


def test_the_next_moment_is_the_deadline_then_the_end_then_nothing() -> None:
    record = started("2026-03-01T10:00:00")
    assert next_moment([record], [order()], utc("2026-03-02")) == record.renewal_deadline
    assert record.renewal_deadline is not None
    assert next_moment([record], [order()], record.renewal_deadline) == record.term_end
    assert record.term_end is not None
    assert next_moment([record], [order()], record.term_end) is None


def test_i8_a_settled_record_is_planned_as_it_is() -> None:
    record = started("2026-03-01T10:00:00")
    placed = [("2026-03-01T10:00:00", 300)]
    assert plan([order()], [record], provisioned=600, placed=placed, now=utc("2026-06-01")) == (record,)

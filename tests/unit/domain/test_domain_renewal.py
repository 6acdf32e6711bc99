"""Renewal and agreed reductions of a commitment, whenever somebody looks (behaviour.md M1, M5, M8, M9; ADR 0020, 0025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from reserved_capacity.domain.terms import (
    MAX_RECORDS,
    Amendment,
    CommitmentOrder,
    CommitmentRecord,
    CommitmentState,
    Placement,
    Reduction,
    RenewalPolicy,
    Term,
    contracted_at,
    next_moment,
    plan_commitments,
)

DAY = timedelta(days=1)
USED = datetime(2026, 3, 1, 10, tzinfo=UTC)
START = datetime(2026, 3, 2, tzinfo=UTC)
YEAR_END = datetime(2027, 3, 2, tzinfo=UTC)


def order(
    *amendments: tuple[str, int],
    id_: str = "po-1",
    term: Term = Term.ONE_YEAR,
    renewal: RenewalPolicy = RenewalPolicy.EXPIRE,
    then: Term | None = None,
) -> CommitmentOrder:
    return CommitmentOrder(
        id_,
        600,
        term,
        date(2026, 3, 9),
        renewal,
        then,
        tuple(Amendment(date.fromisoformat(at), cu) for at, cu in amendments),
    )


def look(
    given: CommitmentOrder, recorded: Sequence[CommitmentRecord], now: datetime, *, placed: int = 300
) -> tuple[CommitmentRecord, ...]:
    return plan_commitments(
        [given],
        recorded,
        acceptable=frozenset({given.id}),
        provisioned_cu=600,
        placements=[Placement(USED, placed)] if placed else [],
        now=now,
    )


def running(given: CommitmentOrder) -> tuple[CommitmentRecord, ...]:
    return look(given, look(given, (), USED - DAY, placed=0), USED)


def renewing(**terms: Term) -> CommitmentOrder:
    return order(renewal=RenewalPolicy.RENEW, **terms)


# -------------------------------------------------------------------------------------------------------------- renewal


def test_m8_a_renewed_term_follows_without_a_gap_and_is_counted() -> None:
    first = running(renewing())
    assert first[0].number == 1
    last_moment = look(renewing(), first, YEAR_END - timedelta(seconds=1))
    assert last_moment[0].state is CommitmentState.RENEWING
    second = look(renewing(), last_moment, YEAR_END)[0]
    assert (second.number, second.state) == (2, CommitmentState.ACTIVE)
    assert second.billing_start == YEAR_END
    assert second.term_end == YEAR_END + 365 * DAY
    assert second.renewal_deadline == YEAR_END + 335 * DAY
    assert (second.accepted_at, second.first_provisioned_at) == (first[0].accepted_at, USED)
    assert second.provisioned_cu == 600


def test_m8_the_renewal_may_have_another_term_and_else_has_the_same_again() -> None:
    quarter = look(renewing(then=Term.THREE_MONTHS), running(renewing()), YEAR_END)
    assert quarter[0].term_end == YEAR_END + 90 * DAY
    assert quarter[0].term is Term.THREE_MONTHS
    again = look(renewing(), quarter, YEAR_END + 90 * DAY)
    assert (again[0].number, again[0].term) == (3, Term.THREE_MONTHS)


@pytest.mark.parametrize("days", [0, 1, 89, 90, 91, 300, 365, 400])
def test_m5_an_absence_over_several_ends_gives_the_same_as_being_there(days: int) -> None:
    given = renewing(then=Term.THREE_MONTHS)
    there = absent = running(given)
    for day in range(365 + days + 1):
        there = look(given, there, START + day * DAY)
    assert look(given, absent, START + (365 + days) * DAY) == there
    assert there[0].number == 2 + days // 90


def test_m5_a_term_that_began_and_ended_while_nobody_looked_is_renewed_in_one_look() -> None:
    given = renewing(term=Term.THREE_MONTHS)
    accepted = look(given, (), USED - DAY, placed=0)
    late = look(given, accepted, START + 200 * DAY)[0]
    assert (late.number, late.billing_start) == (3, START + 180 * DAY)
    assert look(given, (late,), START + 200 * DAY) == (late,)


def test_m8_past_the_deadline_the_decision_is_frozen_and_a_new_term_opens_it_again() -> None:
    expiring = look(order(), running(order()), YEAR_END - 30 * DAY)
    assert look(renewing(), expiring, YEAR_END)[0].state is CommitmentState.EXPIRED
    frozen = look(renewing(), running(renewing()), YEAR_END - 30 * DAY)
    second = look(order(), frozen, YEAR_END)
    assert second[0].state is CommitmentState.ACTIVE
    assert look(order(), second, YEAR_END + 365 * DAY)[0].state is CommitmentState.EXPIRED


def test_m9_a_renewing_commitment_whose_order_is_lost_renews_all_the_same() -> None:
    frozen = look(renewing(), running(renewing()), YEAR_END - DAY)
    (second,) = plan_commitments(
        [], frozen, acceptable=frozenset(), provisioned_cu=600, placements=[], now=YEAR_END + DAY
    )
    assert (second.number, second.compute_units, second.term) == (2, 600, Term.ONE_YEAR)


def test_m5_a_clock_that_jumps_back_does_not_bring_an_ended_commitment_to_life() -> None:
    ended = look(order(), running(order()), YEAR_END)
    back = look(order(), ended, YEAR_END - DAY)[0]
    assert (back.state, back.provisioned_cu) == (CommitmentState.EXPIRED, 0)


def test_what_has_ended_and_left_the_spec_is_forgotten_when_the_record_is_full() -> None:
    past = [
        CommitmentRecord(f"old-{number:02}", USED + number * DAY, 100, CommitmentState.EXPIRED, term_end=START)
        for number in range(MAX_RECORDS)
    ]
    records = look(order(), past, YEAR_END, placed=0)
    assert len(records) == MAX_RECORDS
    assert {"old-00", "po-1"} & {each.id for each in records} == {"po-1"}


# ----------------------------------------------------------------------------------------------------------- amendments


def test_m9_an_amendment_holds_from_the_midnight_of_its_day() -> None:
    given = order(("2026-06-01", 300))
    records = look(given, running(order()), datetime(2026, 5, 1, 9, tzinfo=UTC))
    assert records[0].reductions == (Reduction(date(2026, 6, 1), 300, datetime(2026, 5, 1, 9, tzinfo=UTC)),)
    assert records[0].compute_units == 600
    assert next_moment(records, [given], datetime(2026, 5, 1, 9, tzinfo=UTC)) == datetime(2026, 6, 1, tzinfo=UTC)
    just_before = look(given, records, datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC))
    assert just_before[0].compute_units == 600
    after = look(given, just_before, datetime(2026, 6, 1, tzinfo=UTC))[0]
    assert (after.compute_units, after.ordered_cu, after.provisioned_cu) == (300, 600, 300)
    assert (after.state, after.term_end) == (CommitmentState.ACTIVE, YEAR_END)


def test_an_amendment_of_a_past_day_holds_from_the_first_midnight_after_it_was_seen() -> None:
    given, seen = order(("2026-04-01", 300)), datetime(2026, 6, 1, 9, tzinfo=UTC)
    records = look(given, running(order()), seen)
    assert records[0].compute_units == 600
    assert look(given, records, datetime(2026, 6, 2, tzinfo=UTC))[0].compute_units == 300


def test_m5_once_seen_it_does_not_matter_when_we_look_again() -> None:
    given = order(("2026-06-01", 300), ("2026-08-01", 0))
    seen = there = look(given, running(order()), datetime(2026, 5, 1, tzinfo=UTC))
    for day in range(120):
        there = look(given, there, datetime(2026, 5, 1, tzinfo=UTC) + day * DAY)
    assert look(given, seen, datetime(2026, 5, 1, tzinfo=UTC) + 119 * DAY) == there


def test_reductions_only_ever_reduce() -> None:
    given = order(("2026-06-01", 300), ("2026-07-01", 500))
    records = look(given, running(order()), datetime(2026, 5, 1, tzinfo=UTC))
    assert look(given, records, datetime(2026, 9, 1, tzinfo=UTC))[0].compute_units == 300


def test_an_amendment_to_nothing_ends_the_commitment_on_its_day() -> None:
    given, end = order(("2026-08-01", 0)), datetime(2026, 8, 1, tzinfo=UTC)
    early = look(given, running(order()), datetime(2026, 5, 1, tzinfo=UTC))
    assert (early[0].state, early[0].term_end) == (CommitmentState.ACTIVE, end)
    assert early[0].renewal_deadline == end - 30 * DAY
    assert look(given, early, end - 30 * DAY)[0].state is CommitmentState.EXPIRING
    last = look(given, early, end)[0]
    assert (last.state, last.compute_units, last.provisioned_cu) == (CommitmentState.EXPIRED, 0, 0)


def test_an_agreed_end_stands_above_a_renewal_also_past_the_deadline() -> None:
    frozen = look(renewing(), running(renewing()), YEAR_END - 20 * DAY)
    assert frozen[0].state is CommitmentState.RENEWING
    given = replace(renewing(), amendments=(Amendment(date(2027, 2, 20), 0),))
    ending = look(given, frozen, YEAR_END - 19 * DAY)
    assert (ending[0].state, ending[0].term_end) == (CommitmentState.EXPIRING, datetime(2027, 2, 20, tzinfo=UTC))
    assert look(given, ending, YEAR_END)[0].state is CommitmentState.EXPIRED


def test_an_agreed_end_in_the_next_term_lets_the_next_term_begin() -> None:
    given = replace(renewing(), amendments=(Amendment(date(2027, 6, 1), 0),))
    records = look(given, running(given), YEAR_END)
    assert (records[0].number, records[0].term_end) == (2, datetime(2027, 6, 1, tzinfo=UTC))
    assert look(given, records, datetime(2027, 6, 1, tzinfo=UTC))[0].state is CommitmentState.EXPIRED


def test_what_is_ended_before_its_term_begins_is_never_charged() -> None:
    given = order(("2026-03-02", 0))
    accepted = look(given, (), USED - 2 * DAY, placed=0)
    assert accepted[0].state is CommitmentState.PROVISIONING
    over = look(given, accepted, START + DAY, placed=0)[0]
    assert (over.state, over.billing_start, over.term_end) == (CommitmentState.EXPIRED, None, START)


def test_m1_what_a_reduced_commitment_carried_falls_to_the_next_from_that_moment() -> None:
    orders = [order(("2026-06-01", 300)), CommitmentOrder("po-2", 300, Term.ONE_YEAR, None, RenewalPolicy.EXPIRE)]

    def both(recorded: Sequence[CommitmentRecord], now: datetime, provisioned: int) -> tuple[CommitmentRecord, ...]:
        return plan_commitments(
            orders,
            recorded,
            acceptable=frozenset({"po-1", "po-2"}),
            provisioned_cu=provisioned,
            placements=[Placement(USED, 600)],
            now=now,
        )

    before = both((), USED, 600)
    late = both(before, datetime(2026, 7, 1, tzinfo=UTC), 600)
    assert late[1].first_provisioned_at == datetime(2026, 6, 1, tzinfo=UTC)
    assert [each.provisioned_cu for each in late] == [300, 300]


def test_contracted_cu_fall_at_the_end_and_by_reductions_and_not_by_a_renewal() -> None:
    given = order(("2026-06-01", 300))
    records = look(given, running(order()), datetime(2026, 5, 1, tzinfo=UTC))
    assert contracted_at(records, datetime(2026, 5, 31, tzinfo=UTC)) == 600
    assert contracted_at(records, datetime(2026, 6, 1, tzinfo=UTC)) == 300
    expiring = look(given, records, YEAR_END - DAY)
    assert contracted_at(expiring, YEAR_END) == 0
    renews = look(renewing(), running(renewing()), YEAR_END - DAY)
    assert contracted_at(renews, YEAR_END) == 600

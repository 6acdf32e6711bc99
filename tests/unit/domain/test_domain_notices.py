"""Notices of an end, and what CommitmentSecure says (behaviour.md M8; api.md, condition reasons)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from reserved_capacity.domain.commitment_secure import SecureFacts, commitment_secure, notices_told
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.expiry import ExpiryPlan, ExpirySettings, Fall, Stop, outlook
from reserved_capacity.domain.notices import newest_notice, notices_of
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.terms import (
    CommitmentOrder,
    CommitmentRecord,
    CommitmentState,
    Reduction,
    RenewalPolicy,
    Term,
)

DAY = timedelta(days=1)
START = datetime(2026, 3, 2, tzinfo=UTC)
END = datetime(2027, 3, 2, tzinfo=UTC)


def record(
    id_: str = "po-1",
    *,
    state: CommitmentState = CommitmentState.ACTIVE,
    days: int = 365,
    cu: int = 600,
    end: datetime = END,
) -> CommitmentRecord:
    return CommitmentRecord(
        id=id_,
        accepted_at=end - (days + 1) * DAY,
        compute_units=cu,
        state=state,
        billing_start=end - days * DAY,
        term_end=end,
        renewal_deadline=end - 30 * DAY,
        ordered_cu=cu,
    )


def order(id_: str = "po-1", renewal: RenewalPolicy = RenewalPolicy.EXPIRE) -> CommitmentOrder:
    return CommitmentOrder(id_, 600, Term.ONE_YEAR, None, renewal)


def facts(*records: CommitmentRecord, now: datetime, renewal: RenewalPolicy = RenewalPolicy.EXPIRE) -> SecureFacts:
    return SecureFacts(
        records, {each.id: order(each.id, renewal) for each in records}, outlook(records, ExpirySettings(), now=now)
    )


def says(*records: CommitmentRecord, now: datetime, renewal: RenewalPolicy = RenewalPolicy.EXPIRE) -> ConditionValue:
    return commitment_secure(facts(*records, now=now, renewal=renewal), now)


# -------------------------------------------------------------------------------------------------------------- notices


def test_m8_notices_are_due_90_30_7_and_1_days_ahead() -> None:
    assert [(notice.days, notice.at) for notice in notices_of(record())] == [
        (days, END - days * DAY) for days in (90, 30, 7, 1)
    ]
    assert notices_of(record(days=90))[0].at == END - 90 * DAY


def test_m4_the_key_of_a_notice_is_the_same_whoever_computes_it_and_differs_for_every_end_and_day() -> None:
    keys = [notice.key for notice in notices_of(record())]
    assert keys[0] == "po-1/2027-03-02/Notice90"
    assert len({*keys, *(notice.key for notice in notices_of(record(end=END + DAY)))}) == 8


@pytest.mark.parametrize(
    ("ahead", "days"),
    [(91, None), (90, 90), (31, 90), (30, 30), (8, 30), (7, 7), (2, 7), (1, 1), (0.01, 1), (0, None)],
)
def test_m8_the_newest_notice_stands_until_the_next_one(ahead: float, days: int | None) -> None:
    now = END - timedelta(days=ahead)
    state = CommitmentState.EXPIRED if not ahead else CommitmentState.ACTIVE
    found = newest_notice(record(state=state), now)
    assert (found.days if found else None) == days


def test_m8_an_end_that_an_agreement_brings_forward_is_noticed_from_when_it_was_seen() -> None:
    seen = datetime(2026, 8, 12, 9, tzinfo=UTC)
    reduction = Reduction(date(2026, 9, 1), 0, seen)
    brought = replace(record(), term_end=reduction.holds_from, reductions=(reduction,))
    assert [(notice.days, notice.at) for notice in notices_of(brought)] == [
        (30, seen),
        (7, datetime(2026, 8, 25, tzinfo=UTC)),
        (1, datetime(2026, 8, 31, tzinfo=UTC)),
    ]


def test_what_has_not_begun_has_no_end_to_give_notice_of() -> None:
    assert notices_of(CommitmentRecord("po-1", START, 600)) == ()


# ---------------------------------------------------------------------------------------------------- CommitmentSecure


def test_secure_names_the_next_end() -> None:
    value = says(record(), now=START + DAY)
    assert (value.status, value.reason) == (ConditionStatus.TRUE, "Secure")
    assert value.message == "the next end is that of commitment po-1, at 2027-03-02T00:00:00Z"
    assert says(now=START).message == "no term is running, so none ends"


def test_secure_within_90_days_says_what_follows_and_until_when_that_can_be_changed() -> None:
    value = says(record(), now=END - 60 * DAY)
    assert value.reason == "Secure"
    assert value.message == (
        "commitment po-1 ends within 90 days, at 2027-03-02T00:00:00Z, and is not renewed unless its renewal.policy is "
        "changed by 2027-01-31T00:00:00Z"
    )
    assert (
        "is followed by another term unless" in says(record(), now=END - 60 * DAY, renewal=RenewalPolicy.RENEW).message
    )


def test_expires_soon_says_what_stops_and_what_to_do() -> None:
    now = END - 5 * DAY
    plan = ExpiryPlan(END - timedelta(hours=1), Fall(END, 600, 0), (Stop("chat", 2), Stop("fast", 1)))
    value = commitment_secure(replace(facts(record(state=CommitmentState.EXPIRING), now=now), expiry=plan), now)
    assert (value.status, value.reason) == (ConditionStatus.FALSE, "ExpiresSoon")
    assert value.message == (
        "commitment po-1 ends within 7 days, at 2027-03-02T00:00:00Z, and is not renewed; the rest of the pool does not "
        "hold all instances: from 2027-03-01T23:00:00Z on 2 of chat, 1 of fast stop; add a commitment to keep the capacity"
    )


def test_renewing_is_secure_and_says_so() -> None:
    value = says(record(state=CommitmentState.RENEWING), now=END - 5 * DAY)
    assert (value.status, value.reason) == (ConditionStatus.TRUE, "Renewing")
    assert value.message.endswith("and is followed by another term without a gap")


def test_what_expires_weighs_more_than_what_renews() -> None:
    renewing = record("po-2", state=CommitmentState.RENEWING, end=END - DAY)
    assert says(record(state=CommitmentState.EXPIRING), renewing, now=END - 5 * DAY).reason == "ExpiresSoon"


def test_expired_stands_until_the_capacity_is_made_up_for_or_the_entry_is_removed() -> None:
    ended = record(state=CommitmentState.EXPIRED)
    value = says(ended, now=END + DAY)
    assert (value.status, value.reason) == (ConditionStatus.FALSE, "Expired")
    assert "commitment po-1 ended at 2027-03-02T00:00:00Z" in value.message
    assert "add a commitment to have the capacity again, or remove what has expired" in value.message
    successor = record("po-2", end=END + 300 * DAY)
    assert says(ended, successor, now=END + DAY).reason == "Secure"
    assert says(ended, replace(successor, compute_units=300, ordered_cu=300), now=END + DAY).reason == "Expired"
    removed = SecureFacts((ended,), {}, outlook((ended,), ExpirySettings(), now=END + DAY))
    assert commitment_secure(removed, END + DAY).reason == "Secure"


def test_an_agreed_reduction_to_come_is_told() -> None:
    reduced = replace(record(), reductions=(Reduction(date(2026, 6, 1), 300, START),))
    value = says(reduced, now=datetime(2026, 5, 20, tzinfo=UTC))
    assert value.reason == "Secure"
    assert value.message.endswith("commitment po-1 is reduced to 300 CU at 2026-06-01T00:00:00Z")


def test_i8_the_message_changes_with_notices_only_and_not_with_the_hour() -> None:
    moments = [END - timedelta(hours=hours) for hours in range(24 * 40, 0, -1)]
    messages = {says(record(), now=now).message for now in moments}
    assert len(messages) == 4


def test_a_notice_is_told_once_when_the_message_begins_to_give_it() -> None:
    told: list[tuple[int, bool]] = []
    before = ""
    for hours in range(24 * 100, 0, -5):
        now = END - timedelta(hours=hours)
        state = CommitmentState.RENEWING if hours <= 24 * 30 else CommitmentState.ACTIVE
        seen = facts(record(state=state), now=now, renewal=RenewalPolicy.RENEW)
        after = commitment_secure(seen, now).message
        told += [(notice.days, renews) for notice, renews in notices_told(seen, now, before, after)]
        before = after
    assert told == [(90, True), (30, True), (7, True), (1, True)]


def test_more_ends_than_can_be_named_are_counted() -> None:
    crowd = [record(f"po-{number:02}", state=CommitmentState.EXPIRING) for number in range(13)]
    assert "; and 3 more; add a commitment" in says(*crowd, now=END - DAY).message

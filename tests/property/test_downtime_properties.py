"""Downtime of any life (behaviour.md N4, M5, I7, I8): what is counted is a partition of time, by month and cause."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.downtime import (
    Cause,
    DowntimeSeconds,
    MissingMember,
    MonthOfService,
    NodeHealth,
    ServiceFacts,
    ServiceRecord,
    bounds_of,
    month_of,
    observed,
)
from tests.property.worlds import shuffled

START = datetime(2026, 1, 31, 20, tzinfo=UTC)
HEALTH = st.sampled_from([*NodeHealth])
MEMBERS = st.builds(MissingMember, HEALTH, st.booleans(), st.booleans())
FACTS = st.builds(
    ServiceFacts,
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
    st.lists(MEMBERS, max_size=3).map(tuple),
    HEALTH,
)
STEPS = st.sampled_from((0, 1, 59, 3600, 5 * 3600, 86_400, 12 * 86_400, 45 * 86_400))
LOOKS = st.lists(st.tuples(STEPS, FACTS), max_size=12)
BACKWARDS = st.lists(st.tuples(STEPS | STEPS.map(lambda seconds: -seconds), FACTS), max_size=12)


def by_cause(seconds: DowntimeSeconds) -> dict[Cause, int]:
    return {
        Cause.PROVIDER_FAULT: seconds.provider_fault,
        Cause.PLANNED_MAINTENANCE: seconds.planned_maintenance,
        Cause.CUSTOMER_CHANGE: seconds.customer_change,
    }


def lives(looks: list[tuple[int, ServiceFacts]]) -> list[tuple[datetime, ServiceRecord]]:
    """The record after each look, from the first on that there is one."""
    now, record, found = START, None, []
    for seconds, facts in looks:
        now += timedelta(seconds=seconds)
        record = observed(record, facts, now=now)
        if record is not None:
            found.append((now, record))
    return found


def by_hand(life: list[tuple[datetime, ServiceRecord]]) -> Counter[tuple[str, Cause]]:
    """Walk from look to look, month by month, with the cause that was told at the look before."""
    counted = Counter[tuple[str, Cause]]()
    for (start, record), (until, _) in pairwise(life):
        at = start
        while record.cause is not None and at < until:
            step = min(until, bounds_of(month_of(at))[1])
            counted[month_of(at), record.cause] += int((step - at).total_seconds())
            at = step
    return counted


@given(LOOKS)
def test_n4_months_and_causes_add_up_as_by_hand(looks: list[tuple[int, ServiceFacts]]) -> None:
    life = lives([*looks, (1, ServiceFacts(0, 0, 0))])
    expected = by_hand(life)
    for _, record in life[-1:]:
        for month in filter(None, (record.current, record.last_closed)):
            for cause, seconds in by_cause(month.downtime).items():
                assert seconds == expected[month.month, cause]


@given(BACKWARDS)
def test_n4_m5_the_sum_never_exceeds_the_month_wherever_the_clock_jumps(looks: list[tuple[int, ServiceFacts]]) -> None:
    for _, record in lives(looks):
        for month in filter(None, (record.current, record.last_closed)):
            first, end = bounds_of(month.month)
            assert 0 <= month.downtime.total <= (end - first).total_seconds()


@given(BACKWARDS)
def test_n4_m5_the_record_goes_only_forward(looks: list[tuple[int, ServiceFacts]]) -> None:
    records = [record for _, record in lives(looks)]
    for before, after in pairwise(records):
        assert (after.current.month, after.counted_until) >= (before.current.month, before.counted_until)
        if after.current.month == before.current.month:
            assert after.current.downtime.total >= before.current.downtime.total


@given(LOOKS, st.data())
def test_i7_i8_how_often_we_look_and_in_which_order_members_are_seen_does_not_matter(
    looks: list[tuple[int, ServiceFacts]], data: st.DataObject
) -> None:
    often = []
    for seconds, facts in looks:
        half = seconds // 2
        seen = replace(facts, missing=shuffled(data, facts.missing))
        often += [(seconds, seen), (0, facts)]
        if data.draw(st.booleans()) and len(often) > 2:
            often[-2:] = [(half, often[-3][1]), (seconds - half, seen), (0, facts)]
    assert [record for _, record in lives(often)][-1:] == [record for _, record in lives(looks)][-1:]


@given(st.integers(0, 40 * 86_400), st.integers(0, 40 * 86_400), st.integers(0, 31 * 86_400))
def test_t6_uptime_is_the_floor_of_the_exact_share(provider: int, customer: int, late: int) -> None:
    month = MonthOfService("2026-03", DowntimeSeconds(provider_fault=provider, customer_change=customer))
    first, end = bounds_of(month.month)
    since = first + timedelta(seconds=late)
    length = int((end - since).total_seconds())
    share = Fraction(max(0, length - provider) * 100_000, length) if length else Fraction(100_000)
    assert month.uptime_thousandths(since) == share.numerator // share.denominator

"""The history of a pool under any sequence of looks at it, by clocks that jump (M5, M6, C4)."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.billing.history import Presence, plan_intervals
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind

START = datetime(2026, 3, 1, tzinfo=UTC)
POOL = ("acme", "prod")

moments = st.integers(0, 72).map(lambda hours: START + timedelta(hours=hours))
presences = st.builds(
    Presence,
    st.sampled_from(IntervalKind),
    st.sampled_from(("a", "b")),
    st.sampled_from(("x", "y")),
    st.sampled_from((0, 100, 300)),
    st.none() | moments,
)
looks = st.tuples(moments, st.lists(presences, unique_by=lambda each: (each.kind, each.subject)))


def observed(history: list[Interval], present: list[Presence], at: datetime) -> list[Interval]:
    lasting = [each for each in history if each.until is None]
    ends: dict[tuple[IntervalKind, str], datetime] = {}
    for each in history:
        if each.until is not None:
            key = (each.kind, each.subject)
            ends[key] = max(each.until, ends.get(key, each.until))
    changes = plan_intervals(POOL, lasting, present, at, ends)
    over = {(each.kind, each.subject) for each in changes.ended}
    kept = [each for each in history if each.until is not None or (each.kind, each.subject) not in over]
    return [*kept, *changes.ended, *changes.begun]


@given(st.lists(looks, min_size=1, max_size=6))
def test_the_history_says_who_is_there_and_counts_no_unit_twice(
    given_looks: list[tuple[datetime, list[Presence]]],
) -> None:
    history: list[Interval] = []
    for at, present in given_looks:
        history = observed(history, present, at)
        assert {
            (each.kind, each.subject, each.owner, each.compute_units) for each in history if each.until is None
        } == {(each.kind, each.subject, each.owner, each.compute_units) for each in present}
        assert observed(history, present, at) == history, "looking again changes nothing"
    of_subject: dict[tuple[IntervalKind, str], list[Interval]] = defaultdict(list)
    for each in history:
        of_subject[each.kind, each.subject].append(each)
    far = START + timedelta(days=9)
    for intervals in of_subject.values():
        ordered = sorted(intervals, key=lambda each: (each.since, each.until or far))
        assert all(each.until is None or each.until >= each.since for each in ordered)
        for one, following in pairwise(ordered):
            assert one.until is not None
            assert one.until <= following.since


@given(moments, moments)
def test_who_is_known_to_be_there_for_longer_is_there_for_longer(since: datetime, at: datetime) -> None:
    (begun,) = plan_intervals(POOL, (), [Presence(IntervalKind.HELD, "a", "x", 100, since)], at, {}).begun
    assert begun.since == min(since, at)

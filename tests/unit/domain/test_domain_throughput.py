"""S7: what an update brings, from the members' own counters while both versions serve."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.throughput import MEASURABLE_TOKENS, Comparison, Counters, Window, compared
from reserved_capacity.domain.versions import Version

OLD, NEW = Version("m-1"), Version("m-2")
START = datetime(2026, 3, 1, 10, tzinfo=UTC)


def ratio(windows: list[Window], old: Version = OLD, new: Version = NEW) -> int | None:
    found = compared(windows, old, new)
    return found.ratio if found is not None else None


def seen(version: Version, tokens: int, busy_ms: int | None, cu: int = 100, *, wall_seconds: int = 60) -> Window:
    """A member that had made a million tokens before anybody looked."""
    first = Counters(START, 1_000_000, None if busy_ms is None else 5_000)
    last = Counters(
        START + timedelta(seconds=wall_seconds), 1_000_000 + tokens, None if busy_ms is None else 5_000 + busy_ms
    )
    return Window(version, cu, first, first).until(last)


def test_s7_twice_the_tokens_in_the_same_working_time_are_a_ratio_of_two() -> None:
    assert ratio([seen(OLD, 2000, 4000), seen(NEW, 4000, 4000)]) == 2000


def test_s7_it_is_per_compute_unit() -> None:
    assert ratio([seen(OLD, 2000, 4000, cu=300), seen(NEW, 2000, 4000, cu=100)]) == 3000


def test_s7_both_sides_are_told_in_tokens_per_working_second_and_hundred_compute_units() -> None:
    windows = [seen(OLD, 2000, 4000, cu=200), seen(NEW, 2000, 1600)]
    assert compared(windows, OLD, NEW) == Comparison(old=250_000, new=1_250_000, ratio=5000)


def test_s7_what_was_made_before_the_first_look_does_not_count() -> None:
    """It had other requests, at another time."""
    window = seen(OLD, 2000, 4000)
    assert (window.tokens, window.unit_ms) == (2000, 4000 * 100)


@pytest.mark.parametrize(("old", "new"), [(MEASURABLE_TOKENS - 1, 5000), (5000, MEASURABLE_TOKENS - 1), (0, 0)])
def test_s7_too_few_tokens_on_either_side_are_not_measured(old: int, new: int) -> None:
    assert ratio([seen(OLD, old, 4000), seen(NEW, new, 4000)]) is None


def test_s7_without_members_of_both_versions_nothing_is_measured() -> None:
    assert ratio([seen(NEW, 5000, 4000)]) is None


def test_s7_a_server_that_does_not_say_how_long_it_worked_is_measured_by_the_clock() -> None:
    windows = [seen(OLD, 2000, None, wall_seconds=20), seen(NEW, 2000, None, wall_seconds=10)]
    assert ratio(windows) == 2000


def test_s7_a_server_that_starts_anew_begins_a_new_window() -> None:
    anew = seen(OLD, 2000, 4000).until(Counters(START + timedelta(seconds=90), 10, 20))
    assert (anew.tokens, anew.unit_ms) == (0, 0)
    assert anew.until(Counters(START + timedelta(seconds=95), 1510, 2020)).tokens == 1500


@given(st.lists(st.tuples(st.sampled_from([OLD, NEW]), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=6))
def test_s7_old_by_new_is_the_inverse_of_new_by_old(parts: list[tuple[Version, int, int]]) -> None:
    windows = [seen(*part) for part in parts]
    forth, back = ratio(windows), ratio(windows, NEW, OLD)
    assert (forth is None) == (back is None)
    if forth and back and min(forth, back) > 100:
        assert abs(forth * back - 10**6) <= (forth + back + 1) / 2 + 1

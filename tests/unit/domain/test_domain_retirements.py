"""What was promised of a retirement date, what is said of it, and when (behaviour.md S8)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.lifecycle import LifecycleDates
from reserved_capacity.domain.reasons.instance import SnapshotSupported
from reserved_capacity.domain.retirements import Retirement, emergency_of, judge_retirement
from reserved_capacity.domain.snapshot_supported import (
    PinnedSnapshot,
    days_to_retirement,
    next_word,
    notice_of,
    snapshot_supported,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
UNNAMED = "no replacement is named: choose another of the offering's snapshots, or ask the provider"
JUNE, DECEMBER = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


def pinned(retires: datetime | None = None, *, deprecated: date | None = None, **more: str) -> PinnedSnapshot:
    return PinnedSnapshot("m-1", LifecycleDates(None, deprecated, retires), **more)


# ------------------------------------------------------------------------------------------------ what was promised


def judged(before: Retirement | None, at: datetime | None, *, known: bool = False) -> Retirement | None:
    return judge_retirement(before, at, known=known, committed_until=DECEMBER)


def test_s8_a_date_first_set_inside_a_commitment_undercuts_its_end() -> None:
    assert judged(None, JUNE) == Retirement(JUNE, DECEMBER)
    assert judged(None, DECEMBER) == Retirement(DECEMBER)
    assert judge_retirement(None, JUNE, known=False, committed_until=None) == Retirement(JUNE)


def test_s8_a_date_that_stood_before_anybody_looked_is_no_news() -> None:
    assert judged(None, JUNE, known=True) == Retirement(JUNE)


def test_s8_a_date_that_moves_earlier_undercuts_the_one_before_and_later_is_always_well() -> None:
    assert judged(Retirement(DECEMBER), JUNE) == Retirement(JUNE, DECEMBER)
    assert judged(Retirement(JUNE), DECEMBER) == Retirement(DECEMBER)
    assert judged(Retirement(JUNE), JUNE) == Retirement(JUNE)
    assert judged(Retirement(JUNE), None) is None


def test_s8_a_promise_that_is_broken_is_remembered_until_it_is_kept_again() -> None:
    broken = Retirement(JUNE, DECEMBER)
    assert judged(broken, JUNE) == broken
    assert judged(broken, JUNE + DAY) == Retirement(JUNE + DAY, DECEMBER)
    assert judged(broken, JUNE - DAY) == Retirement(JUNE - DAY, DECEMBER)
    assert judged(broken, DECEMBER) == Retirement(DECEMBER)


@given(st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=8), st.integers(0, 30))
def test_s8_a_date_is_flagged_exactly_while_it_is_earlier_than_one_that_was_said(
    days: list[int | None], committed: int
) -> None:
    """An oracle that keeps every date ever said since there was none, and needs no record of a promise."""
    record, said = None, [NOW + committed * DAY]
    for day in days:
        at = NOW + day * DAY if day is not None else None
        record = judge_retirement(record, at, known=False, committed_until=NOW + committed * DAY)
        if at is None:
            said = [NOW + committed * DAY]
            assert record is None
            continue
        assert record is not None
        assert (record.promised is not None) == any(at < each for each in said)
        # A promise is over when it is kept again: what was said before then binds nobody.
        said = [each for each in said if each > at] + [at]


def test_s8_the_flag_has_the_providers_reason_or_says_that_there_is_none() -> None:
    assert emergency_of("weights leak", None) == "weights leak"
    assert emergency_of("", Retirement(JUNE)) == ""
    unstated = emergency_of("", Retirement(JUNE, DECEMBER))
    assert "earlier than 2026-12-01T00:00:00Z" in unstated
    assert "states no emergency.reason" in unstated


# ----------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("snapshot", "reason", "message"),
    [
        (pinned(), SnapshotSupported.ACTIVE, "m-1 is current; no end of it is announced"),
        (
            PinnedSnapshot("m-1", LifecycleDates(date(2026, 4, 1))),
            SnapshotSupported.PREVIEW,
            "m-1 is a preview; no end of it is announced",
        ),
        (
            pinned(DECEMBER, deprecated=date(2026, 6, 1), replacement="m-2"),
            SnapshotSupported.ACTIVE,
            "m-1 will be deprecated from 2026-06-01 on and retires at 2026-12-01T00:00:00Z; set spec.snapshot to m-2",
        ),
        (
            pinned(deprecated=date(2026, 3, 1), replacement="m-2"),
            SnapshotSupported.DEPRECATED,
            "m-1 is deprecated since 2026-03-01, its retirement is not announced; set spec.snapshot to m-2",
        ),
        (
            pinned(NOW + 90 * DAY, deprecated=date(2026, 3, 1)),
            SnapshotSupported.RETIRING_SOON,
            f"m-1 is deprecated since 2026-03-01 and retires within 90 days, at 2026-05-30T00:00:00Z; {UNNAMED}",
        ),
        (
            pinned(NOW + 30 * DAY + timedelta(seconds=1)),
            SnapshotSupported.RETIRING_SOON,
            f"m-1 retires within 90 days, at 2026-03-31T00:00:01Z; {UNNAMED}",
        ),
        (
            pinned(NOW + DAY, replacement="m-2", emergency="weights leak"),
            SnapshotSupported.RETIRING_SOON,
            "m-1 retires within 1 day, at 2026-03-02T00:00:00Z (emergency: weights leak); set spec.snapshot to m-2",
        ),
        (
            pinned(NOW, replacement="m-2"),
            SnapshotSupported.RETIRED,
            "m-1 retired at 2026-03-01T00:00:00Z: what serves stays, nothing new is placed on it; set spec.snapshot to m-2",
        ),
    ],
)
def test_s8_dates_are_told_from_the_day_they_are_known(
    snapshot: PinnedSnapshot, reason: SnapshotSupported, message: str
) -> None:
    value = snapshot_supported(snapshot, now=NOW)
    assert (value.status, value.reason, value.message) == (reason.status, reason.value, message)


def test_s8_each_notice_is_another_sentence_and_there_are_no_others_between() -> None:
    """From a year before retirement to a week after it, hour by hour."""
    snapshot = pinned(NOW + 365 * DAY, deprecated=(NOW + 200 * DAY).date(), replacement="m-2")
    told = []
    for hour in range(24 * 372):
        notice = notice_of(snapshot, now=NOW + timedelta(hours=hour))
        assert notice is not None
        if not told or told[-1][1] != notice:
            told.append((hour / 24, notice))
    assert [(day, notice.reason, notice.warns) for day, notice in told] == [
        (0, "SnapshotRetires", False),
        (200, "SnapshotRetires", False),
        (275, "SnapshotRetires", True),
        (335, "SnapshotRetires", True),
        (358, "SnapshotRetires", True),
        (364, "SnapshotRetires", True),
        (365, "SnapshotRetired", True),
    ]


def test_days_to_retirement_are_whole_days_and_negative_when_past() -> None:
    dates = LifecycleDates(retires_at=NOW)
    hours = (49, 48, 24, 23, 0, -1, -24, -25)
    assert [days_to_retirement(dates, now=NOW - timedelta(hours=each)) for each in hours] == [2, 2, 1, 0, 0, -1, -1, -2]
    assert days_to_retirement(LifecycleDates(), now=NOW) is None


@given(st.integers(-10 * 86_400, 100 * 86_400), st.integers(0, 100))
def test_whoever_looks_again_when_told_misses_nothing(seconds: int, deprecated_in: int) -> None:
    snapshot = pinned(NOW + timedelta(seconds=seconds), deprecated=(NOW + deprecated_in * DAY).date())

    def said(at: datetime) -> object:
        return snapshot_supported(snapshot, now=at), days_to_retirement(snapshot.dates, now=at)

    again = next_word(snapshot, now=NOW)
    assert again is not None
    assert again > NOW
    just_before = again - timedelta(seconds=1)
    if just_before > NOW + timedelta(seconds=1):
        assert said(just_before - timedelta(seconds=1)) == said(NOW + timedelta(seconds=1))


# ------------------------------------------------------------------------------------- who has opted in to move by itself


def test_s8_who_moves_by_itself_is_told_when_and_not_asked_to_set_anything() -> None:
    said = snapshot_supported(_moving(DECEMBER, moves_at=JUNE), now=NOW).message
    assert "moves by itself at 2026-06-01T00:00:00Z to m-2" in said
    assert "set spec.snapshot" not in said


def test_s1_who_has_moved_by_itself_is_told_that_the_spec_names_another_one() -> None:
    gave_way = "; spec.snapshot still names m-0, which gave way by spec.upgrade.autoUpgrade"
    assert snapshot_supported(_moving(None, instead_of="m-0"), now=NOW).message.endswith(gave_way)
    assert snapshot_supported(_moving(JUNE, instead_of="m-0"), now=NOW).message.endswith(gave_way)


def _moving(retires: datetime | None, **more: Any) -> PinnedSnapshot:
    return PinnedSnapshot("m-1", LifecycleDates(retires_at=retires), "m-2", **more)

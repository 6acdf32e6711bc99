"""A pool's maintenance window (api.md, `maintenanceWindow`): `0 2 * * 6` for 4h is Saturdays from 02:00 to 06:00 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from reserved_capacity.snapshot.windows import schedule_error, window_at

SATURDAY = datetime(2026, 3, 7, tzinfo=UTC)
FOUR_HOURS = timedelta(hours=4)


@pytest.mark.parametrize(
    ("now", "is_open", "changes_at"),
    [
        (SATURDAY, False, SATURDAY + timedelta(hours=2)),
        (SATURDAY + timedelta(hours=2), True, SATURDAY + timedelta(hours=6)),
        (SATURDAY + timedelta(hours=5, minutes=59, seconds=59), True, SATURDAY + timedelta(hours=6)),
        (SATURDAY + timedelta(hours=6), False, SATURDAY + timedelta(days=7, hours=2)),
        (SATURDAY - timedelta(microseconds=1), False, SATURDAY + timedelta(hours=2)),
    ],
)
def test_a_window_is_open_from_its_tick_for_its_duration(now: datetime, is_open: bool, changes_at: datetime) -> None:
    window = window_at("0 2 * * 6", FOUR_HOURS, now=now)

    assert (window.open, window.changes_at) == (is_open, changes_at)


def test_the_clock_is_utc_wherever_the_operator_runs() -> None:
    elsewhere = (SATURDAY + timedelta(hours=3)).astimezone(timezone(timedelta(hours=9)))

    assert window_at("0 2 * * 6", FOUR_HOURS, now=elsewhere).open


def test_a_window_that_is_longer_than_its_interval_is_always_open() -> None:
    for hour in range(24):
        assert window_at("0 * * * *", timedelta(hours=2), now=SATURDAY + timedelta(hours=hour, minutes=30)).open


def test_a_day_that_comes_every_four_years_is_found() -> None:
    window = window_at("0 2 29 2 *", FOUR_HOURS, now=SATURDAY)

    assert window.changes_at == datetime(2028, 2, 29, 2, tzinfo=UTC)


@pytest.mark.parametrize("schedule", ["0 2 31 2 *", "60 * * * *", "*/0 * * * *", "0 2 * * 8"])
def test_a_schedule_that_the_schema_lets_through_and_no_calendar_has_is_told(schedule: str) -> None:
    assert schedule_error(schedule)
    assert not schedule_error("0 2 * * 6")

"""A pool's maintenance window as it is at a moment: open or not, and until when (api.md, `maintenanceWindow`; S4).

The calendar is cronsim's, with Debian's rules and in UTC; the domain only sees the answer (ADR 0032).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from reserved_capacity.domain.rollout.values import Window

ALWAYS = Window()


def schedule_error(schedule: str) -> str:
    """What is wrong with a cron expression, in the calendar's words; empty if nothing is."""
    try:
        CronSim(schedule, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return str(error)
    return ""


def window_at(schedule: str, duration: timedelta, *, now: datetime) -> Window:
    """The window opens at every tick of the schedule, for `duration`. Raises CronSimError for a schedule that is none."""
    moment = now.astimezone(UTC).replace(microsecond=0)
    opened = next(CronSim(schedule, moment + timedelta(seconds=1), reverse=True), None)
    if opened is not None and moment < opened + duration:
        return Window(open=True, changes_at=opened + duration)
    return Window(open=False, changes_at=next(CronSim(schedule, moment), None))

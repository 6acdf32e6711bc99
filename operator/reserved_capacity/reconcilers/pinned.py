"""What an object that pins a snapshot is told of the snapshot's dates: a condition all the time, an Event once (S8)."""

from __future__ import annotations

import contextlib
from datetime import datetime

from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.snapshot_supported import TYPE, PinnedSnapshot, next_word, notice_of, snapshot_supported
from reserved_capacity.ports import EVENTS, ApiError, JsonObject
from reserved_capacity.reconcilers import events
from reserved_capacity.reconcilers.context import Context


def snapshot_conditions(pinned: PinnedSnapshot | None, now: datetime) -> tuple[ConditionValue, ...]:
    """SnapshotSupported; nothing of a snapshot that its offering does not list, which Accepted says."""
    return (snapshot_supported(pinned, now=now),) if pinned is not None else ()


async def tell_notice(context: Context, observed: JsonObject, pinned: PinnedSnapshot | None) -> datetime | None:
    """Post the notice in force unless the condition, as it was `observed`, told it already: after an absence the newest
    alone, and none again after a restart. Returns when there is another word to say."""
    if pinned is None:
        return None
    now = context.clock.now()
    notice = notice_of(pinned, now=now)
    conditions = (observed.get("status") or {}).get("conditions") or ()
    told = next((each.get("message", "") for each in conditions if each["type"] == TYPE), "")
    if notice is not None and not told.startswith(f"{notice.message};"):
        with contextlib.suppress(ApiError):  # a courtesy to people: the status has said it already
            await context.cluster.create(EVENTS, events.of_snapshot(observed, notice, now))
    return next_word(pinned, now=now)

"""For how long fewer than were promised served during a rollout (api.md, `upgradeReport.unavailableSeconds`).

Counted at transitions, like all downtime (ADR 0016): while an outage goes on only its begin is kept, so nothing is written
while nothing changes, and what is on record goes on after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from reserved_capacity.domain.downtime import seconds_between

from .values import RolloutRecord


@dataclass(frozen=True, slots=True)
class Unavailability:
    """Of the rollout with this id. `since`: when the outage began that goes on; None: enough serve."""

    rollout: int = 0
    seconds: int = 0
    since: datetime | None = None


def counted(before: Unavailability, record: RolloutRecord, *, down: bool, now: datetime) -> Unavailability:
    """After one more look. An outage that was seen counts a second at least; after the end of the rollout none counts."""
    now = now.replace(microsecond=0)
    seen = before if before.rollout == record.id else Unavailability(record.id)
    if down and record.moving:
        return seen if seen.since is not None else replace(seen, since=now)
    if seen.since is None:
        return seen
    until = now if record.moving or record.ended_at is None else min(now, record.ended_at)
    return replace(seen, seconds=seen.seconds + max(1, seconds_between(seen.since, until)), since=None)

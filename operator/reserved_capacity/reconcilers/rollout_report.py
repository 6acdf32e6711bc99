"""What a ModelInstance's status says of its rollout, from what its pool's plan said of it (api.md, `status.rollout`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from reserved_capacity.api.instancestatus import (
    NOT_MEASURED,
    LastFailure,
    RolloutStatus,
    RolloutThroughput,
    SnapshotView,
    UpgradeReport,
)
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.members import ObservedMember
from reserved_capacity.domain.rollout.unavailability import Unavailability, counted
from reserved_capacity.domain.rollout.values import RolloutRecord, RolloutReport
from reserved_capacity.domain.throughput import Comparison


def rollout_status(
    report: RolloutReport | None, before: RolloutStatus, throughput: Comparison | None, *, down: bool, now: datetime
) -> RolloutStatus:
    """`before` is what it was; `down`: fewer serve now than are promised. As long as the pool's plan has said nothing (a new
    process) all stays as it was."""
    if report is None:
        return before
    record, same = report.record, report.record is not None and report.record.id == before.id
    seen = Unavailability()
    if record is not None:
        known = Unavailability(before.id, before.unavailable_seconds, before.unavailable_since)
        seen = counted(known, record, down=down, now=now)
    measured = _throughput(throughput) or (before.throughput if same else None)
    return RolloutStatus(
        id=record.id if record else 0,
        phase=report.phase,
        strategy=report.strategy,
        why=report.why[:1024] or None,
        step=report.step[:1024] or None,
        blocked_on=report.blocked_on[:1024] or None,
        started_at=record.started_at if record else None,
        throughput=measured if record is not None and record.moving else None,
        unavailable_seconds=seen.seconds,
        unavailable_since=seen.since,
    )


def _throughput(found: Comparison | None) -> RolloutThroughput | None:
    if found is None:
        return None
    return RolloutThroughput(from_=_decimal(found.old), to=_decimal(found.new), ratio=_decimal(found.ratio))


def _decimal(thousandths: int) -> str:
    return format(Decimal(thousandths).scaleb(-3), "f")


def snapshot_view(
    instance: ModelInstance, members: Sequence[ObservedMember], report: RolloutReport | None
) -> SnapshotView:
    """`current` is what ran before, as long as somebody runs it; then it is `previous`."""
    running = {member.snapshot for member in members if not member.terminating}
    record = report.record if report is not None else None
    before = record.source.snapshot if record is not None else ""
    current = before if before in running else min(running, default=None)
    return SnapshotView(
        current=current,
        target=report.target.snapshot if report is not None else instance.spec.snapshot,
        previous=before if before and before != current else None,
    )


def upgrade_report(
    record: RolloutRecord | None, instance: ModelInstance, throughput: Comparison | None, *, unavailable_seconds: int
) -> UpgradeReport | None:
    """What the last rollout that has ended brought. What was once measured of it stays; a rollout that came to nothing, or
    that nobody could measure, says so."""
    if record is None or record.moving:
        return None
    before, same = instance.status.upgrade_report, instance.status.rollout.id == record.id
    if record.source == record.target:
        return before  # a failed one was set back: what that one came to is what there is to tell
    so_far = instance.status.rollout.throughput
    ratios = (
        before.throughput_ratio if before is not None and same else None,
        _decimal(throughput.ratio) if throughput is not None else None,
        so_far.ratio if so_far is not None and same else None,  # by another process, before this one began
    )
    return UpgradeReport(
        from_=record.source.snapshot,
        to=record.target.snapshot,
        throughput_ratio=next((each for each in ratios if each not in (None, NOT_MEASURED)), NOT_MEASURED),
        unavailable_seconds=unavailable_seconds,
        result=record.state.value,
    )


def last_failure(record: RolloutRecord | None) -> LastFailure | None:
    failure = record.failure if record is not None else None
    if failure is None:
        return None
    return LastFailure(member=failure.member, reason=failure.reason, message=failure.message[:1024], at=failure.at)

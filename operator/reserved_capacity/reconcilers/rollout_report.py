"""What a ModelInstance's status says of its rollout, from what its pool's plan said of it (api.md, `status.rollout`)."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from reserved_capacity.api.instancestatus import NOT_MEASURED, LastFailure, RolloutStatus, SnapshotView, UpgradeReport
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.members import ObservedMember
from reserved_capacity.domain.rollout.values import RolloutRecord, RolloutReport


def rollout_status(report: RolloutReport | None) -> RolloutStatus:
    if report is None:
        return RolloutStatus()
    record = report.record
    return RolloutStatus(
        id=record.id if record else 0,
        phase=report.phase,
        strategy=report.strategy,
        why=report.why[:1024] or None,
        step=report.step[:1024] or None,
        blocked_on=report.blocked_on[:1024] or None,
        started_at=record.started_at if record else None,
    )


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
    record: RolloutRecord | None, instance: ModelInstance, throughput: int | None
) -> UpgradeReport | None:
    """What the last rollout that has ended brought. What was once measured of it stays; a rollout that came to nothing, or
    that nobody could measure, says so."""
    if record is None or record.moving:
        return None
    before = instance.status.upgrade_report
    if record.source == record.target:
        return before  # a failed one was set back: what that one came to is what there is to tell
    told = before.throughput_ratio if before is not None and instance.status.rollout.id == record.id else None
    measured = format(Decimal(throughput).scaleb(-3), "f") if throughput is not None else NOT_MEASURED
    return UpgradeReport(
        from_=record.source.snapshot,
        to=record.target.snapshot,
        throughput_ratio=told if told not in (None, NOT_MEASURED) else measured,
        result=record.state.value,
    )


def last_failure(record: RolloutRecord | None) -> LastFailure | None:
    failure = record.failure if record is not None else None
    if failure is None:
        return None
    return LastFailure(member=failure.member, reason=failure.reason, message=failure.message[:1024], at=failure.at)

"""What a rollout means for the conditions of its ModelInstance: UpToDate and SnapshotCached (api.md, condition reasons)."""

from __future__ import annotations

from typing import Final

from reserved_capacity.domain.conditions import ConditionValue, condition
from reserved_capacity.domain.reasons.instance import SnapshotCached, UpToDate

from .values import RolloutPhase, RolloutReport, RolloutState

_REASONS: Final = {
    RolloutPhase.PREFETCHING: UpToDate.ROLLING_OUT,
    RolloutPhase.BLOCKED: UpToDate.ROLLOUT_BLOCKED,
    RolloutPhase.AWAITING_WINDOW: UpToDate.AWAITING_WINDOW,
    RolloutPhase.AWAITING_APPROVAL: UpToDate.AWAITING_APPROVAL,
    RolloutPhase.PAUSED: UpToDate.PAUSED,
    RolloutPhase.CANARY: UpToDate.ROLLING_OUT,
    RolloutPhase.PROGRESSING: UpToDate.ROLLING_OUT,
    RolloutPhase.ROLLING_BACK: UpToDate.ROLLING_OUT,
    RolloutPhase.HALTED: UpToDate.ROLLOUT_FAILED,
}


def up_to_date(report: RolloutReport) -> ConditionValue:
    """After a failed rollout the spec stays the user's, and this condition False, until something about it changes."""
    record = report.record
    if report.phase is RolloutPhase.IDLE:
        if record is None or record.state is not RolloutState.ROLLED_BACK:
            return condition("UpToDate", UpToDate.UP_TO_DATE, f"all members run {report.target}")
        failed = f"{record.failure.message}; " if record.failure else ""
        what_next = f"correct the cause and change the spec, or set the snapshot and profile back to {record.source}"
        return condition("UpToDate", UpToDate.ROLLED_BACK, f"{failed}{report.step}: {what_next}")
    told = "; ".join(each for each in (report.step, report.blocked_on) if each)
    unpulled = report.phase is RolloutPhase.PREFETCHING and report.blocked_on
    reason = UpToDate.ROLLOUT_BLOCKED if unpulled else _REASONS[report.phase]
    return condition("UpToDate", reason, told or f"moving to {report.target}")


def snapshot_cached(report: RolloutReport | None) -> ConditionValue:
    """Is the artifact on every node that will need it? (S3) Only a rollout waits for that: members of a first placement pull
    it as they start."""
    record = report.record if report is not None else None
    if report is None or record is None or record.goes_back or record.state is not RolloutState.RUNNING:
        return condition("SnapshotCached", SnapshotCached.CACHED, "no rollout waits for an artifact")
    snapshot = report.target.snapshot
    if report.unpulled:
        failed = "; ".join(f"{node}: {why}" for node, why in report.unpulled.items())
        return condition(
            "SnapshotCached",
            SnapshotCached.PREFETCH_FAILED,
            f"the artifact of {snapshot} could not be pulled, no capacity was released for it: {failed}: correct the "
            "artifact's registry or the offering's imagePullSecrets; it is tried again by itself",
        )
    if report.prefetch:
        waiting = f"the artifact of {snapshot} is being pulled to {', '.join(report.prefetch)}"
        return condition("SnapshotCached", SnapshotCached.PREFETCHING, waiting)
    if report.phase in (RolloutPhase.BLOCKED, RolloutPhase.PAUSED):
        still = f"the rollout does not move, so no node waits for the artifact of {snapshot}"
        return condition("SnapshotCached", SnapshotCached.CACHED, still)
    return condition("SnapshotCached", SnapshotCached.CACHED, f"the artifact of {snapshot} is where it will be needed")

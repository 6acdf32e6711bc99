"""What a ModelInstance says of its rollout: phase, step, and what it waits for (api.md, `status.rollout`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.notices import moment

from . import words
from .starts import prefetch_of
from .values import RolloutPhase, RolloutRecord, RolloutReport, RolloutSpec, RolloutState
from .walk import Stop, Walk


def idle_report(spec: RolloutSpec, record: RolloutRecord | None, *, differs: bool) -> RolloutReport:
    """Of an instance that is in no rollout; `differs`: it should be, but its spec cannot be acted on."""
    if differs:
        return RolloutReport(RolloutPhase.BLOCKED, spec.target, record, blocked_on=spec.held_back)
    return RolloutReport(RolloutPhase.IDLE, spec.target) if record is None else _ended(record)


def _ended(record: RolloutRecord) -> RolloutReport:
    back = "rolled back: " if record.state is RolloutState.ROLLED_BACK else ""
    told = f"{back}all members run {record.toward}"
    return RolloutReport(RolloutPhase.IDLE, record.target, record, record.strategy, record.why, told)


def with_record(report: RolloutReport, record: RolloutRecord | None) -> RolloutReport:
    """The report with the record as it is written in the end."""
    if record is not None and record != report.record and record.state in (RolloutState.DONE, RolloutState.ROLLED_BACK):
        return _ended(record)
    return replace(report, record=record)


def report_of(walk: Walk, stop: Stop | None) -> RolloutReport:
    record = walk.record
    if record.state in (RolloutState.DONE, RolloutState.ROLLED_BACK):
        return _ended(record)
    if stop is None or stop == Stop(RolloutPhase.PROGRESSING):
        stop = _standstill(walk)
    blocked_on = stop.blocked_on
    if record.state is RolloutState.HALTED and record.failure is not None:
        blocked_on = words.halted(record, record.failure)
    prefetch = prefetch_of(walk, stop)
    failures = walk.spec.prefetched.failures if walk.spec.prefetched is not None else {}
    return RolloutReport(
        phase=_phase(walk, stop),
        target=record.target,
        record=record,
        strategy=record.strategy,
        why=record.why,
        step=_step(walk, stop),
        blocked_on=blocked_on,
        next_moment=_next_moment(walk, stop),
        prefetch=prefetch,
        unpulled={node: failures[node] for node in prefetch if node in failures},
    )


def _phase(walk: Walk, stop: Stop) -> RolloutPhase:
    match walk.record.state:
        case RolloutState.HALTED:
            return RolloutPhase.HALTED
        case _ if stop.phase is not RolloutPhase.PROGRESSING:
            return stop.phase
        case RolloutState.ROLLING_BACK:
            return RolloutPhase.ROLLING_BACK
        case _:
            if walk.record.goes_back:
                return RolloutPhase.ROLLING_BACK
            return RolloutPhase.CANARY if walk.under_canary else RolloutPhase.PROGRESSING


def _standstill(walk: Walk) -> Stop:
    """All is begun, and an old member stays beside its successor, which serves. Blocked only where nothing is under way that
    could mend it: who waits for others to start waits, until they have had their time (S5)."""
    record = walk.record
    stays = next((each for each in _waiting(walk) if walk.objection(each)), None)
    if stays is None or not record.moving or record.vacated or walk.deadline() is not None:
        return Stop(RolloutPhase.PROGRESSING)
    if objection := walk.lasting_objection():
        return Stop(RolloutPhase.BLOCKED, blocked_on=f"{stays.member} stays: {objection}")
    return Stop(RolloutPhase.PROGRESSING, until=walk.patience_ends())


def _waiting(walk: Walk) -> list[Holding]:
    """Old members whose successors serve."""
    return [old for old, heir in walk.moves if walk.ground.serves(heir.member)]


def _step(walk: Walk, stop: Stop) -> str:
    record = walk.record
    moved = len([each for each in walk.news if each.member not in record.starting])
    told = [f"{min(moved, walk.count)} of {walk.count} run {record.toward}"]
    told += [f"{name} makes room for its successor" for name in record.vacated]
    told += [_start(walk, each) for each in walk.starting]
    down = {each.member for each in walk.news if not walk.ground.serves(each.member)} - walk.ground.lost
    told += [_fallen(walk, each) for each in walk.news if each.member in down - set(record.starting)]
    for each in (*_waiting(walk), *walk.detours()):
        if (objection := walk.objection(each)) and objection not in stop.blocked_on:
            told.append(f"{each.member} stays for now: {objection}")
    told += [stop.step] if stop.step else []
    return "; ".join(told)


def _start(walk: Walk, member: Holding) -> str:
    return f"{member.member} starts on {', '.join(member.nodes)}{_patience(walk, member)}"


def _fallen(walk: Walk, member: Holding) -> str:
    """One that served."""
    return f"{member.member} does not serve{_patience(walk, member)}"


def _patience(walk: Walk, member: Holding) -> str:
    """Until when it is waited for, and what its pods say meanwhile."""
    until = walk.deadline_of(member) if walk.record.moving and walk.awaits(member) else None
    patience = f", until {moment(until)} at the latest" if until is not None else ""
    cause = walk.spec.causes.get(member.member, "")
    return f"{patience} ({cause})" if cause else patience


def _next_moment(walk: Walk, stop: Stop) -> datetime | None:
    if not walk.record.moving:
        return None
    moments = [walk.deadline(), stop.until, walk.spec.window.changes_at]
    return min((at for at in moments if at is not None and at > walk.now), default=None)

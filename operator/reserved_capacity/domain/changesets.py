"""Change sets: several instances of a pool move together or not at all (behaviour.md F1-F5).

Until all members have arrived nothing moves (F1). Then the final vector is judged as a whole, real packing included,
by playing it through on paper (F2); what was played is the plan, on record before anything is touched (F3).
changeset_execution.py carries it out. The newest record comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from .changeset_execution import (
    MAX_STEPS,
    ChangeSetRecord,
    Crew,
    MemberSpec,
    Phase,
    Progress,
    Step,
    StepAction,
    StepState,
    active,
    advance,
    reserved_by,
)
from .changeset_planning import judge_change_set
from .holdings import Holding, PoolState
from .units import cu_of

__all__ = [
    "MAX_RECORDS",
    "ChangeSetPlan",
    "ChangeSetRecord",
    "ChangeSetVerdict",
    "MemberSpec",
    "Phase",
    "Step",
    "StepAction",
    "StepState",
    "plan_change_sets",
]

MAX_RECORDS = 11  # the running one and the last ten
_MAX_ARRIVED = 20  # members that a record can name


@dataclass(frozen=True, slots=True)
class ChangeSetVerdict:
    """What a member is told; it keeps what it holds, apart from the steps of the plan. All members get one message.

    `moving`: steps of the set are under way, forth or back.
    """

    kind: Phase
    message: str
    moving: bool = False


@dataclass(frozen=True, slots=True)
class ChangeSetPlan:
    """`holdings` go into plan_holdings, with the members in `freezes` frozen and `reserved` kept free of others."""

    records: tuple[ChangeSetRecord, ...]
    holdings: tuple[Holding, ...]
    freezes: Mapping[str, ChangeSetVerdict]
    reserved: Mapping[str, int]
    next_moment: datetime | None = None
    notes: tuple[str, ...] = ()


def plan_change_sets(
    pool: PoolState,
    specs: Sequence[MemberSpec],
    records: Sequence[ChangeSetRecord],
    alone: Mapping[str, str],
    *,
    now: datetime,
) -> ChangeSetPlan:
    """One look at all change sets of a pool. `alone` are the members that fail their own checks, with the message."""
    crews = _crews(specs)
    known = [kept for record in records if (kept := _without_crew(record, crews)) is not None]
    # A set that ends because nobody carries its id any more holds back nothing, and there is nothing to play out.
    if not crews:
        return ChangeSetPlan(_trimmed(known, records, crews), pool.holdings, {}, {})
    notes = [_gone_note(holding) for holding in pool.holdings if _gone(pool, holding)]
    here = tuple(holding for holding in pool.holdings if not _gone(pool, holding))
    pool = replace(pool, holdings=here, reserved={})
    progress = _advance(known, crews, pool, now)
    if progress is not None:
        known = [progress.record if each.id == progress.record.id else each for each in known]
        pool = replace(pool, holdings=progress.holdings)
        notes += progress.notes
    fresh = _judge_arrivals(pool, crews, known, alone)
    notes += [f"{each.message}" for each in fresh if each.phase in (Phase.EXECUTING, Phase.REJECTED)]
    known = _merged(known, fresh)
    running = next((each for each in fresh if each.phase is Phase.EXECUTING), None)
    reserved = dict(progress.reserved) if progress else {}
    if running is not None:
        reserved = reserved_by(iter(running.steps))
    return ChangeSetPlan(
        records=_trimmed(known, records, crews),
        holdings=pool.holdings,
        freezes=_freezes(known, crews),
        reserved=reserved,
        next_moment=progress.next_moment if progress else None,
        notes=tuple(notes),
    )


def _gone(pool: PoolState, holding: Holding) -> bool:
    return not holding.held and holding.member in pool.gone


def _gone_note(holding: Holding) -> str:
    return f"{holding.member} is gone: {cu_of(holding.blocks)} CU are idle again"


# ------------------------------------------------------------------------------------------------------------- records


def _crews(specs: Iterable[MemberSpec]) -> dict[str, dict[str, MemberSpec]]:
    crews: dict[str, dict[str, MemberSpec]] = {}
    for spec in sorted(specs, key=lambda spec: (spec.id, spec.instance)):
        crews.setdefault(spec.id, {})[spec.instance] = spec
    return crews


def _without_crew(record: ChangeSetRecord, crews: Mapping[str, Crew]) -> ChangeSetRecord | None:
    """A record whose id nobody carries any more decides nothing: the same id would be a new attempt, but for Done."""
    if record.id in crews or record.phase is Phase.DONE:
        return record
    if record.phase is Phase.INCOMPLETE:
        return None
    if record.phase is Phase.EXECUTING:
        why = "its members left it before the last step; they go on one by one"
        return replace(record, phase=Phase.DONE, members=(), message=f"change set {record.id}: {why}")
    return replace(record, members=())


def _decided(record: ChangeSetRecord) -> bool:
    return record.phase is not Phase.INCOMPLETE and bool(record.members)


def _merged(known: Sequence[ChangeSetRecord], fresh: Sequence[ChangeSetRecord]) -> list[ChangeSetRecord]:
    """What is new comes first; an Incomplete one keeps its place until it is decided."""
    by_id = {each.id: each for each in fresh}
    places = {
        each.id for each in known if each.phase is Phase.INCOMPLETE and by_id.get(each.id, each).phase is each.phase
    }
    first = [each for each in fresh if each.id not in places]
    taken = {each.id for each in first}
    return [*first, *(by_id.get(each.id, each) for each in known if each.id not in taken)]


def _trimmed(
    known: Sequence[ChangeSetRecord], before: Sequence[ChangeSetRecord], crews: Mapping[str, Crew]
) -> tuple[ChangeSetRecord, ...]:
    """The one that runs, then those that decide something, then those that were there; so the choice is stable."""
    there = {each.id for each in before}

    def rank(each: ChangeSetRecord) -> tuple[bool, bool, bool]:
        return (not active(each, crews.get(each.id, {})), each.id not in crews, each.id not in there)

    kept = {each.id for each in sorted(known, key=rank)[:MAX_RECORDS]}
    steps, trimmed = 0, []
    for each in (each for each in known if each.id in kept):
        steps += len(each.steps)
        old = steps > 2 * MAX_STEPS and not active(each, crews.get(each.id, {}))
        trimmed.append(replace(each, steps=()) if old else each)
    return tuple(trimmed)


def _freezes(known: Sequence[ChangeSetRecord], crews: Mapping[str, Crew]) -> dict[str, ChangeSetVerdict]:
    freezes = {}
    for record in known:
        crew = crews.get(record.id, {})
        for instance in crew if record.phase is not Phase.DONE else ():
            verdict = ChangeSetVerdict(record.phase, record.message, active(record, crew))
            if record.phase is Phase.EXECUTING and instance not in record.members:
                why = f"is under way with {', '.join(record.members)}: give {instance} another id"
                verdict = ChangeSetVerdict(Phase.REJECTED, f"change set {record.id} {why}")
            freezes[instance] = verdict
    return dict(sorted(freezes.items()))


def _advance(
    known: Sequence[ChangeSetRecord], crews: Mapping[str, Crew], pool: PoolState, now: datetime
) -> Progress | None:
    for record in known:
        crew = crews.get(record.id, {})
        if active(record, crew):
            return advance(record, {name: crew[name] for name in record.members if name in crew}, pool, now=now)
    return None


# ------------------------------------------------------------------------------------------------------ arrival (F1, F2)


def _judge_arrivals(
    pool: PoolState, crews: Mapping[str, Crew], known: Sequence[ChangeSetRecord], alone: Mapping[str, str]
) -> list[ChangeSetRecord]:
    """Records of the ids that nothing is decided about yet. Complete ones are tried in the order of admission (C5)."""
    decided = {each.id for each in known if _decided(each)}
    running = next((each.id for each in known if active(each, crews.get(each.id, {}))), "")
    order = {each.instance: (*each.admission_order, each.instance) for each in pool.demands}
    fresh, complete = [], []
    for id_, crew in crews.items():
        if id_ in decided:
            continue
        waiting = _arrival(id_, crew)
        if waiting is not None:
            fresh.append(waiting)
        else:
            complete.append((min([order[name] for name in crew if name in order], default=()), id_, crew))
    for _, id_, crew in sorted(complete, key=lambda each: each[:2]):
        if running:
            why = f"all members have arrived; it waits until change set {running} is done, the old state keeps serving"
            fresh.append(_record(id_, Phase.INCOMPLETE, crew, why))
            continue
        record = _judged(id_, crew, pool, alone)
        running = id_ if record.phase is Phase.EXECUTING else ""
        fresh.append(record)
    return sorted(fresh, key=lambda each: each.id)


def _record(id_: str, phase: Phase, crew: Crew, message: str, steps: Sequence[Step] = ()) -> ChangeSetRecord:
    return ChangeSetRecord(
        id_, phase, tuple(sorted(crew))[:_MAX_ARRIVED], tuple(steps), f"change set {id_}: {message}"[:1024]
    )


def _rejected(id_: str, crew: Crew, why: str) -> ChangeSetRecord:
    return _record(
        id_, Phase.REJECTED, crew, f"{why}; nothing has moved: correct the members and give the set a new id"
    )


def _arrival(id_: str, crew: Crew) -> ChangeSetRecord | None:
    """Who is there, or None if all are."""
    announced = sorted({spec.members for spec in crew.values()})
    if len(announced) > 1:
        return _rejected(id_, crew, f"its members announce {' and '.join(map(str, announced))} members")
    if len(crew) > announced[0]:
        return _rejected(id_, crew, f"{announced[0]} members are announced and {len(crew)} carry the id")
    if len(crew) < announced[0]:
        why = "members have arrived, the old state keeps serving: apply the others or remove spec.changeSet"
        return _record(id_, Phase.INCOMPLETE, crew, f"{len(crew)}/{announced[0]} {why}")
    return None


def _judged(id_: str, crew: Crew, pool: PoolState, alone: Mapping[str, str]) -> ChangeSetRecord:
    judgement = judge_change_set(crew, pool, alone)
    if judgement.refusal:
        return _rejected(id_, crew, judgement.refusal)
    if not judgement.steps:
        return _record(id_, Phase.DONE, crew, "its members hold what they ask for already")
    frees = sum(not step.places for step in judgement.steps)
    planned = f"planned: {len(judgement.steps) - frees} members to place, {frees} to free"
    return _record(id_, Phase.EXECUTING, crew, planned, judgement.steps)

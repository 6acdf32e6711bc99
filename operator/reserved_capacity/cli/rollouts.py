"""The rollout of an instance as it is shown: what moves where, what it waits for since when, and the ways on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.conditions import Condition, ConditionType
from reserved_capacity.api.instancestatus import NOT_MEASURED, Member, RolloutStatus
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.cli.findings import Level, Verdict
from reserved_capacity.cli.verbs import Change, Situation, Verb, decide
from reserved_capacity.cli.world import World
from reserved_capacity.domain.downtime import seconds_between
from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.reasons.instance import CapacityReserved, UpToDate
from reserved_capacity.domain.rollout.values import RolloutPhase, RolloutRecord, RolloutState
from reserved_capacity.domain.throughput import MEASURABLE_TOKENS
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, Ref
from reserved_capacity.snapshot import holdings_of, parse_offering, parse_pool, rollouts_of

_OFFERED = (Verb.APPROVE, Verb.RESUME, Verb.ROLLBACK)
_STEPPING = frozenset(
    {RolloutPhase.PREFETCHING, RolloutPhase.CANARY, RolloutPhase.PROGRESSING}
)  # what a pause would hold


class Outcome(StrEnum):
    """How a rollout has ended. DONE also where there was none."""

    OPEN = "Open"
    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Way:
    """A command that makes sense now, and what it does."""

    command: str
    effect: str


@dataclass(frozen=True, slots=True)
class RolloutView:
    """`source` and `target` are empty where the pool's record cannot be read. `since`: when it began to wait for what it
    waits for, where that is known. `settled`: it has ended, and well. `throughput`: per CU, new divided by old, where it was
    measured. `compared`: old and new so far, while it runs; `unavailable`: for how long fewer than promised served in it."""

    id: int
    phase: str
    reason: str
    level: Level
    source: str
    target: str
    strategy: str
    started_at: datetime | None
    since: datetime | None
    step: str
    waits_for: str
    why: str
    failure: str
    ways: tuple[Way, ...]
    settled: bool
    throughput: str = ""
    compared: str = ""
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member stands in a rollout: `runs` is old, new or given up, and empty where nothing moves."""

    runs: str = ""
    note: str = ""


def rollout_view(world: World, instance: ModelInstance) -> RolloutView | None:
    """None for an instance that never was in a rollout, or of which the operator has said nothing."""
    status = instance.status
    record = record_of(world, instance)
    if record is None and status.rollout.phase is RolloutPhase.IDLE:
        return None
    condition = status.condition(ConditionType.UP_TO_DATE)
    settled = status.rollout.phase is RolloutPhase.IDLE and (
        condition is None or condition.status is ConditionStatus.TRUE
    )
    failure = record.failure if record is not None and record.failed else None
    rollout = status.rollout
    return RolloutView(
        id=rollout.id,
        phase=rollout.phase.value,
        reason=condition.reason if condition else "",
        level=_level(condition),
        source=str(record.source) if record else status.snapshot.current or "",
        target=str(record.target) if record else status.snapshot.target or "",
        strategy=rollout.strategy.value if rollout.strategy else "",
        started_at=rollout.started_at,
        since=_since(rollout.phase, record, condition),
        step=rollout.step or "",
        waits_for=rollout.blocked_on or "",
        why=rollout.why or "",
        failure=f"{failure.message} ({failure.at:%Y-%m-%d %H:%M:%S}Z)" if failure else "",
        ways=() if settled else _ways(situation_of(world, instance)),
        settled=settled,
        throughput=_throughput(instance, record) if settled else "",
        compared=_compared(rollout),
        unavailable=_unavailable(rollout, world.now),
    )


def _compared(rollout: RolloutStatus) -> str:
    """For whoever is to approve a canary: what it has brought so far."""
    found = rollout.throughput
    if found is not None:
        return f"old {found.from_}, new {found.to} tokens/s per 100 CU: x {found.ratio} so far"
    if rollout.phase in (RolloutPhase.CANARY, RolloutPhase.AWAITING_APPROVAL):
        return f"not compared yet: old and new have to make {MEASURABLE_TOKENS:,} output tokens each"
    return ""


def _unavailable(rollout: RolloutStatus, now: datetime) -> str:
    seconds, since = rollout.unavailable_seconds, rollout.unavailable_since
    if since is not None:
        return f"{seconds + seconds_between(since, now)} s with too few serving, and going on"
    return f"{seconds} s with too few serving" if seconds else ""


def _throughput(instance: ModelInstance, record: RolloutRecord | None) -> str:
    """What the rollout on record brought; empty where nobody could measure it."""
    report = instance.status.upgrade_report
    if report is None or record is None or report.throughput_ratio in (None, NOT_MEASURED):
        return ""
    about = (record.source.snapshot, record.target.snapshot)
    return str(report.throughput_ratio) if (report.from_, report.to) == about else ""


def record_of(world: World, instance: ModelInstance) -> RolloutRecord | None:
    """The pool's record of the instance's rollout, not of a namesake's that is gone."""
    pool = pool_of(world, instance)
    records = rollouts_of(pool) if pool is not None else ()
    mine = (instance.name, instance.metadata.uid)
    return next((each for each in records if (each.instance, each.instance_uid) == mine), None)


def pool_of(world: World, instance: ModelInstance) -> ComputeUnitPool | None:
    obj = world.store.get(Ref(COMPUTE_UNIT_POOLS, instance.namespace, instance.spec.pool_ref))
    return parse_pool(world.store, obj) if obj is not None else None


def situation_of(world: World, instance: ModelInstance) -> Situation:
    offering = parse_offering(world.store, instance.spec.offering)
    return Situation(instance, record_of(world, instance), offering, world.now)


def places_of(world: World, instance: ModelInstance) -> dict[str, Place]:
    """By member while a rollout is under way or has failed: old or new, and in whose place; nothing otherwise."""
    record, pool = record_of(world, instance), pool_of(world, instance)
    if record is None or pool is None or record.state is RolloutState.DONE:
        return {}
    held = {each.member: each for each in holdings_of(pool)}
    return {member.name: _place(member, held, record) for member in instance.status.members}


def _place(member: Member, held: Mapping[str, Holding], record: RolloutRecord) -> Place:
    holding = held.get(member.name)
    version = Version(member.snapshot, member.profile or "default") if member.snapshot else None
    if version is None and holding is not None:
        version = holding.version
    former = holding.replaces if holding is not None else ""
    return Place(_runs(version, record), f"in place of {former}" if former in held else "")


def _runs(version: Version | None, record: RolloutRecord) -> str:
    if version is None:
        return ""
    if version == record.source:
        return "old"
    return "new" if version == record.target else "given up"


def outcome_of(verdict: Verdict, rollout: RolloutView | None) -> Outcome:
    """What has become of the instance's rollout, if it is told of the newest spec."""
    if verdict.note or verdict.reason == CapacityReserved.PENDING_EVALUATION:
        return Outcome.OPEN
    if rollout is not None and not rollout.settled:
        halted = rollout.phase == RolloutPhase.HALTED or rollout.reason == UpToDate.ROLLED_BACK
        return Outcome.FAILED if halted else Outcome.OPEN
    weighing = any(ConditionType.UP_TO_DATE in each.types for each in verdict.findings)
    return Outcome.OPEN if weighing or not verdict.ready else Outcome.DONE


def _level(condition: Condition | None) -> Level:
    if condition is None or condition.status is ConditionStatus.UNKNOWN:
        asks = condition is not None and condition.reason in (UpToDate.AWAITING_APPROVAL, UpToDate.PAUSED)
        return Level.WARNING if asks else Level.MOVING
    return Level.FINE if condition.status is ConditionStatus.TRUE else Level.ACT


def _since(phase: RolloutPhase, record: RolloutRecord | None, condition: Condition | None) -> datetime | None:
    """A condition keeps its time while only its reason changes, so the record is asked where it knows."""
    if record is not None and phase in (RolloutPhase.AWAITING_APPROVAL, RolloutPhase.CANARY):
        return record.canary_since
    if record is not None and record.failure is not None:
        return record.failure.at
    if record is not None and record.unready_since is not None:
        return record.unready_since
    blocked = condition is not None and condition.status is ConditionStatus.FALSE
    return condition.last_transition_time if blocked and condition is not None else None


def _ways(seen: Situation) -> tuple[Way, ...]:
    found = []
    for verb in (*_OFFERED, *((Verb.PAUSE,) if seen.phase in _STEPPING else ())):
        change = decide(verb, seen)
        if isinstance(change, Change):
            name, flags = seen.instance.name, verb.value.partition(" ")
            command = " ".join(filter(None, ("kubectl reserved", flags[0], name, flags[2])))
            found.append(Way(f"{command} -n {seen.instance.namespace}", change.effect))
    return tuple(found)

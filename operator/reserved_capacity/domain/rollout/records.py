"""Which rollout an instance is in: a new one, the one on record, or none (behaviour.md S5; ADR 0030)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import datetime

from reserved_capacity.domain.holdings import Demand, Freeze, Holding
from reserved_capacity.domain.versions import Version

from .values import RolloutRecord, RolloutSpec, RolloutState


def current_record(
    spec: RolloutSpec, demand: Demand, record: RolloutRecord | None, held: Sequence[Holding], now: datetime
) -> RolloutRecord | None:
    """The record to go on with. `held` are the instance's members, without those that are being given back."""
    if record is not None and record.instance_uid != demand.uid:
        record = None  # of a namesake that is gone
    if spec.held_back:
        return record
    if demand.freeze is Freeze.NOTHING and not demand.desired:
        return None  # nothing shall run, so nothing is left of it either; the next start is with the target
    if record is None or record.state is RolloutState.DONE:
        return _begun(spec, demand, record, held, now)
    if record.target != spec.target:
        return _superseded(spec, record, now)
    again = record.failed and record.attempt != spec.attempt
    return _superseded(spec, record, now) if again else record


def _begun(
    spec: RolloutSpec, demand: Demand, last: RolloutRecord | None, held: Sequence[Holding], now: datetime
) -> RolloutRecord | None:
    others = Counter(each.version for each in held if each.version is not None and each.version != spec.target)
    if not others:
        return last if last is not None and last.target == spec.target else None
    source = _most_common(others)
    new = {each.member for each in held if each.version == spec.target}
    return RolloutRecord(
        instance=spec.instance,
        instance_uid=demand.uid,
        id=spec.generation,
        source=source,
        target=spec.target,
        started_at=now,
        attempt=spec.attempt,
        why=spec.because,
        starting=tuple(sorted(new)),  # who of them serves is taken out at once
    )


def _superseded(spec: RolloutSpec, record: RolloutRecord, now: datetime) -> RolloutRecord:
    """The next one, in the middle of another: what has been stopped stays to be filled; the way back stays the same."""
    return RolloutRecord(
        instance=record.instance,
        instance_uid=record.instance_uid,
        id=spec.generation,
        source=record.source,
        target=spec.target,
        started_at=now,
        attempt=spec.attempt,
        why=spec.because,
        borrowed=record.borrowed,  # what is lent already is of use to this one too
        vacated=record.vacated,
        starting=record.starting if record.toward == spec.target else (),
        failure=record.failure,
    )


def _most_common(versions: Counter[Version]) -> Version:
    return min((-count, version) for version, count in versions.items())[1]


def growth_version(spec: RolloutSpec, record: RolloutRecord | None, *, proven: bool) -> Version:
    """What a member runs that is made beside the rollout's own steps: the new version once it has proved itself."""
    if record is None or record.state is RolloutState.DONE:
        return spec.target
    if record.state is RolloutState.RUNNING and proven:
        return record.target
    return record.source


def has_proved_itself(
    spec: RolloutSpec, record: RolloutRecord, holdings: Sequence[Holding], available: Set[str]
) -> bool:
    """Has the new version served here, and passed as a canary where there is one?"""
    mine = [each for each in holdings if each.held and each.instance == record.instance]
    serves = any(each.version == record.toward and each.member in available for each in mine)
    return serves and (spec.canary is None or record.canary_passed)


def with_newcomers(record: RolloutRecord, before: frozenset[str], holdings: Sequence[Holding]) -> RolloutRecord:
    """Members of the wanted version that others than the rollout have made (growth, repair) are new ones all the same."""
    if not record.moving:
        return record
    held = {each.member: each for each in holdings if each.held and each.instance == record.instance}
    starting = [name for name in record.starting if name in held]
    made = [name for name, each in held.items() if each.version == record.toward and name not in before]
    starting += [name for name in sorted(made) if name not in starting]
    return replace(record, starting=tuple(starting))


def concluded(record: RolloutRecord, holdings: Sequence[Holding], now: datetime) -> RolloutRecord:
    """The record once all members run what they shall and nothing is in flight; else as it is."""
    held = [each for each in holdings if each.held and each.instance == record.instance]
    if not record.moving or record.vacated or record.starting or any(each.version != record.toward for each in held):
        return record
    state = RolloutState.DONE if record.state is RolloutState.RUNNING else RolloutState.ROLLED_BACK
    return replace(record, state=state, ended_at=now, borrowed=0, unready_since=None)

"""Can this ModelInstance's spec be acted on? An ordered chain of checks; the first refusal stands (api.md, reasons).

A refusal is an answer, not an error: what the instance holds stays held and serves meanwhile. The checks that look at
one instance come first, then those that weigh all instances of the pool against each other (C6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .holdings import Demand, Freeze
from .reasons.instance import InstanceAccepted
from .units import blocks_of, cu_of


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """What a snapshot's lifecycle says that matters for placement."""

    retires_at: datetime | None = None
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class OfferingFacts:
    """How instances of one ModelOffering are sold and run. `profiles` has `default` in it, listed or not."""

    name: str
    sold_reserved: bool
    compute_units_per_instance: int
    min_instances: int
    nodes_per_instance: int
    topology_key: str
    accelerator_classes: frozenset[str]
    profiles: frozenset[str]
    snapshots: Mapping[str, SnapshotFacts]


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One ModelInstance's wish, and what it holds now. `snapshot` is the one that it shall run.

    `held_blocks` is the size of a member that already runs, which growth repeats whatever the offering says today (R1, R3).
    """

    name: str
    uid: str
    offering: str
    snapshot: str
    profile: str
    desired: int
    priority: int
    created_at: datetime
    min_available: int | None = None
    accept_below_minimum: bool = False
    held: int = 0
    held_blocks: int | None = None
    name_taken_by: str = ""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """The pool that a set of instances refers to. `falls_at`: so little is contracted from then on only, and what goes
    is granted to nobody any more."""

    name: str
    accelerator_class: str
    contracted_cu: int
    falls_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a spec cannot be acted on, in one sentence that gives need, have and the next step."""

    reason: InstanceAccepted
    message: str


@dataclass(frozen=True, slots=True)
class _Question:
    instance: InstanceFacts
    pool: PoolFacts
    offerings: Mapping[str, OfferingFacts]
    now: datetime
    others: int = 0  # instances of this offering that the pool's other ModelInstances ask for

    @property
    def offering(self) -> OfferingFacts:
        return self.offerings[self.instance.offering]

    @property
    def asked_together(self) -> int:
        return self.instance.desired + self.others


Check = Callable[[_Question], Refusal | None]


def _unknown_offering(question: _Question) -> Refusal | None:
    name = question.instance.offering
    if name in question.offerings:
        return None
    return Refusal(
        InstanceAccepted.UNKNOWN_OFFERING,
        f"there is no ModelOffering {name!r}: create it, or correct a typing error by making this instance anew, since spec.offering is immutable",
    )


def _unknown_snapshot(question: _Question) -> Refusal | None:
    name, known = question.instance.snapshot, question.offering.snapshots
    if name in known:
        return None
    return Refusal(
        InstanceAccepted.UNKNOWN_SNAPSHOT,
        f"{question.offering.name} has no snapshot {name!r}: set spec.snapshot to one of {_listed(known)}",
    )


def _unknown_profile(question: _Question) -> Refusal | None:
    name, known = question.instance.profile, question.offering.profiles
    if name in known:
        return None
    return Refusal(
        InstanceAccepted.UNKNOWN_PROFILE,
        f"{question.offering.name} has no profile {name!r}: set spec.profile to one of {_listed(known)}",
    )


def _not_sold_reserved(question: _Question) -> Refusal | None:
    if question.offering.sold_reserved:
        return None
    return Refusal(
        InstanceAccepted.NOT_SOLD_RESERVED,
        f"{question.offering.name} is sold by the token unit only: choose another offering, or make a TokenUnitReservation",
    )


def _class_not_offered(question: _Question) -> Refusal | None:
    offered = question.offering.accelerator_classes
    if question.pool.accelerator_class in offered:
        return None
    return Refusal(
        InstanceAccepted.CLASS_NOT_OFFERED,
        f"{question.offering.name} does not run on {question.pool.accelerator_class}, the class of pool {question.pool.name}: use a pool of {_listed(offered)}",
    )


def _snapshot_retired(question: _Question) -> Refusal | None:
    instance, snapshot = question.instance, question.offering.snapshots[question.instance.snapshot]
    if snapshot.retires_at is None or question.now < snapshot.retires_at or instance.desired <= instance.held:
        return None
    instead = f": set spec.snapshot to {snapshot.replacement}" if snapshot.replacement else ""
    return Refusal(
        InstanceAccepted.SNAPSHOT_RETIRED,
        f"{instance.snapshot} retired at {snapshot.retires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, so nothing new is placed on it and what serves keeps serving{instead}",
    )


def _name_taken(question: _Question) -> Refusal | None:
    taken = question.instance.name_taken_by
    if not taken:
        return None
    return Refusal(
        InstanceAccepted.NAME_TAKEN, f"{taken} exists and is not ours: rename this instance, or remove that object"
    )


def _below_minimum(question: _Question) -> Refusal | None:
    offering, total, others = question.offering, question.asked_together, question.others
    if total == 0 or total >= offering.min_instances:
        return None
    least = offering.min_instances - others
    valid = f"to 0 or to at least {least}"
    if others:
        valid = f"to at least {least}, or that of all to 0 (other ModelInstances ask for {others})"
    return Refusal(
        InstanceAccepted.BELOW_MINIMUM_INSTANCES,
        f"{offering.name} needs at least {offering.min_instances} instances on pool {question.pool.name} and {total} is asked for: set spec.instances {valid}",
    )


def _exceeds_pool(question: _Question) -> Refusal | None:
    instance, offering = question.instance, question.offering
    size = cu_of(instance.held_blocks) if instance.held_blocks else offering.compute_units_per_instance
    need, have = instance.desired * size, question.pool.contracted_cu
    if need <= have or instance.desired <= instance.held:
        return None
    most = have // size
    if most + question.others < offering.min_instances:
        most = 0
    at = question.pool.falls_at
    since = f" from {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} on" if at is not None else ""
    return Refusal(
        InstanceAccepted.EXCEEDS_POOL,
        f"need {need} CU for {instance.desired} instances, pool {question.pool.name} has {have} CU contracted{since}: lower spec.instances to {most} or add a commitment to the pool",
    )


# The order is that of the reasons in api.md: what does not exist, what is not sold, what may not be. NameTaken
# stands in Accepted only, so it comes after what both conditions show.
_ALONE: tuple[Check, ...] = (
    _unknown_offering,
    _unknown_snapshot,
    _unknown_profile,
    _not_sold_reserved,
    _class_not_offered,
    _snapshot_retired,
    _name_taken,
)
_TOGETHER: tuple[Check, ...] = (_below_minimum, _exceeds_pool)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an instance may ask of the pool, and the refusal where its spec cannot be acted on."""

    demand: Demand
    refusal: Refusal | None


def judge(
    pool: PoolFacts,
    offerings: Mapping[str, OfferingFacts],
    instances: Sequence[InstanceFacts],
    *,
    now: datetime,
    kept: Collection[str] = (),
) -> dict[str, Verdict]:
    """The verdict on every instance of one pool, by name. `kept` are those whose change set lets them get nothing."""
    alone = {each.name: _first(_ALONE, _Question(each, pool, offerings, now)) for each in instances}
    # One that is refused, or will be for asking more than there can be, or that its change set holds back, stays at what it
    # holds, so that is what it counts for: else a sibling could shrink below the floor on the strength of what never comes.
    asked = {
        each.name: each.held
        if each.name in kept or alone[each.name] or _exceeds_pool(_Question(each, pool, offerings, now))
        else each.desired
        for each in instances
    }
    together = Counter[str]()
    for each in instances:
        together[each.offering] += asked[each.name]
    verdicts = {}
    for each in instances:
        question = _Question(each, pool, offerings, now, together[each.offering] - asked[each.name])
        refusal = alone[each.name] or _first(_TOGETHER, question)
        verdicts[each.name] = Verdict(_demand(each, offerings.get(each.offering), refusal), refusal)
    return verdicts


def _demand(instance: InstanceFacts, offering: OfferingFacts | None, refusal: Refusal | None) -> Demand:
    if refusal is None:
        freeze = Freeze.NOTHING
    elif refusal.reason is InstanceAccepted.SNAPSHOT_RETIRED:
        freeze = Freeze.GROWTH
    else:
        freeze = Freeze.EVERYTHING
    # Without its offering (deleted, or not there yet) an instance gets nothing new, so its size does not matter.
    size = blocks_of(offering.compute_units_per_instance) if offering else 0
    return Demand(
        instance=instance.name,
        uid=instance.uid,
        offering=instance.offering,
        blocks_per_instance=instance.held_blocks or size,
        min_instances=offering.min_instances if offering else 0,
        desired=instance.desired,
        priority=instance.priority,
        created_at=instance.created_at,
        freeze=freeze,
        nodes_per_instance=offering.nodes_per_instance if offering else 1,
        topology_key=offering.topology_key if offering else "",
        min_available=instance.min_available,
        accept_below_minimum=instance.accept_below_minimum,
    )


def _first(checks: Sequence[Check], question: _Question) -> Refusal | None:
    return next((refusal for check in checks if (refusal := check(question))), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"

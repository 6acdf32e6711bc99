"""The status of a ModelInstance, computed from what is there; the Service and its EndpointSlices say what serves (R2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.instancestatus import (
    MAX_STATUS_MEMBERS,
    InstanceCounts,
    Member,
    MemberPhase,
    ModelInstanceStatus,
    RolloutStatus,
    UpgradeReport,
)
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.downtime import NodeHealth, ServiceFacts
from reserved_capacity.domain.eligibility import Refusal
from reserved_capacity.domain.holdings import Holding, standing
from reserved_capacity.domain.instance_conditions import InstanceObservation, LostMember, conditions_of
from reserved_capacity.domain.lifecycle import lifecycle_of
from reserved_capacity.domain.members import ObservedMember
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.reasons.instance import InstanceAccepted
from reserved_capacity.domain.rollout.values import RolloutReport
from reserved_capacity.domain.snapshot_supported import PinnedSnapshot, days_to_retirement
from reserved_capacity.domain.throughput import Comparison
from reserved_capacity.domain.units import cu_of
from reserved_capacity.domain.versions import Version
from reserved_capacity.reconcilers import children
from reserved_capacity.reconcilers.availability import availability_of
from reserved_capacity.reconcilers.context import Assessment, condition_list
from reserved_capacity.reconcilers.pinned import snapshot_conditions
from reserved_capacity.reconcilers.rollout_report import last_failure, rollout_status, snapshot_view, upgrade_report
from reserved_capacity.snapshot import members_of, parse_class, pods_of_member, ready_members
from reserved_capacity.snapshot.rollouts import supported_snapshot
from reserved_capacity.snapshot.service import health_of, service_facts
from reserved_capacity.store import Store


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """What one pass knows of an instance. `pool` None: it does not exist."""

    instance: ModelInstance
    pool: ComputeUnitPool | None
    offering: ModelOffering | None
    holdings: tuple[Holding, ...]
    assessment: Assessment | None
    name_taken: Refusal | None
    port: int | None

    def pinned(self, now: datetime) -> PinnedSnapshot | None:
        return supported_snapshot(self.instance, self.offering, now=now)

    @property
    def evaluated(self) -> bool:
        """Has the pool weighed this very generation?"""
        if self.pool is None:
            return True
        metadata, seen = self.instance.metadata, self.assessment
        return seen is not None and seen.uid == metadata.uid and seen.generation == metadata.generation

    @property
    def rollout(self) -> RolloutReport | None:
        return self.assessment.rollout if self.assessment is not None else None

    @property
    def refusal(self) -> Refusal | None:
        if self.pool is None:
            return Refusal(
                InstanceAccepted.POOL_NOT_FOUND,
                f"there is no ComputeUnitPool {self.instance.spec.pool_ref!r} in namespace {self.instance.namespace}: "
                "create it, or make this instance anew with another one, since spec.poolRef is immutable",
            )
        if self.assessment is not None and self.assessment.refusal is not None:
            return self.assessment.refusal
        return self.name_taken


def status_of(
    store: Store, report: InstanceReport, now: datetime, *, throughput: Comparison | None = None
) -> ModelInstanceStatus:
    """`throughput` is what this process has measured of the rollout's old and new version."""
    instance = report.instance
    generation = instance.metadata.generation
    members = members_of(store, instance.namespace, instance.name)
    ready = ready_members(store, instance.namespace, instance.name)
    held = [holding for holding in report.holdings if holding.held]
    available = {holding.member for holding in held if holding.member in ready}
    updated = {
        member.name
        for member in members
        if member.version == (report.rollout.target if report.rollout else _asked(instance))
    } & {holding.member for holding in held}
    listed = _members(store, report, members, ready, now)
    lost = _lost(store, report)
    here = [holding for holding in report.holdings if holding.member not in {each.member for each in lost}]
    seen = _observation(report, available=len(available), differs=len(updated) < len(held), lost=lost)
    *others, ready_condition = conditions_of(seen)
    pinned = report.pinned(now)
    values = (*others, *snapshot_conditions(pinned, now), ready_condition)
    facts = _service_facts(store, report, available, listed)
    rollout = _rollout(report, throughput, down=facts.down, now=now)
    return ModelInstanceStatus(
        observed_generation=generation,
        phase=_phase(values),
        summary=values[-1].message[:1024],
        instances=InstanceCounts(
            desired=instance.spec.instances,
            held=len(standing(report.holdings)),
            available=len(available),
            updated=len(updated),
            updated_available=len(updated & available),
        ),
        selector=children.selector_of(instance.name),
        compute_units=cu_of(sum(holding.blocks for holding in here)),
        nodes_total=len({node for holding in here for node in holding.nodes}),
        snapshot=snapshot_view(instance, members, report.rollout).model_copy(update=_dates(pinned, now)),
        rollout=rollout,
        upgrade_report=_upgrade_report(report, throughput, rollout),
        last_failure=last_failure(report.rollout.record if report.rollout else None),
        members=listed[:MAX_STATUS_MEMBERS],
        availability=availability_of(instance, facts, now),
        endpoint=children.endpoint_of(instance, report.port) if report.port else None,
        conditions=condition_list(instance.status, values, generation=generation, now=now),
    )


def _rollout(report: InstanceReport, throughput: Comparison | None, *, down: bool, now: datetime) -> RolloutStatus:
    before = report.instance.status.rollout if report.pool is not None else RolloutStatus()
    return rollout_status(report.rollout, before, throughput, down=down, now=now)


def _upgrade_report(
    report: InstanceReport, throughput: Comparison | None, rollout: RolloutStatus
) -> UpgradeReport | None:
    if report.rollout is None:
        return report.instance.status.upgrade_report if report.pool is not None else None
    return upgrade_report(
        report.rollout.record, report.instance, throughput, unavailable_seconds=rollout.unavailable_seconds
    )


def _service_facts(
    store: Store, report: InstanceReport, available: set[str], listed: tuple[Member, ...]
) -> ServiceFacts:
    return service_facts(
        store,
        report.instance,
        _class_of(store, report),
        report.holdings,
        serving=available,
        served={each.name for each in listed if each.phase is MemberPhase.UNAVAILABLE},
        short_of_nodes=report.assessment.short_of_nodes if report.assessment is not None else None,
    )


def _asked(instance: ModelInstance) -> Version:
    return Version(instance.spec.snapshot, instance.spec.profile)


def _class_of(store: Store, report: InstanceReport) -> AcceleratorClass | None:
    return parse_class(store, report.pool.spec.accelerator_class) if report.pool is not None else None


def _lost(store: Store, report: InstanceReport) -> tuple[LostMember, ...]:
    """Members that are to go, on nodes from which nobody confirms it (N2)."""
    class_ = _class_of(store, report)
    going = [(holding.member, node) for holding in report.holdings if not holding.held for node in holding.nodes]
    return tuple(
        LostMember(member, node) for member, node in going if health_of(store, class_, [node]) is NodeHealth.SICK
    )


def _observation(
    report: InstanceReport, *, available: int, differs: bool, lost: tuple[LostMember, ...]
) -> InstanceObservation:
    spec, seen = report.instance.spec, report.assessment
    held = sum(holding.held for holding in report.holdings)
    minimum = spec.upgrade.min_available
    return InstanceObservation(
        pool=spec.pool_ref,
        desired=spec.instances,
        min_available=spec.instances if minimum is None else min(minimum, spec.instances),
        suspended=spec.suspend,
        held=len(standing(report.holdings)),
        moving=held - len(standing(report.holdings)),
        releasing=len(report.holdings) - held - len({each.member for each in lost}),
        lost=lost,
        available=available,
        refusal=report.refusal,
        wait=seen.wait if seen is not None else None,
        evaluated=report.evaluated,
        move=seen.move if seen is not None else None,
        overdue=seen.overdue if seen is not None else False,
        rollout=report.rollout,
        differs=differs,
    )


def _phase(values: tuple[ConditionValue, ...]) -> str:
    """One word for people: what Ready says, unless nothing is meant to serve."""
    by_type = {value.type: value for value in values}
    if by_type["Ready"].status is ConditionStatus.TRUE:
        idle = by_type["Available"].reason in ("ScaledToZero", "Suspended")
        return by_type["Available"].reason if idle else "Ready"
    return {ConditionStatus.FALSE: "Blocked", ConditionStatus.UNKNOWN: "Progressing"}[by_type["Ready"].status]


def _dates(pinned: PinnedSnapshot | None, now: datetime) -> dict[str, Any]:
    """What `status.snapshot` says of the snapshot's future."""
    if pinned is None:
        return {}
    return {
        "lifecycle": lifecycle_of(pinned.dates, now=now),
        "retires_at": pinned.dates.retires_at,
        "days_to_retirement": days_to_retirement(pinned.dates, now=now),
        "replacement": pinned.replacement or None,
        "emergency": pinned.emergency[:1024] or None,
    }


def _members(
    store: Store, report: InstanceReport, members: tuple[ObservedMember, ...], ready: frozenset[str], now: datetime
) -> tuple[Member, ...]:
    present = {member.name: member for member in members}
    before = {member.name: member for member in report.instance.status.members}
    found = []
    for holding in report.holdings:
        member, known = present.get(holding.member), before.get(holding.member)
        # A name that is used again is not the member that had it.
        known = known if known is not None and known.since is not None and known.since >= holding.since else None
        phase = _member_phase(store, report.instance, holding, ready, known)
        found.append(
            Member(
                name=holding.member,
                snapshot=member.snapshot if member else "",
                profile=member.profile if member else "",
                nodes=holding.nodes,
                phase=phase,
                since=known.since if known is not None and known.phase is phase else now,
            )
        )
    return tuple(found)


def _member_phase(
    store: Store, instance: ModelInstance, holding: Holding, ready: frozenset[str], known: Member | None
) -> MemberPhase:
    if not holding.held:
        return MemberPhase.TERMINATING
    if holding.member in ready:
        return MemberPhase.AVAILABLE
    if instance.spec.suspend:
        return MemberPhase.PENDING
    if known is not None and known.phase in (MemberPhase.AVAILABLE, MemberPhase.UNAVAILABLE):
        return MemberPhase.UNAVAILABLE  # it has served, and does not now
    pods = pods_of_member(store, instance.namespace, instance.name, holding.member)
    running = any((pod.get("status") or {}).get("phase") == "Running" for pod in pods)
    return MemberPhase.STARTING if running else MemberPhase.PENDING

"""What a ComputeUnitPool says of itself: one function per condition, one reducer for Ready (api.md, ComputeUnitPool)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from .conditions import ConditionValue, condition
from .holdings import MAX_MEMBERS
from .orders import OrderRefusal
from .reasons.base import ConditionStatus, Ready
from .reasons.pool import Healthy, PoolAccepted, Provisioned

_NAMED = 5  # how many nodes or pods a message names before it only counts


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """All that the conditions of one pool are computed from.

    `provision_by` is the first date that was agreed for what is missing; `sick_nodes` and `foreign_pods` are phrases
    such as `gpu-3 (not ready since ...)`; `members` counts the instances that are asked for. `secure` is
    CommitmentSecure (commitment_secure.py) and `billing` what the books say (billing/billing_conditions.py): they decide
    nothing, since neither a planned expiry nor a billing system that is down keeps anybody from serving.
    """

    contracted_cu: int
    provisioned_cu: int
    provision_by: date | None
    today: date
    refusal: OrderRefusal | None
    sick_nodes: tuple[str, ...] = ()
    foreign_pods: tuple[str, ...] = ()
    members: int = 0
    secure: ConditionValue | None = None
    billing: tuple[ConditionValue, ...] = ()

    @property
    def overdue(self) -> bool:
        return self.provision_by is not None and self.today > self.provision_by


def conditions_of(seen: PoolObservation) -> tuple[ConditionValue, ...]:
    """All conditions whose behaviour is built, `Ready` last."""
    deciders = (_accepted(seen), _provisioned(seen), _healthy(seen))
    told = (seen.secure,) if seen.secure is not None else ()
    return (*deciders, *told, *seen.billing, _ready(seen, deciders))


def _accepted(seen: PoolObservation) -> ConditionValue:
    if seen.refusal is not None:
        return condition("Accepted", seen.refusal.reason, seen.refusal.message)
    return condition("Accepted", PoolAccepted.ACCEPTED, "the order is complete and can be fulfilled")


def _provisioned(seen: PoolObservation) -> ConditionValue:
    missing = seen.contracted_cu - seen.provisioned_cu
    if missing <= 0:
        return condition("Provisioned", Provisioned.PROVISIONED, f"{seen.provisioned_cu} CU are claimed on nodes")
    message = (
        f"need {seen.contracted_cu} CU, have {seen.provisioned_cu} claimed: {missing} CU are missing until the "
        "provider adds healthy nodes of the class"
    )
    if seen.provisioned_cu:
        return condition("Provisioned", Provisioned.PARTIALLY_PROVISIONED, message)
    if seen.overdue:
        return condition("Provisioned", Provisioned.PROVISIONING_LATE, f"{message}; agreed for {seen.provision_by}")
    return condition("Provisioned", Provisioned.PROVISIONING, message)


def _healthy(seen: PoolObservation) -> ConditionValue:
    if seen.members > MAX_MEMBERS:
        return condition(
            "Healthy",
            Healthy.TOO_MANY_MEMBERS,
            f"{seen.members} instances are asked for, one pool records at most {MAX_MEMBERS}: lower spec.instances, or "
            "split the pool",
        )
    if seen.sick_nodes:
        return condition("Healthy", Healthy.NODES_UNHEALTHY, f"{_named(seen.sick_nodes)}: repair or replace")
    if seen.foreign_pods:
        return condition(
            "Healthy", Healthy.FOREIGN_PODS, f"pods that are not ours use our GPUs: {_named(seen.foreign_pods)}"
        )
    return condition("Healthy", Healthy.HEALTHY, "all nodes are ready, and used by nobody else")


def _ready(seen: PoolObservation, deciders: tuple[ConditionValue, ...]) -> ConditionValue:
    """False if somebody has to act, else Unknown while it moves on its own, else True; the first decider names it."""
    for status in (ConditionStatus.FALSE, ConditionStatus.UNKNOWN):
        for decider in deciders:
            if decider.status is status:
                return ConditionValue("Ready", status, decider.reason, decider.message)
    return ConditionValue(
        "Ready", ConditionStatus.TRUE, Ready.READY.value, f"{seen.provisioned_cu} CU are provisioned and healthy"
    )


def _named(phrases: tuple[str, ...]) -> str:
    rest = len(phrases) - _NAMED
    return ", ".join(phrases[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")

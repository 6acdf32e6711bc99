"""What a ModelInstance says of itself: one function per condition, one reducer for Ready (api.md, ModelInstance)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .conditions import ConditionValue, condition
from .eligibility import Refusal
from .holdings import BlockedMove, Wait, Waiting
from .reasons.base import ConditionStatus, Ready
from .reasons.instance import ACCEPTED_REASONS, Available, CapacityReserved, InstanceAccepted, UpToDate
from .rollout.conditions import snapshot_cached, up_to_date
from .rollout.values import RolloutReport


@dataclass(frozen=True, slots=True)
class LostMember:
    """A member that is to go from a node which is not ready, or not there."""

    member: str
    node: str


@dataclass(frozen=True, slots=True)
class InstanceObservation:
    """All that the conditions of one ModelInstance are computed from.

    `held` are instances, and `moving` members beside them that leave their node when their successors serve.
    `lost` are members that are to go and cannot be confirmed gone: nobody answers for their nodes.
    `evaluated` False: the pool has not weighed this generation yet. `overdue`: the pool's `provisionBy` has passed.
    `rollout` is what the pool's last plan says of it (None: nothing yet), `differs`: a member runs something else than asked.
    """

    pool: str
    desired: int
    min_available: int
    suspended: bool
    held: int
    releasing: int
    available: int
    refusal: Refusal | None
    wait: Wait | None
    evaluated: bool
    move: BlockedMove | None = None
    moving: int = 0
    lost: tuple[LostMember, ...] = ()
    overdue: bool = False
    rollout: RolloutReport | None = None
    differs: bool = False


def conditions_of(seen: InstanceObservation) -> tuple[ConditionValue, ...]:
    """All conditions whose behaviour is built, `Ready` last."""
    accepted, reserved, available, updated = _accepted(seen), _capacity_reserved(seen), _available(seen), _updated(seen)
    return (
        accepted,
        reserved,
        snapshot_cached(seen.rollout),
        available,
        updated,
        _ready(seen, accepted, reserved, available, updated),
    )


def _accepted(seen: InstanceObservation) -> ConditionValue:
    if seen.refusal is not None:
        return condition("Accepted", seen.refusal.reason, seen.refusal.message)
    return condition("Accepted", InstanceAccepted.ACCEPTED, "this spec can be acted on")


def _capacity_reserved(seen: InstanceObservation) -> ConditionValue:
    if seen.held >= seen.desired:
        held = f"{seen.held} instances hold their compute units, {seen.desired} are asked for"
        return condition("CapacityReserved", CapacityReserved.RESERVED, held)
    if seen.refusal is not None and seen.refusal.reason in ACCEPTED_REASONS:
        return condition("CapacityReserved", CapacityReserved.of(seen.refusal.reason), seen.refusal.message)
    if seen.wait is None or not seen.evaluated:
        return condition(
            "CapacityReserved", CapacityReserved.PENDING_EVALUATION, "not weighed against the pool's others yet"
        )
    return condition("CapacityReserved", CapacityReserved.of(seen.wait.reason), _explain(seen.pool, seen.wait))


_NEXT_STEP = {
    Waiting.BELOW_MINIMUM_INSTANCES: "let the offering's instances in the pool sum to its minimum or to 0",
    Waiting.NOT_YET_PROVISIONED: "the contracted compute units are not all claimed on nodes yet; nothing to do",
    Waiting.WAITING_FOR_RELEASE: "another instance's pods are still terminating; nothing to do",
    Waiting.WAITING_FOR_COMPUTE_UNITS: "scale another instance down, or add a commitment",
    Waiting.FRAGMENTED: "no node has room for one instance: make room on one node by scaling another instance down",
    Waiting.NODES_UNHEALTHY: "the rest is on nodes that are cordoned or not ready: repair them",
}


def _explain(pool: str, wait: Wait) -> str:
    next_step = wait.remedy or _NEXT_STEP[wait.reason]
    return f"need {wait.need_cu} CU, have {wait.have_cu} idle in pool {pool}: {next_step}"


def _available(seen: InstanceObservation) -> ConditionValue:
    if seen.suspended:
        return condition("Available", Available.SUSPENDED, "suspended: nothing serves, the units stay held and paid")
    if seen.desired == 0 and seen.available == 0:
        return condition("Available", Available.SCALED_TO_ZERO, "spec.instances is 0: nothing is meant to serve")
    counts = f"{seen.available} of {seen.desired} instances are serving"
    if seen.available == 0:
        return condition("Available", Available.NO_MEMBER, counts)
    if seen.available < min(seen.desired, seen.min_available):
        return condition("Available", Available.BELOW_MIN_AVAILABLE, f"{counts}, minAvailable is {seen.min_available}")
    return condition("Available", Available.SERVING, counts)


def _updated(seen: InstanceObservation) -> ConditionValue:
    if seen.rollout is not None:
        return up_to_date(seen.rollout)
    if seen.differs:
        return condition("UpToDate", UpToDate.ROLLING_OUT, "the pool has not weighed yet what members shall run")
    return condition("UpToDate", UpToDate.UP_TO_DATE, "all members run what the spec asks for")


# The waits that end by themselves (api.md); NotYetProvisioned only until the day that was promised.
_MOVING = frozenset(
    {
        CapacityReserved.CHANGE_SET_INCOMPLETE.value,
        CapacityReserved.WAITING_FOR_RELEASE.value,
        CapacityReserved.PENDING_EVALUATION.value,
    }
)


def _ready(
    seen: InstanceObservation,
    accepted: ConditionValue,
    reserved: ConditionValue,
    available: ConditionValue,
    updated: ConditionValue,
) -> ConditionValue:
    """What decides, and besides it, whatever that is, why a member cannot leave its node (N3)."""
    value = _decided(seen, accepted, reserved, available, updated)
    return replace(value, message=f"{value.message}; {explain_move(seen.move)}") if seen.move else value


def _decided(
    seen: InstanceObservation,
    accepted: ConditionValue,
    reserved: ConditionValue,
    available: ConditionValue,
    updated: ConditionValue,
) -> ConditionValue:
    """This generation's spec fully realised and serving; Unknown while it moves on its own, False if somebody must act."""
    if accepted.status is not ConditionStatus.TRUE:
        return _borrowed(accepted, accepted.status)
    if reserved.status is not ConditionStatus.TRUE:
        on_time = reserved.reason == CapacityReserved.NOT_YET_PROVISIONED and not seen.overdue
        moving = reserved.reason in _MOVING or on_time
        return _borrowed(reserved, ConditionStatus.UNKNOWN if moving else ConditionStatus.FALSE)
    if not seen.evaluated:
        return ConditionValue(
            "Ready",
            ConditionStatus.UNKNOWN,
            CapacityReserved.PENDING_EVALUATION.value,
            "the newest spec has not been weighed against the pool's others yet",
        )
    if updated.status is not ConditionStatus.TRUE:
        return _borrowed(updated, updated.status)
    if seen.releasing or seen.held > seen.desired:
        return ConditionValue(
            "Ready",
            ConditionStatus.UNKNOWN,
            CapacityReserved.WAITING_FOR_RELEASE.value,
            f"{seen.releasing} member{' is' if seen.releasing == 1 else 's are'} terminating: compute units are idle again when "
            "the pods are gone",
        )
    if seen.moving:
        return ConditionValue(
            "Ready",
            ConditionStatus.UNKNOWN,
            CapacityReserved.WAITING_FOR_RELEASE.value,
            f"{seen.moving} members have to leave their nodes; each goes when its successor serves",
        )
    if not seen.suspended and seen.available < seen.desired:
        return _borrowed(available, ConditionStatus.UNKNOWN)
    return ConditionValue("Ready", ConditionStatus.TRUE, Ready.READY.value, _all_well(seen))


def _all_well(seen: InstanceObservation) -> str:
    if seen.suspended:
        return f"suspended as asked, with {seen.held} instances held"
    if not seen.desired:
        return "scaled to zero as asked"
    return f"{seen.available} of {seen.desired} instances are serving{_told_of(seen.lost)}"


def _told_of(lost: Sequence[LostMember]) -> str:
    """They serve nobody and keep nobody waiting; only a fence frees what they had (N2)."""
    if not lost:
        return ""
    members, nodes = (
        ", ".join(sorted({*each})) for each in zip(*((one.member, one.node) for one in lost), strict=True)
    )
    return f"; what {members} had on {nodes} is used by nobody before that is fenced"


def explain_move(move: BlockedMove) -> str:
    """Why a member stays on a node that it has to leave (N3)."""
    hint = f" (it is not stopped first: {move.hint})" if move.hint else ""
    mend = "repair" if move.failed else "uncordon"
    return (
        f"{move.member} has to leave {move.node} and cannot: need {move.need_cu} CU on another node, have "
        f"{move.have_cu} spare; {mend} {move.node}, or add a node of the class{hint}"
    )


def _borrowed(decider: ConditionValue, status: ConditionStatus) -> ConditionValue:
    return ConditionValue("Ready", status, decider.reason, decider.message)

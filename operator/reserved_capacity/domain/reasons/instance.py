"""Reasons of ModelInstance; `SnapshotSupported` also stands on TokenUnitReservation.

`CapacityReserved` False carries exactly one reason, the first that matches in the order written here; the ones that also
make `Accepted` False or Unknown are repeated there with the same words.
"""

from typing import Final

from reserved_capacity.domain.reasons.base import FALSE, TRUE, UNKNOWN, Reason

_POOL_NOT_FOUND: Final = (
    "PoolNotFound",
    FALSE,
    "spec.poolRef names a ComputeUnitPool that does not exist in this namespace.",
    "Create the pool; the field is immutable, so a mistyped instance is deleted and made anew.",
)
_UNKNOWN_OFFERING: Final = (
    "UnknownOffering",
    FALSE,
    "spec.offering names an offering that does not exist.",
    "Create the ModelOffering; the field is immutable, so a mistyped instance is deleted and made anew.",
)
_UNKNOWN_SNAPSHOT: Final = (
    "UnknownSnapshot",
    FALSE,
    "spec.snapshot is not one of the offering's snapshots.",
    "Choose one of the snapshots named in the message.",
)
_UNKNOWN_PROFILE: Final = (
    "UnknownProfile",
    FALSE,
    "spec.profile is not one of the offering's profiles.",
    "Choose one of the profiles named in the message, or `default`.",
)
_NOT_SOLD_RESERVED: Final = (
    "NotSoldReserved",
    FALSE,
    "The offering is sold by the token unit only.",
    "Choose another offering, or make a TokenUnitReservation.",
)
_CLASS_NOT_OFFERED: Final = (
    "ClassNotOffered",
    FALSE,
    "The offering does not run on the pool's accelerator class.",
    "Use a pool of one of the classes named in the message.",
)
_SNAPSHOT_RETIRED: Final = (
    "SnapshotRetired",
    FALSE,
    "The snapshot is past its retirement; nothing new is placed on it, what serves keeps serving.",
    "Set spec.snapshot to the replacement named in the message.",
)
_BELOW_MINIMUM_INSTANCES: Final = (
    "BelowMinimumInstances",
    FALSE,
    "All instances of this offering on the pool together would be fewer than its minimum; what serves keeps serving.",
    "Set spec.instances to one of the two counts named in the message.",
)
_EXCEEDS_POOL: Final = (
    "ExceedsPool",
    FALSE,
    "This object alone asks for more compute units than the pool has contracted, or keeps after a drain that has begun.",
    "Lower spec.instances or add a commitment to the pool.",
)
_CHANGE_SET_INCOMPLETE: Final = (
    "ChangeSetIncomplete",
    "Not all members of the change set have arrived; the old state keeps serving.",
    "Apply the missing members, or remove spec.changeSet.",
)
_CHANGE_SET_REJECTED: Final = (
    "ChangeSetRejected",
    FALSE,
    "The change set as a whole is not possible; nothing has moved.",
    "Correct the members as the message says and give the set a new id.",
)


class InstanceAccepted(Reason):
    """ModelInstance, condition Accepted: this spec can be acted on."""

    ACCEPTED = "Accepted", TRUE, "This spec can be acted on."
    POOL_NOT_FOUND = _POOL_NOT_FOUND
    UNKNOWN_OFFERING = _UNKNOWN_OFFERING
    UNKNOWN_SNAPSHOT = _UNKNOWN_SNAPSHOT
    UNKNOWN_PROFILE = _UNKNOWN_PROFILE
    NOT_SOLD_RESERVED = _NOT_SOLD_RESERVED
    CLASS_NOT_OFFERED = _CLASS_NOT_OFFERED
    SNAPSHOT_RETIRED = _SNAPSHOT_RETIRED
    BELOW_MINIMUM_INSTANCES = _BELOW_MINIMUM_INSTANCES
    EXCEEDS_POOL = _EXCEEDS_POOL
    CHANGE_SET_INCOMPLETE = (_CHANGE_SET_INCOMPLETE[0], UNKNOWN, _CHANGE_SET_INCOMPLETE[1], _CHANGE_SET_INCOMPLETE[2])
    CHANGE_SET_REJECTED = _CHANGE_SET_REJECTED
    CHANGE_SET_ROLLED_BACK = (
        "ChangeSetRolledBack",
        FALSE,
        "The change set was tried and undone because its new instances did not come up in time.",
        "Repair what status.lastFailure names and give the set a new id, or remove spec.changeSet.",
    )
    NAME_TAKEN = (
        "NameTaken",
        FALSE,
        "An object that is not ours already has the name of one of this instance's children.",
        "Rename this instance, or remove the object named in the message.",
    )
    NOT_SUPPORTED_YET = (
        "NotSupportedYet",
        FALSE,
        "The spec uses a field whose behaviour this version of the operator does not have; nothing running changes.",
        "Remove the field named in the message, or upgrade the operator.",
    )


class CapacityReserved(Reason):
    """ModelInstance, condition CapacityReserved. The order is the order of precedence."""

    RESERVED = "Reserved", TRUE, "The pool holds compute units for all spec.instances, also while suspended."
    POOL_NOT_FOUND = _POOL_NOT_FOUND
    UNKNOWN_OFFERING = _UNKNOWN_OFFERING
    UNKNOWN_SNAPSHOT = _UNKNOWN_SNAPSHOT
    UNKNOWN_PROFILE = _UNKNOWN_PROFILE
    NOT_SOLD_RESERVED = _NOT_SOLD_RESERVED
    CLASS_NOT_OFFERED = _CLASS_NOT_OFFERED
    SNAPSHOT_RETIRED = _SNAPSHOT_RETIRED
    BELOW_MINIMUM_INSTANCES = _BELOW_MINIMUM_INSTANCES
    EXCEEDS_POOL = _EXCEEDS_POOL
    CHANGE_SET_INCOMPLETE = (_CHANGE_SET_INCOMPLETE[0], FALSE, _CHANGE_SET_INCOMPLETE[1], _CHANGE_SET_INCOMPLETE[2])
    CHANGE_SET_REJECTED = _CHANGE_SET_REJECTED
    NOT_YET_PROVISIONED = (
        "NotYetProvisioned",
        FALSE,
        "The pool's compute units are contracted but not claimed on nodes yet.",
        "Wait until the date in the message; after provisionBy the provider has to act.",
    )
    WAITING_FOR_RELEASE = (
        "WaitingForRelease",
        FALSE,
        "The compute units are given back by an instance whose pods still terminate, or members leave a node one by one.",
        "Wait; the message says how many are on their way.",
    )
    WAITING_FOR_COMPUTE_UNITS = (
        "WaitingForComputeUnits",
        FALSE,
        "The pool has too few idle compute units.",
        "Scale another instance down or add a commitment to the pool.",
    )
    FRAGMENTED = (
        "Fragmented",
        FALSE,
        "There are enough idle compute units but no node has room for one instance.",
        "Make the move named in the message.",
    )
    NODES_UNHEALTHY = (
        "NodesUnhealthy",
        FALSE,
        "The compute units are there, but on nodes that are cordoned or not healthy, or given up to empty such a node.",
        "Uncordon or repair the nodes (kubectl reserved status names them), or add a spare one.",
    )
    PENDING_EVALUATION = (
        "PendingEvaluation",
        FALSE,
        "The request has not been weighed against the others yet.",
        "Wait; it is weighed in the next pass.",
    )


ACCEPTED_REASONS: Final = frozenset(map(str, InstanceAccepted)) & frozenset(map(str, CapacityReserved))
"""The words that stand in both conditions."""


class SnapshotCached(Reason):
    """ModelInstance, condition SnapshotCached."""

    CACHED = "Cached", TRUE, "The snapshot's artifact is on every node that will need it."
    PREFETCH_FAILED = (
        "PrefetchFailed",
        FALSE,
        "The artifact could not be pulled to a node; no capacity was released for it.",
        "Correct the artifact or its pull secret as the message says; it is tried again.",
    )
    PREFETCHING = "Prefetching", UNKNOWN, "The artifact is being pulled to the nodes.", "Wait."


class Available(Reason):
    """ModelInstance, condition Available: serving now."""

    SERVING = "Serving", TRUE, "At least minAvailable members are serving."
    NO_MEMBER = (
        "NoMember",
        FALSE,
        "No member is serving.",
        "Look at CapacityReserved, and at the members' pods named in status.members.",
    )
    BELOW_MIN_AVAILABLE = (
        "BelowMinAvailable",
        FALSE,
        "Members are serving, but fewer than minAvailable.",
        "Look at the members in status.members that are not available, and at their pods.",
    )
    SCALED_TO_ZERO = (
        "ScaledToZero",
        FALSE,
        "spec.instances is 0: nothing is meant to serve.",
        "Raise spec.instances to serve.",
    )
    SUSPENDED = (
        "Suspended",
        FALSE,
        "spec.suspend is true: nothing serves, and the compute units stay held and paid for.",
        "Set spec.suspend to false to serve.",
    )


class UpToDate(Reason):
    """ModelInstance, condition UpToDate: every member runs spec.snapshot and spec.profile."""

    UP_TO_DATE = "UpToDate", TRUE, "Every member runs the snapshot and the profile of the spec."
    ROLLOUT_BLOCKED = (
        "RolloutBlocked",
        FALSE,
        "The rollout has no spare compute units and touches nothing; or nobody may be stopped, because others of the model do not serve.",
        "Choose spec.upgrade.whenNoSpare InPlace or BorrowSpare, free the units, or get the members to serve that are named in the message.",
    )
    ROLLOUT_FAILED = (
        "RolloutFailed",
        FALSE,
        "A new member did not come up within progressDeadline, or on the way back one of the old version did not either; the rollout has halted.",
        "Read status.lastFailure, then correct the spec or set the old snapshot again; where neither comes up, a version that serves.",
    )
    ROLLED_BACK = (
        "RolledBack",
        FALSE,
        "The rollout failed and was undone; spec.snapshot still asks for the new one.",
        "Read status.lastFailure, then change spec.snapshot or spec.profile.",
    )
    ROLLING_OUT = "RollingOut", UNKNOWN, "Members are being moved, step by step.", "Wait."
    PAUSED = (
        "Paused",
        UNKNOWN,
        "spec.upgrade.paused holds the rollout between two members.",
        "Set spec.upgrade.paused to false to go on.",
    )
    AWAITING_APPROVAL = (
        "AwaitingApproval",
        UNKNOWN,
        "The canary serves and waits for a person.",
        "Set spec.upgrade.canary.approvedRollout to status.rollout.id to go on.",
    )
    AWAITING_WINDOW = (
        "AwaitingWindow",
        UNKNOWN,
        "The rollout waits for the pool's maintenance window.",
        "Wait until the time in the message.",
    )


class SnapshotSupported(Reason):
    """ModelInstance and TokenUnitReservation, condition SnapshotSupported."""

    PREVIEW = "Preview", TRUE, "The snapshot is not generally available yet."
    ACTIVE = "Active", TRUE, "The snapshot is current."
    DEPRECATED = (
        "Deprecated",
        TRUE,
        "The snapshot is deprecated.",
        "Plan the move to the replacement named in the message.",
    )
    RETIRING_SOON = (
        "RetiringSoon",
        TRUE,
        "The snapshot retires within 90 days.",
        "Move to the replacement named in the message before the date.",
    )
    RETIRED = (
        "Retired",
        FALSE,
        "The snapshot is past its retirement; nothing is stopped, nothing new is placed.",
        "Set spec.snapshot to the replacement named in the message.",
    )

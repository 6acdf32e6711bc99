"""Condition reasons are a contract with dashboards and health scripts; the list here is the design's."""

import pytest

from reserved_capacity.api.conditions import CONDITION_REASONS, Condition, Conditions, ConditionType, StatusModel
from reserved_capacity.api.meta import Kind
from reserved_capacity.domain.reasons.base import NOTHING_TO_DO, ConditionStatus, Ready, Reason
from reserved_capacity.domain.reasons.instance import ACCEPTED_REASONS, CapacityReserved

POOL, INSTANCE, TOKENS = Kind.COMPUTE_UNIT_POOL, Kind.MODEL_INSTANCE, Kind.TOKEN_UNIT_RESERVATION

WAITING = (
    "PoolNotFound UnknownOffering UnknownSnapshot UnknownProfile NotSoldReserved ClassNotOffered SnapshotRetired "
    "BelowMinimumInstances ExceedsPool ChangeSetIncomplete ChangeSetRejected NotYetProvisioned WaitingForRelease "
    "WaitingForComputeUnits Fragmented NodesUnhealthy PendingEvaluation"
)
NOT_ACCEPTED = (
    "PoolNotFound UnknownOffering UnknownSnapshot UnknownProfile NotSoldReserved ClassNotOffered SnapshotRetired "
    "BelowMinimumInstances ExceedsPool ChangeSetRejected NameTaken ChangeSetRolledBack NotSupportedYet"
)
NOT_ACCEPTED_TOKENS = (
    "UnknownOffering UnknownSnapshot UnknownPriceBook NotSoldByToken PriceMissing MinimumTermNotReached NotSupportedYet"
)
# kind, condition, reasons when True, when False, when Unknown
TABLE = [
    (
        POOL,
        "Accepted",
        "Accepted",
        "UnknownAcceleratorClass UnknownPriceBook PriceMissing DuplicateCommitment InvalidSchedule NotSupportedYet",
        "",
    ),
    (POOL, "Provisioned", "Provisioned", "ProvisioningLate PartiallyProvisioned", "Provisioning"),
    (POOL, "Healthy", "Healthy", "NodesUnhealthy ForeignPods TooManyMembers", ""),
    (POOL, "CommitmentSecure", "Secure Renewing", "ExpiresSoon Expired", ""),
    (POOL, "BillingCurrent", "Current NoSink", "SinkUnavailable", "CatchingUp"),
    (POOL, "LedgerBalanced", "Balanced", "Mismatch", ""),
    (INSTANCE, "Accepted", "Accepted", NOT_ACCEPTED, "ChangeSetIncomplete"),
    (INSTANCE, "CapacityReserved", "Reserved", WAITING, ""),
    (INSTANCE, "SnapshotCached", "Cached", "PrefetchFailed", "Prefetching"),
    (INSTANCE, "Available", "Serving", "NoMember BelowMinAvailable ScaledToZero Suspended", ""),
    (
        INSTANCE,
        "UpToDate",
        "UpToDate",
        "RolloutBlocked RolloutFailed RolledBack",
        "RollingOut Paused AwaitingApproval AwaitingWindow",
    ),
    (INSTANCE, "SnapshotSupported", "Preview Active Deprecated RetiringSoon", "Retired", ""),
    (
        TOKENS,
        "Accepted",
        "Accepted",
        NOT_ACCEPTED_TOKENS,
        "",
    ),
    (TOKENS, "CapacityBacked", "Backed", "InsufficientCapacity", "FleetStarting"),
    (TOKENS, "LimitPublished", "Published AcceptedByGateway", "GatewayRejected", "Publishing"),
    (TOKENS, "ServiceLevelMet", "Met", "UptimeBelow LatencyBelow", "NotMeasured"),
    (TOKENS, "SnapshotSupported", "Preview Active Deprecated RetiringSoon", "Retired", ""),
    (TOKENS, "BillingCurrent", "Current NoSink", "SinkUnavailable", "CatchingUp"),
    (TOKENS, "LedgerBalanced", "Balanced", "Mismatch", ""),
    (Kind.ACCELERATOR_CLASS, "Ready", "Ready", "NoNodes GpuCountMismatch", ""),
    (Kind.MODEL_OFFERING, "Valid", "Valid", "UnknownAcceleratorClass InstanceLargerThanNode", ""),
    (Kind.PRICE_BOOK, "Valid", "Valid", "UnknownOffering PriceGap", ""),
]


def words(reasons: type[Reason], status: ConditionStatus) -> set[str]:
    return {str(reason) for reason in reasons if reason.status is status}


@pytest.mark.parametrize(("kind", "condition", "true", "false", "unknown"), TABLE)
def test_each_condition_has_exactly_the_reasons_of_the_design(
    kind: Kind, condition: str, true: str, false: str, unknown: str
) -> None:
    reasons = CONDITION_REASONS[kind][ConditionType(condition)]
    assert words(reasons, ConditionStatus.TRUE) == set(true.split())
    assert words(reasons, ConditionStatus.FALSE) == set(false.split())
    assert words(reasons, ConditionStatus.UNKNOWN) == set(unknown.split())


def test_the_table_is_complete() -> None:
    listed = {(kind, ConditionType(condition)) for kind, condition, *_ in TABLE}
    assert listed == {(kind, type_) for kind, types in CONDITION_REASONS.items() for type_ in types}


def test_capacity_reasons_stand_in_their_order_of_precedence() -> None:
    assert " ".join(reason for reason in CapacityReserved if reason is not CapacityReserved.RESERVED) == WAITING


def test_what_also_decides_accepted_has_the_same_word() -> None:
    assert set(WAITING.split()[:11]) == ACCEPTED_REASONS


def test_every_reason_has_a_sentence_and_every_bad_one_a_remedy() -> None:
    for types in CONDITION_REASONS.values():
        for reasons in (*types.values(), Ready):
            for reason in reasons:
                assert reason.meaning.endswith("."), reason
                assert reason.remedy.endswith("."), reason
                assert reason.status is not ConditionStatus.FALSE or reason.remedy != NOTHING_TO_DO, reason


def test_a_condition_is_found_by_its_type() -> None:
    raw = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-03-01T00:00:00Z"}
    conditions: Conditions = (Condition.parse(raw),)
    status = StatusModel(conditions=conditions)
    assert status.condition(ConditionType.READY) == conditions[0]
    assert status.condition("Accepted") is None
    assert conditions[0].to_wire() == raw | {"observedGeneration": 0, "message": ""}

"""Conditions: the model (metav1.Condition), their types per kind, and which reasons each type may carry.

All conditions are positive: True is good. `Reconciling` and `Stalled` are kstatus' exceptions, present only while True.
The reasons themselves, with what they mean and what to do, are in `domain.reasons`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from reserved_capacity.api.base import ApiModel, ListMap
from reserved_capacity.api.fields import Long, Timestamp
from reserved_capacity.api.meta import Kind
from reserved_capacity.domain.reasons import instance as reasons_instance
from reserved_capacity.domain.reasons import pool as reasons_pool
from reserved_capacity.domain.reasons import provider as reasons_provider
from reserved_capacity.domain.reasons import tokens as reasons_tokens
from reserved_capacity.domain.reasons.base import ConditionStatus, Reason


class ConditionType(StrEnum):
    """Every condition type of the six kinds."""

    ACCEPTED = "Accepted"
    PROVISIONED = "Provisioned"
    HEALTHY = "Healthy"
    COMMITMENT_SECURE = "CommitmentSecure"
    BILLING_CURRENT = "BillingCurrent"
    LEDGER_BALANCED = "LedgerBalanced"
    CAPACITY_RESERVED = "CapacityReserved"
    SNAPSHOT_CACHED = "SnapshotCached"
    AVAILABLE = "Available"
    UP_TO_DATE = "UpToDate"
    SNAPSHOT_SUPPORTED = "SnapshotSupported"
    CAPACITY_BACKED = "CapacityBacked"
    LIMIT_PUBLISHED = "LimitPublished"
    SERVICE_LEVEL_MET = "ServiceLevelMet"
    VALID = "Valid"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(ApiModel):
    """One observation about the object, in the form of metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Name of the condition in CamelCase; unique in the list."""
    status: ConditionStatus
    """True, False, or Unknown while the state is moving on its own."""
    observed_generation: Long = 0
    """metadata.generation that this condition was computed from; lower than metadata.generation means out of date."""
    last_transition_time: Timestamp
    """When `status` last changed, RFC 3339 UTC."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    """Why, as one PascalCase word that programs may compare."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, as one sentence for people: what is needed, what is there, and the next step."""


Conditions = Annotated[tuple[Condition, ...], ListMap("type"), Field(max_length=16)]


class StatusModel(ApiModel):
    """What the status of every kind begins with."""

    observed_generation: Long = 0
    """The metadata.generation that this status describes."""
    phase: Annotated[str, Field(max_length=32)] | None = None
    """The state in one word, for people; programs read the conditions."""
    summary: Annotated[str, Field(max_length=1024)] | None = None
    """The state in one sentence, for people; programs read the conditions."""
    conditions: Conditions = ()
    """Observations in the form of metav1.Condition. All are positive: True is good."""

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, or None where it is absent."""
        return next((item for item in self.conditions if item.type == type_), None)


_T = ConditionType

CONDITION_REASONS: Final[Mapping[Kind, Mapping[ConditionType, type[Reason]]]] = {
    Kind.ACCELERATOR_CLASS: {_T.READY: reasons_provider.ClassReady},
    Kind.MODEL_OFFERING: {_T.VALID: reasons_provider.OfferingValid},
    Kind.PRICE_BOOK: {_T.VALID: reasons_provider.PriceBookValid},
    Kind.COMPUTE_UNIT_POOL: {
        _T.ACCEPTED: reasons_pool.PoolAccepted,
        _T.PROVISIONED: reasons_pool.Provisioned,
        _T.HEALTHY: reasons_pool.Healthy,
        _T.COMMITMENT_SECURE: reasons_pool.CommitmentSecure,
        _T.BILLING_CURRENT: reasons_pool.BillingCurrent,
        _T.LEDGER_BALANCED: reasons_pool.LedgerBalanced,
    },
    Kind.MODEL_INSTANCE: {
        _T.ACCEPTED: reasons_instance.InstanceAccepted,
        _T.CAPACITY_RESERVED: reasons_instance.CapacityReserved,
        _T.SNAPSHOT_CACHED: reasons_instance.SnapshotCached,
        _T.AVAILABLE: reasons_instance.Available,
        _T.UP_TO_DATE: reasons_instance.UpToDate,
        _T.SNAPSHOT_SUPPORTED: reasons_instance.SnapshotSupported,
    },
    Kind.TOKEN_UNIT_RESERVATION: {
        _T.ACCEPTED: reasons_tokens.TokensAccepted,
        _T.CAPACITY_BACKED: reasons_tokens.CapacityBacked,
        _T.LIMIT_PUBLISHED: reasons_tokens.LimitPublished,
        _T.SERVICE_LEVEL_MET: reasons_tokens.ServiceLevelMet,
        _T.SNAPSHOT_SUPPORTED: reasons_instance.SnapshotSupported,
        _T.BILLING_CURRENT: reasons_pool.BillingCurrent,
        _T.LEDGER_BALANCED: reasons_pool.LedgerBalanced,
    },
}
"""The reasons each condition may carry. `Ready`, where not listed, takes the reason of the condition that decides it, and
`Ready` when True."""

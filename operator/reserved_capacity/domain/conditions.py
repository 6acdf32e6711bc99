"""Conditions as values, and how a new set is merged into the one that stands (metav1.Condition; api.md, conventions)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .reasons.base import ConditionStatus, Reason


@dataclass(frozen=True, slots=True)
class ConditionValue:
    """What a condition says now. `Ready` borrows another condition's reason, so its status is its own."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    since: datetime | None = None


def condition(type_: str, reason: Reason, message: str) -> ConditionValue:
    return ConditionValue(type_, reason.status, reason.value, message)


def merged(
    previous: Sequence[ConditionValue], current: Sequence[ConditionValue], *, now: datetime
) -> tuple[ConditionValue, ...]:
    """`current`, each with the moment at which its status last changed. Types that are no longer said are dropped."""
    before = {value.type: value for value in previous}

    def since(value: ConditionValue) -> datetime:
        old = before.get(value.type)
        return old.since if old is not None and old.status is value.status and old.since is not None else now

    return tuple(
        ConditionValue(value.type, value.status, value.reason, value.message, since(value)) for value in current
    )

"""Where a snapshot is in its life: Preview, Active, Deprecated, Retired (api.md, ModelOffering)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from .terms import start_of


class Lifecycle(StrEnum):
    PREVIEW = "Preview"
    ACTIVE = "Active"
    DEPRECATED = "Deprecated"
    RETIRED = "Retired"


@dataclass(frozen=True, slots=True)
class LifecycleDates:
    """The dates of a snapshot; days begin at 00:00 UTC, an absent date never comes (or, for the first, always was)."""

    available_from: date | None = None
    deprecated_from: date | None = None
    retires_at: datetime | None = None


def lifecycle_of(dates: LifecycleDates, *, now: datetime) -> Lifecycle:
    if dates.retires_at is not None and now >= dates.retires_at:
        return Lifecycle.RETIRED
    if dates.deprecated_from is not None and now >= start_of(dates.deprecated_from):
        return Lifecycle.DEPRECATED
    if dates.available_from is not None and now < start_of(dates.available_from):
        return Lifecycle.PREVIEW
    return Lifecycle.ACTIVE


def next_change(dates: LifecycleDates, *, now: datetime) -> datetime | None:
    """When the lifecycle changes next, by itself."""
    moments = (
        start_of(dates.available_from) if dates.available_from else None,
        start_of(dates.deprecated_from) if dates.deprecated_from else None,
        dates.retires_at,
    )
    return min((moment for moment in moments if moment is not None and moment > now), default=None)

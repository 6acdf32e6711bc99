"""`status.availability` of a ModelInstance: what domain/downtime.py counts, on its way in and out (behaviour.md N4)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from reserved_capacity.api.instancestatus import Availability, Downtime, MonthOfAvailability
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.downtime import (
    DowntimeSeconds,
    MonthOfService,
    ServiceFacts,
    ServiceRecord,
    end_of_month,
    observed,
)


def availability_of(instance: ModelInstance, facts: ServiceFacts, now: datetime) -> Availability | None:
    """The availability to report; None as long as the instance has never served."""
    record = observed(_record_of(instance.status.availability), facts, now=now)
    if record is None:
        return None
    created = instance.metadata.creation_timestamp or record.counted_until
    closed = record.last_closed
    return Availability(
        **_month(record.current, created).model_dump(),
        counted_until=record.counted_until,
        cause=record.cause,
        last_closed_month=_month(closed, created) if closed is not None else None,
    )


def next_count(availability: Availability | None) -> datetime | None:
    """When there is something to write though nothing changes: at the end of the month."""
    return end_of_month(availability.month) if availability is not None and availability.month else None


def _record_of(availability: Availability | None) -> ServiceRecord | None:
    if availability is None or availability.month is None or availability.counted_until is None:
        return None
    closed = availability.last_closed_month
    current = _service(availability)
    assert current is not None, "it has a month"  # noqa: S101
    return ServiceRecord(current, availability.counted_until, availability.cause, _service(closed) if closed else None)


def _service(month: MonthOfAvailability) -> MonthOfService | None:
    seconds = month.downtime_seconds
    counted = DowntimeSeconds(seconds.provider_fault, seconds.planned_maintenance, seconds.customer_change)
    return MonthOfService(month.month, counted) if month.month else None


def _month(month: MonthOfService, since: datetime) -> MonthOfAvailability:
    return MonthOfAvailability(
        month=month.month,
        uptime=Decimal(month.uptime_thousandths(since)).scaleb(-3),
        downtime_seconds=Downtime(
            provider_fault=month.downtime.provider_fault,
            customer_change=month.downtime.customer_change,
            planned_maintenance=month.downtime.planned_maintenance,
        ),
    )

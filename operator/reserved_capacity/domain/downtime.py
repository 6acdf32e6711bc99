"""Whose fault it is when an instance does not serve, and for how long, by UTC month (behaviour.md N4, T6).

What is counted is a partition of time: every second of a month belongs to at most one cause, so the sum never exceeds
the month. An outage is added up when it ends, when another cause takes over, and at the end of the month; until then
only its cause and the moment from which it counts are kept, so nothing has to be written while nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum


class Cause(StrEnum):
    """Whose an outage is; where several apply, the first of these."""

    PROVIDER_FAULT = "ProviderFault"
    PLANNED_MAINTENANCE = "PlannedMaintenance"
    CUSTOMER_CHANGE = "CustomerChange"


_ORDER = (*Cause,)


class NodeHealth(StrEnum):
    """Of the nodes that a member is on, or had to leave."""

    FINE = "Fine"
    CORDONED = "Cordoned"  # ready or not: whatever happens there belongs to the maintenance
    GONE = "Gone"
    SICK = "Sick"  # not ready, or in a condition that the class repairs


@dataclass(frozen=True, slots=True)
class MissingMember:
    """A member that holds its blocks and does not serve. `failing`: its pod says so; `served`: it did since its start."""

    nodes: NodeHealth = NodeHealth.FINE
    failing: bool = False
    served: bool = False


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What one look at an instance saw.

    `wanted` members are to serve, 0 where nothing is meant to. `held` instances have their blocks, and of those `missing`
    do not serve. `short_of_nodes`: what is not held is on nodes that take nobody; None if that is not known yet.
    """

    wanted: int
    serving: int
    held: int
    missing: tuple[MissingMember, ...] = ()
    short_of_nodes: NodeHealth | None = NodeHealth.FINE

    @property
    def down(self) -> bool:
        return self.serving < self.wanted


@dataclass(frozen=True, slots=True)
class DowntimeSeconds:
    """Whole seconds, by cause."""

    provider_fault: int = 0
    planned_maintenance: int = 0
    customer_change: int = 0

    @property
    def counted(self) -> int:
        """What counts against the uptime: all but what the customer caused (T6)."""
        return self.provider_fault + self.planned_maintenance

    @property
    def total(self) -> int:
        return self.counted + self.customer_change

    def plus(self, cause: Cause, seconds: int) -> DowntimeSeconds:
        match cause:
            case Cause.PROVIDER_FAULT:
                return replace(self, provider_fault=self.provider_fault + seconds)
            case Cause.PLANNED_MAINTENANCE:
                return replace(self, planned_maintenance=self.planned_maintenance + seconds)
            case Cause.CUSTOMER_CHANGE:
                return replace(self, customer_change=self.customer_change + seconds)


@dataclass(frozen=True, slots=True)
class MonthOfService:
    """One UTC month (`2026-03`) of an instance, as far as it is counted."""

    month: str
    downtime: DowntimeSeconds = DowntimeSeconds()

    def uptime_thousandths(self, since: datetime) -> int:
        """Thousandths of a percent of the month, or of its rest after `since`, in which nothing but the customer kept the
        instance from serving; rounded down, so what is short of a target never reads as if it were met."""
        first, end = bounds_of(self.month)
        length = seconds_between(max(first, since), end)
        return max(0, length - self.downtime.counted) * 100_000 // length if length else 100_000


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """What is on record of an instance that has served: the current month, the month before, and the outage that goes on.

    Everything up to `counted_until` is in `current`. `cause` is that of the outage that goes on since then; None while
    the instance serves or is not meant to.
    """

    current: MonthOfService
    counted_until: datetime
    cause: Cause | None = None
    last_closed: MonthOfService | None = None


def observed(record: ServiceRecord | None, facts: ServiceFacts, *, now: datetime) -> ServiceRecord | None:
    """The record after one more look. An instance is measured from the moment at which it first serves; before that
    nothing is promised but its capacity (C4).

    What nobody saw is as the record has it: an outage that began and ended while no operator ran is not counted, and one
    that was open counts until somebody looks again. A clock that goes back counts nothing twice.
    """
    now = now.astimezone(UTC).replace(microsecond=0)
    if record is None:
        serves = facts.wanted > 0 and not facts.down
        return ServiceRecord(MonthOfService(month_of(now)), now) if serves else None
    record = _rolled(record, now)
    cause = cause_of(facts, record.cause)
    return record if cause is record.cause else replace(_counted(record, now), cause=cause)


def cause_of(facts: ServiceFacts, open_cause: Cause | None) -> Cause | None:
    """Whose the outage is; None if there is none. What is merely starting does not tell: it belongs to the outage that is
    open, and to the customer where none is, since then the customer has asked for it (a larger count, an end of suspend,
    a change set). So an outage that was the provider's stays so until everybody serves again."""
    if not facts.down:
        return None
    causes = {_cause_of_member(member, open_cause) for member in facts.missing}
    if facts.held < facts.wanted:
        causes.add(_cause_of_shortage(facts.short_of_nodes, open_cause))
    return min(causes, key=_ORDER.index, default=open_cause or Cause.CUSTOMER_CHANGE)


def _cause_of_member(member: MissingMember, open_cause: Cause | None) -> Cause:
    if member.nodes is NodeHealth.CORDONED:
        return _maintenance(open_cause)
    if member.nodes is NodeHealth.GONE and open_cause is Cause.PLANNED_MAINTENANCE:
        return open_cause  # it was emptied first, and then taken away
    if member.nodes in (NodeHealth.GONE, NodeHealth.SICK) or member.failing or member.served:
        return Cause.PROVIDER_FAULT
    return open_cause or Cause.CUSTOMER_CHANGE


def _cause_of_shortage(short_of_nodes: NodeHealth | None, open_cause: Cause | None) -> Cause:
    match short_of_nodes:
        case NodeHealth.SICK | NodeHealth.GONE:
            return Cause.PROVIDER_FAULT
        case NodeHealth.CORDONED:
            return _maintenance(open_cause)
        case NodeHealth.FINE:
            return Cause.CUSTOMER_CHANGE
        case None:
            return open_cause or Cause.CUSTOMER_CHANGE


def _maintenance(open_cause: Cause | None) -> Cause:
    """A cordon that comes after the fault does not turn the fault into maintenance."""
    return Cause.PROVIDER_FAULT if open_cause is Cause.PROVIDER_FAULT else Cause.PLANNED_MAINTENANCE


def _counted(record: ServiceRecord, until: datetime) -> ServiceRecord:
    """The record with the outage that goes on added up to a moment of its month."""
    until = max(until, record.counted_until)
    month = record.current
    if record.cause is not None:
        downtime = month.downtime.plus(record.cause, seconds_between(record.counted_until, until))
        month = replace(month, downtime=downtime)
    return replace(record, current=month, counted_until=until)


def _rolled(record: ServiceRecord, now: datetime) -> ServiceRecord:
    """The record in the month of `now`, each month before that closed at its end. Never back."""
    for month in _months_between(record.current.month, month_of(now)):
        start, _ = bounds_of(month)
        closed = _counted(record, start)
        record = replace(closed, current=MonthOfService(month), last_closed=closed.current)
    return record


# ---------------------------------------------------------------------------------------------------------- the calendar


def month_of(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m}"


def bounds_of(month: str) -> tuple[datetime, datetime]:
    """First moment of a UTC month, and of the next one."""
    first = datetime.strptime(f"{month}-01 +0000", "%Y-%m-%d %z")
    return first, first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def end_of_month(month: str) -> datetime:
    return bounds_of(month)[1]


def _months_between(month: str, last: str) -> Iterator[str]:
    """The months after `month`, up to and with `last`."""
    while month < last:
        month = month_of(end_of_month(month))
        yield month


def seconds_between(start: datetime, end: datetime) -> int:
    """Whole seconds; none if the end comes first."""
    delta = end - start
    return max(0, delta.days * 86_400 + delta.seconds)

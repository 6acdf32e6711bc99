"""The life of a commitment: accepted, provisioned, charged from a midnight, ended (behaviour.md M1, M2; seeds).

Billing starts "when compute units are first provisioned to an instance and on a daily basis, commencing at midnight
UTC the day after"; a term is 90 or 365 days whatever the calendar says (seed: Reserved Capacity).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import accumulate

RENEWAL_NOTICE = timedelta(days=30)


class Term(StrEnum):
    THREE_MONTHS = "ThreeMonths"
    ONE_YEAR = "OneYear"

    @property
    def days(self) -> int:
        return 90 if self is Term.THREE_MONTHS else 365

    @property
    def months(self) -> int:
        """So many monthly prices are the price of the term."""
        return 3 if self is Term.THREE_MONTHS else 12


class RenewalPolicy(StrEnum):
    EXPIRE = "Expire"
    RENEW = "Renew"


class CommitmentState(StrEnum):
    ORDERED = "Ordered"
    PROVISIONING = "Provisioning"
    ACTIVE = "Active"
    EXPIRING = "Expiring"
    RENEWING = "Renewing"
    EXPIRED = "Expired"

    @property
    def running(self) -> bool:
        """Running commitments can be neither edited nor deleted (M9)."""
        return self not in (CommitmentState.ORDERED, CommitmentState.EXPIRED)


@dataclass(frozen=True, slots=True)
class CommitmentOrder:
    """A commitment as the customer wrote it."""

    id: str
    compute_units: int
    term: Term
    provision_by: date | None
    renewal: RenewalPolicy


@dataclass(frozen=True, slots=True)
class CommitmentRecord:
    """What has happened to a commitment. Its moments are written once and never computed again (M1)."""

    id: str
    accepted_at: datetime
    compute_units: int
    state: CommitmentState = CommitmentState.ORDERED
    provisioned_cu: int = 0
    fully_provisioned_at: datetime | None = None
    first_provisioned_at: datetime | None = None
    billing_start: datetime | None = None
    term_end: datetime | None = None
    renewal_deadline: datetime | None = None

    @property
    def order(self) -> tuple[datetime, str]:
        """CU of a pool belong to its commitments in the order of acceptance (M1)."""
        return (self.accepted_at, self.id)

    @property
    def ended(self) -> bool:
        return self.state is CommitmentState.EXPIRED


@dataclass(frozen=True, slots=True)
class Placement:
    """CU that were provisioned to an instance, at the moment that counts: its StatefulSet's, by the API server."""

    at: datetime
    compute_units: int


def midnight_after(moment: datetime) -> datetime:
    """00:00 UTC of the day after: 2026-03-01T23:59:59Z -> 03-02, 2026-03-02T00:00:00Z -> 03-03 (M1)."""
    return start_of(moment.astimezone(UTC).date() + timedelta(days=1))


def start_of(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def plan_commitments(
    orders: Sequence[CommitmentOrder],
    recorded: Sequence[CommitmentRecord],
    *,
    acceptable: frozenset[str],
    provisioned_cu: int,
    placements: Sequence[Placement],
    now: datetime,
) -> tuple[CommitmentRecord, ...]:
    """The record of every accepted commitment, in order of acceptance.

    `acceptable` are the ids that may be accepted now; one that was accepted stays so while it is in the spec, and one
    that is past Ordered stays on record whatever the spec says (the API server refuses its removal; a restored copy
    may lack it all the same). `provisioned_cu` are the pool's, `placements` those of its present members.
    """
    by_id = {order.id: order for order in orders}
    records = [
        replace(record, compute_units=by_id[record.id].compute_units if record.id in by_id else record.compute_units)
        for record in recorded
        if record.id in by_id or record.state is not CommitmentState.ORDERED
    ]
    known = {record.id for record in records}
    records += [
        CommitmentRecord(order.id, now, order.compute_units)
        for order in orders
        if order.id in acceptable and order.id not in known
    ]
    records.sort(key=lambda record: record.order)
    uses = _Uses(placements)
    planned: list[CommitmentRecord] = []
    left = provisioned_cu
    for record in records:
        order = by_id.get(record.id)
        # The term comes first: it may be over already, seen after a long absence, and what is over has no share.
        started = _start_term(replace(record, first_provisioned_at=uses.first(record, planned, now)), order, now)
        share = 0 if _has_ended(started, now) else min(left, started.compute_units)
        left -= share
        planned.append(_take(started, order, share, now))
    return tuple(planned)


def _has_ended(record: CommitmentRecord, now: datetime) -> bool:
    return record.term_end is not None and now >= record.term_end


class _Uses:
    """The CU that were allocated at any time, by the present members: for first uses (M1)."""

    def __init__(self, placements: Sequence[Placement]) -> None:
        ordered = sorted(placements, key=lambda placement: placement.at)
        self.times = [placement.at for placement in ordered]
        self.sums = list(accumulate(placement.compute_units for placement in ordered))

    def allocated(self, at: datetime) -> int:
        count = bisect_right(self.times, at)
        return self.sums[count - 1] if count else 0

    def first(self, record: CommitmentRecord, before: Sequence[CommitmentRecord], now: datetime) -> datetime | None:
        """When allocated CU first exceeded the sum of the commitments before this one; as recorded, if it is.

        That happens by a placement, or when one of those before has ended and what it carried falls to the next; no
        such inheritance is older than the acceptance of the heir.
        """
        if record.first_provisioned_at is not None or _has_ended(record, now):
            return record.first_provisioned_at
        ended = sorted(each.term_end for each in before if each.term_end is not None and each.term_end <= now)
        for at in sorted({*self.times, *ended}):
            carried = sum(each.compute_units for each in before if not _has_ended(each, at))
            if self.allocated(at) > carried:
                return max(at, record.accepted_at) if ended and at >= ended[0] else at
        return None


def _take(record: CommitmentRecord, order: CommitmentOrder | None, share: int, now: datetime) -> CommitmentRecord:
    record = replace(record, provisioned_cu=share)
    if record.fully_provisioned_at is None and share >= record.compute_units:
        record = replace(record, fully_provisioned_at=now)
    return replace(record, state=_state(record, order, now))


def _start_term(record: CommitmentRecord, order: CommitmentOrder | None, now: datetime) -> CommitmentRecord:
    """Charging starts by first use or by the fallback, whichever midnight is earlier.

    A fallback midnight that has passed stands, whatever was placed since: it does not matter when we looked (M5, I7).
    """
    if order is None or record.billing_start is not None:
        return record
    used_at, fallback = record.first_provisioned_at, _start_without_use(record, order)
    starts = [midnight_after(used_at)] if used_at is not None else []
    starts += [fallback] if fallback is not None and fallback <= now else []
    if not starts:
        return record
    start = min(starts)
    end = start + timedelta(days=order.term.days)
    return replace(record, billing_start=start, term_end=end, renewal_deadline=end - RENEWAL_NOTICE)


def _start_without_use(record: CommitmentRecord, order: CommitmentOrder) -> datetime | None:
    """M1, the fallback: the day after the later of `provisionBy` and the day all its CU were provisioned."""
    if record.fully_provisioned_at is None:
        return None
    after = midnight_after(record.fully_provisioned_at)
    return max(after, start_of(order.provision_by) + timedelta(days=1)) if order.provision_by else after


def _state(record: CommitmentRecord, order: CommitmentOrder | None, now: datetime) -> CommitmentState:
    if record.billing_start is None or record.term_end is None or record.renewal_deadline is None:
        return CommitmentState.PROVISIONING if _has_capacity(record) else CommitmentState.ORDERED
    if now >= record.term_end:
        return CommitmentState.EXPIRED
    if now < record.renewal_deadline:
        return CommitmentState.ACTIVE
    if record.state in (CommitmentState.EXPIRING, CommitmentState.RENEWING):
        return record.state  # frozen past the deadline
    renew = order is not None and order.renewal is RenewalPolicy.RENEW
    return CommitmentState.RENEWING if renew else CommitmentState.EXPIRING


def _has_capacity(record: CommitmentRecord) -> bool:
    # Once provisioning has begun it does not go back: a lost node must not open the contract for editing.
    return record.provisioned_cu > 0 or record.state is CommitmentState.PROVISIONING


def next_moment(
    records: Sequence[CommitmentRecord], orders: Sequence[CommitmentOrder], now: datetime
) -> datetime | None:
    """When a commitment changes by itself: its fallback start, its renewal deadline, its end."""
    by_id = {order.id: order for order in orders}
    moments = [
        moment
        for record in records
        for moment in (
            record.renewal_deadline,
            record.term_end,
            _start_without_use(record, by_id[record.id]) if record.id in by_id and not record.billing_start else None,
        )
        if moment is not None and moment > now
    ]
    return min(moments, default=None)

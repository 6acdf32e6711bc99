"""The life of a commitment: accepted, provisioned, charged from a midnight, renewed or ended (behaviour.md M1, M2, M8).

Billing starts "when compute units are first provisioned to an instance and on a daily basis, commencing at midnight
UTC the day after"; a term is 90 or 365 days whatever the calendar says (seed: Reserved Capacity). Whatever happened
while nobody looked is computed term by term, so it does not matter when we look (M5).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import accumulate

RENEWAL_NOTICE = timedelta(days=30)
MAX_RECORDS = 50  # of one pool (api.md, status.commitments)


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
class Amendment:
    """An agreed reduction as it was written: `compute_units` from 00:00 UTC of `at` on; 0 ends the commitment."""

    at: date
    compute_units: int


@dataclass(frozen=True, slots=True)
class Reduction:
    """An agreed reduction of a commitment (`spec.amendments`), and when the operator first saw it."""

    at: date
    compute_units: int
    seen_at: datetime

    @property
    def holds_from(self) -> datetime:
        """The later of its date and the first midnight after it was seen: a posted day is never re-priced (ADR 0020)."""
        return max(start_of(self.at), midnight_after(self.seen_at))


@dataclass(frozen=True, slots=True)
class CommitmentOrder:
    """A commitment as the customer wrote it. `renewal_term` None: the same term again."""

    id: str
    compute_units: int
    term: Term
    provision_by: date | None
    renewal: RenewalPolicy
    renewal_term: Term | None = None
    amendments: tuple[Amendment, ...] = ()


@dataclass(frozen=True, slots=True)
class CommitmentRecord:
    """What has happened to a commitment. Its moments are written once and never computed again (M1).

    `number` counts its terms: 1, and one more for each renewal; the dates are those of the present term. `compute_units`
    are those it has now, `ordered_cu` those it was ordered with, before any reduction.
    """

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
    number: int = 1
    ordered_cu: int = 0
    reductions: tuple[Reduction, ...] = ()

    @property
    def order(self) -> tuple[datetime, str]:
        """CU of a pool belong to its commitments in the order of acceptance (M1)."""
        return (self.accepted_at, self.id)

    @property
    def ended(self) -> bool:
        return self.state is CommitmentState.EXPIRED

    @property
    def term(self) -> Term | None:
        """The length of the present term; None before it has begun, or when an agreement has cut it short."""
        if self.billing_start is None or self.term_end is None:
            return None
        return next((term for term in Term if self.billing_start + timedelta(days=term.days) == self.term_end), None)

    @property
    def ended_by_agreement(self) -> datetime | None:
        """When an amendment to 0 ends it, or would have."""
        return min((each.holds_from for each in self.reductions if not each.compute_units), default=None)

    @property
    def ends_at(self) -> datetime | None:
        """When it certainly ends, or did; None while that is not decided."""
        decided = self.state in (CommitmentState.EXPIRING, CommitmentState.EXPIRED)
        return self.term_end if decided and self.term_end is not None else self.ended_by_agreement

    def renews(self, order: CommitmentOrder | None) -> bool:
        """Does another term follow this one, as it stands? Past the deadline that is frozen, in the state."""
        if self.state in (CommitmentState.EXPIRING, CommitmentState.EXPIRED):
            return False
        if self.term_end is not None and self.is_over(self.term_end):
            return False
        return self.state is CommitmentState.RENEWING or (order is not None and order.renewal is RenewalPolicy.RENEW)

    def is_over(self, moment: datetime) -> bool:
        """Has an amendment to 0 ended it by then?"""
        return self.ended_by_agreement is not None and self.ended_by_agreement <= moment

    def size_at(self, moment: datetime) -> int:
        """CU that it has at a moment of its life, by what is known of reductions."""
        reduced = [each.compute_units for each in self.reductions if each.holds_from <= moment]
        return min([max(self.ordered_cu, self.compute_units), *reduced])


def contracted_at(records: Sequence[CommitmentRecord], moment: datetime) -> int:
    """CU of all commitments that have not ended by then, as far as that is decided now."""
    lasting = [each for each in records if not each.ended and ((end := each.ends_at) is None or moment < end)]
    return sum(each.size_at(moment) for each in lasting)


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
    known = {record.id for record in recorded}
    records = [
        *_remembered(recorded, by_id),
        *(
            CommitmentRecord(order.id, now, order.compute_units)
            for order in orders
            if order.id in acceptable and order.id not in known
        ),
    ]
    records.sort(key=lambda record: record.order)
    uses = _Uses(placements)
    planned: list[CommitmentRecord] = []
    left = provisioned_cu
    for record in records:
        order = by_id.get(record.id)
        # The term comes first: it may be over already, seen after a long absence, and what is over has no share.
        current = _renewed(_reduced(record, order, now), order, now)
        current = replace(current, first_provisioned_at=uses.first(current, planned, now))
        current = _renewed(_cut(_start_term(current, order, now), now), order, now)
        share = 0 if current.ended or _has_ended(current, now) else min(left, current.compute_units)
        left -= share
        planned.append(_take(current, order, share, now))
    return tuple(planned)


def _remembered(
    recorded: Sequence[CommitmentRecord], by_id: Mapping[str, CommitmentOrder]
) -> Sequence[CommitmentRecord]:
    """What stays on record: what is in the spec, what is past Ordered, and no more of the past than there is room for."""
    kept = [each for each in recorded if each.id in by_id or each.state is not CommitmentState.ORDERED]
    surplus = len({*by_id, *(each.id for each in kept)}) - MAX_RECORDS
    past = sorted((each for each in kept if each.ended and each.id not in by_id), key=lambda each: each.order)
    forgotten = {each.id for each in past[: max(0, surplus)]}
    return [each for each in kept if each.id not in forgotten]


def _reduced(record: CommitmentRecord, order: CommitmentOrder | None, now: datetime) -> CommitmentRecord:
    """The order's size, and the reductions that were seen now for the first time; what has ended stays as it was then."""
    if record.ended:
        return record
    ordered = order.compute_units if order is not None else max(record.ordered_cu, record.compute_units)
    seen = {each.at for each in record.reductions}
    fresh = [each for each in order.amendments if each.at not in seen] if order is not None else []
    reductions = (*record.reductions, *(Reduction(each.at, each.compute_units, now) for each in fresh))
    record = replace(
        record,
        ordered_cu=ordered,
        compute_units=ordered,
        reductions=tuple(sorted(reductions, key=lambda each: each.at)),
    )
    return replace(record, compute_units=record.size_at(now))


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

        That happens by a placement, or when one of those before has ended or was reduced and what it carried falls to
        the next; no such inheritance is older than the acceptance of the heir.
        """
        if record.first_provisioned_at is not None:
            return record.first_provisioned_at
        falls = {each.term_end for each in before if each.term_end is not None}
        falls |= {reduction.holds_from for each in before for reduction in each.reductions}
        past = sorted(at for at in falls if at <= now)
        over = record.term_end or record.ended_by_agreement
        for at in sorted(at for at in {*self.times, *past} if over is None or at < over):
            carried = sum(each.size_at(at) for each in before if not _has_ended(each, at))
            if self.allocated(at) > carried:
                return max(at, record.accepted_at) if past and at >= past[0] else at
        return None


def _take(record: CommitmentRecord, order: CommitmentOrder | None, share: int, now: datetime) -> CommitmentRecord:
    record = replace(record, provisioned_cu=share)
    if record.fully_provisioned_at is None and share >= record.compute_units > 0:
        record = replace(record, fully_provisioned_at=now)
    if record.term_end is not None and _has_ended(record, now):
        record = replace(record, compute_units=record.size_at(record.term_end))
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
    if not starts or record.is_over(min(starts)):
        return record
    return _in_term(record, min(starts), order.term.days)


def _in_term(record: CommitmentRecord, start: datetime, days: int) -> CommitmentRecord:
    end = start + timedelta(days=days)
    return replace(record, billing_start=start, term_end=end, renewal_deadline=end - RENEWAL_NOTICE)


def _cut(record: CommitmentRecord, now: datetime) -> CommitmentRecord:
    """An amendment to 0 ends the term, also one that has not begun when its day comes."""
    over = record.ended_by_agreement
    if over is None or (record.term_end is None and over > now):
        return record
    if record.term_end is not None and record.term_end <= over:
        return record
    return replace(record, term_end=over, renewal_deadline=over - RENEWAL_NOTICE)


def _renewed(record: CommitmentRecord, order: CommitmentOrder | None, now: datetime) -> CommitmentRecord:
    """The term that `now` is in, after as many renewals as have come due: each begins where the one before ended (M8)."""
    while record.term_end is not None and record.term_end <= now and record.renews(order):
        start, before = record.term_end, record.billing_start
        assert before is not None, "what has not begun is not renewed"  # noqa: S101
        chosen = order.renewal_term if order is not None else None
        days = chosen.days if chosen is not None else (start - before).days
        begun = _in_term(replace(record, state=CommitmentState.ACTIVE, number=record.number + 1), start, days)
        record = _cut(begun, now)
    return record


def _start_without_use(record: CommitmentRecord, order: CommitmentOrder) -> datetime | None:
    """M1, the fallback: the day after the later of `provisionBy` and the day all its CU were provisioned."""
    if record.fully_provisioned_at is None:
        return None
    after = midnight_after(record.fully_provisioned_at)
    start = max(after, start_of(order.provision_by) + timedelta(days=1)) if order.provision_by else after
    return None if record.is_over(start) else start


def _state(record: CommitmentRecord, order: CommitmentOrder | None, now: datetime) -> CommitmentState:
    if record.ended or _has_ended(record, now):
        return CommitmentState.EXPIRED
    if record.billing_start is None or record.renewal_deadline is None:
        return CommitmentState.PROVISIONING if _has_capacity(record) else CommitmentState.ORDERED
    if now < record.renewal_deadline:
        return CommitmentState.ACTIVE
    return CommitmentState.RENEWING if record.renews(order) else CommitmentState.EXPIRING


def _has_capacity(record: CommitmentRecord) -> bool:
    # Once provisioning has begun it does not go back: a lost node must not open the contract for editing.
    return record.provisioned_cu > 0 or record.state is CommitmentState.PROVISIONING


def next_moment(
    records: Sequence[CommitmentRecord], orders: Sequence[CommitmentOrder], now: datetime
) -> datetime | None:
    """When a commitment changes by itself: its fallback start, a reduction, its renewal deadline, its end."""
    by_id = {order.id: order for order in orders}
    moments = [
        moment
        for record in records
        for moment in (
            record.renewal_deadline,
            record.term_end,
            *(each.holds_from for each in record.reductions if each.compute_units < record.compute_units),
            _start_without_use(record, by_id[record.id]) if record.id in by_id and not record.billing_start else None,
        )
        if moment is not None and moment > now and not record.ended
    ]
    return min(moments, default=None)

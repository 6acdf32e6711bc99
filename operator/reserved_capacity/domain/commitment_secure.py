"""`CommitmentSecure` of a ComputeUnitPool: what ends when, what follows, and what to do about it (api.md; M8).

It never makes Ready False: a planned expiry is not a fault. The message changes only when something is decided, or a notice
falls due, never with the hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from .conditions import ConditionValue, condition
from .expiry import ExpiryPlan, Outlook
from .notices import Notice, moment, newest_notice
from .reasons.pool import CommitmentSecure
from .terms import CommitmentOrder, CommitmentRecord, CommitmentState

_NAMED = 10  # how many commitments a message names before it only counts


@dataclass(frozen=True, slots=True)
class SecureFacts:
    """`orders` are those of the spec, by id; `expiry` is what has to stop, if anything has."""

    records: tuple[CommitmentRecord, ...] = ()
    orders: Mapping[str, CommitmentOrder] = field(default_factory=dict)
    ahead: Outlook = field(default_factory=Outlook)
    expiry: ExpiryPlan | None = None

    def in_term(self) -> list[CommitmentRecord]:
        """Commitments whose end is known and to come, the next one first."""
        begun = [each for each in self.records if not each.ended and each.term_end is not None]
        return sorted(begun, key=lambda each: (each.term_end, each.id))

    def lost(self) -> list[CommitmentRecord]:
        """Commitments of the spec that have ended, where what runs now does not make up for them."""
        left = self.ahead.contracted_cu
        return [each for each in self.records if each.ended and each.id in self.orders and left < each.ordered_cu]


def commitment_secure(seen: SecureFacts, now: datetime) -> ConditionValue:
    running, lost = seen.in_term(), seen.lost()
    states = {each.state for each in running}
    if CommitmentState.EXPIRING in states:
        reason = CommitmentSecure.EXPIRES_SOON
    elif lost:
        reason = CommitmentSecure.EXPIRED
    else:
        reason = CommitmentSecure.RENEWING if CommitmentState.RENEWING in states else CommitmentSecure.SECURE
    noticed = [f"{notice.message}, {_then(seen, each)}" for each in running if (notice := newest_notice(each, now))]
    gone = [f"commitment {each.id} ended at {moment(each.term_end)}" for each in lost if each.term_end is not None]
    parts = [*_named(gone), *_named(noticed or _later(running)), *_reductions(seen), _stops(seen), _next_step(reason)]
    return condition("CommitmentSecure", reason, "; ".join(part for part in parts if part))


def notices_told(seen: SecureFacts, now: datetime, before: str, after: str) -> list[tuple[Notice, bool]]:
    """Notices that the message `after` gives and `before` did not, each with whether the commitment renews."""
    due = [(notice, each) for each in seen.in_term() if (notice := newest_notice(each, now))]
    return [
        (notice, each.renews(seen.orders.get(each.id)))
        for notice, each in due
        if notice.message in after and notice.message not in before
    ]


def _then(seen: SecureFacts, record: CommitmentRecord) -> str:
    if record.state is CommitmentState.EXPIRING:
        return "and is not renewed"
    follows = "is followed by another term" if record.renews(seen.orders.get(record.id)) else "is not renewed"
    if record.state is CommitmentState.RENEWING or record.renewal_deadline is None:
        return f"and {follows} without a gap"
    return f"and {follows} unless its renewal.policy is changed by {moment(record.renewal_deadline)}"


def _later(running: list[CommitmentRecord]) -> list[str]:
    if not running:
        return ["no term is running, so none ends"]
    first = running[0]
    assert first.term_end is not None, "in_term gives those that have an end"  # noqa: S101
    return [f"the next end is that of commitment {first.id}, at {moment(first.term_end)}"]


def _reductions(seen: SecureFacts) -> list[str]:
    reduced = {each: fall for fall in seen.ahead.falls for each in fall.reduced}
    sizes = {each.id: each for each in seen.records}
    return [
        f"commitment {id_} is reduced to {sizes[id_].size_at(fall.at)} CU at {moment(fall.at)}"
        for id_, fall in sorted(reduced.items())
    ]


def _stops(seen: SecureFacts) -> str:
    plan = seen.expiry
    if plan is None:
        return ""
    stops = ", ".join(_named([f"{each.instances} of {each.instance}" for each in plan.stops]))
    return f"the rest of the pool does not hold all instances: from {moment(plan.at)} on {stops} stop"


def _next_step(reason: CommitmentSecure) -> str:
    match reason:
        case CommitmentSecure.EXPIRES_SOON:
            return "add a commitment to keep the capacity"
        case CommitmentSecure.EXPIRED:
            return "add a commitment to have the capacity again, or remove what has expired from spec.commitments"
        case _:
            return ""


def _named(parts: list[str]) -> list[str]:
    rest = len(parts) - _NAMED
    return parts[:_NAMED] + ([f"and {rest} more"] if rest > 0 else [])

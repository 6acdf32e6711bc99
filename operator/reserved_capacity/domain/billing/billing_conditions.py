"""What a pool says of its billing: conditions BillingCurrent and LedgerBalanced (api.md; behaviour.md M7, I5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from reserved_capacity.domain.billing.audit import Finding
from reserved_capacity.domain.conditions import ConditionValue, condition
from reserved_capacity.domain.reasons.pool import BillingCurrent, LedgerBalanced

BILLING_CONDITIONS: Final = frozenset({"BillingCurrent", "LedgerBalanced"})
ON_ITS_WAY: Final = timedelta(minutes=5)
"""Rows younger than that are on their way: every midnight makes some, and nobody is to be told each time."""


@dataclass(frozen=True, slots=True)
class BillingState:
    """How the account's rows are doing.

    `sink` is where they go, as it may be shown to a customer (no credentials), None when nothing is configured; `failure`
    what it said last, empty after a success. `oldest_due_at` is the moment at which the oldest of `unposted_days` fell due.
    `books_failure` says why the books cannot be read.
    """

    sink: str | None
    pending_rows: int = 0
    oldest_pending_at: datetime | None = None
    failure: str = ""
    unposted_days: int = 0
    oldest_due_at: datetime | None = None
    books_failure: str = ""


def billing_current(state: BillingState, *, now: datetime) -> ConditionValue:
    if state.books_failure:
        return _say(
            BillingCurrent.CATCHING_UP,
            f"the books cannot be read, days are posted as soon as they can: {state.books_failure}",
        )
    if state.unposted_days and _is_late(state.oldest_due_at, now):
        return _say(BillingCurrent.CATCHING_UP, f"{state.unposted_days} days are due and being posted")
    if state.sink is None:
        return _say(
            BillingCurrent.NO_SINK, "no billing system is configured, rows are kept: give the operator --billing-url"
        )
    if not state.pending_rows or not _is_late(state.oldest_pending_at, now):
        return _say(BillingCurrent.CURRENT, f"rows reach {state.sink} as they are posted")
    since = f"the oldest since {state.oldest_pending_at:%Y-%m-%dT%H:%M:%SZ}"
    if state.failure:
        return _say(
            BillingCurrent.SINK_UNAVAILABLE,
            f"{state.pending_rows} rows wait, {since}; {state.sink} says: {state.failure}; nothing is lost, they are sent "
            "when it accepts them",
        )
    return _say(BillingCurrent.CATCHING_UP, f"{state.pending_rows} rows are being delivered to {state.sink}, {since}")


def late_at(state: BillingState, *, now: datetime) -> datetime | None:
    """When BillingCurrent changes by itself unless something is posted or delivered before."""
    since = (
        state.oldest_due_at if state.unposted_days else None,
        state.oldest_pending_at if state.pending_rows and state.sink is not None else None,
    )
    return min((at + ON_ITS_WAY for at in since if at is not None and at + ON_ITS_WAY > now), default=None)


def ledger_balanced(findings: tuple[Finding, ...]) -> ConditionValue:
    """`findings` are those of all commitments of the pool; the first is named."""
    if not findings:
        return condition(
            "LedgerBalanced",
            LedgerBalanced.BALANCED,
            "debits equal credits, and every charged day has one charge of the contract's amount",
        )
    first, more = findings[0], len(findings) - 1
    others = f" and {more} more" if more else ""
    return condition(
        "LedgerBalanced",
        LedgerBalanced.MISMATCH,
        f"row {first.key}: {first.message}{others}; nothing more of this contract is reported to billing before a person has "
        "looked at `kubectl reserved ledger`",
    )


def _say(reason: BillingCurrent, message: str) -> ConditionValue:
    return condition("BillingCurrent", reason, message)


def _is_late(since: datetime | None, now: datetime) -> bool:
    return since is not None and now - since >= ON_ITS_WAY

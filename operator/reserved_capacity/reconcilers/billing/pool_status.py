"""What the books say, as a pool's status and conditions show it (api.md, ComputeUnitPool)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reserved_capacity.api.conditions import Condition
from reserved_capacity.api.poolstatus import Charged, CommitmentPrice, CommitmentStatus, PoolBilling
from reserved_capacity.domain.billing.audit import Finding
from reserved_capacity.domain.billing.billing_conditions import BILLING_CONDITIONS, billing_current, ledger_balanced
from reserved_capacity.domain.billing.summary import BillingSummary
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.reconcilers.billing.board import PoolBooks


def billing_status(summary: BillingSummary) -> PoolBilling:
    return PoolBilling(
        currency=summary.currency,
        per_day=summary.per_day,
        month_to_date=summary.month_to_date,
        idle_share=summary.idle_share,
        last_reported_day=summary.last_reported_day,
        pending_rows=summary.pending_rows,
    )


def with_billing(status: CommitmentStatus, summary: BillingSummary | None, books: PoolBooks | None) -> CommitmentStatus:
    """The books' prices and sums; of a renewal that they do not know yet, nothing of the term before."""
    found = [each for each in summary.commitments if each.commitment == status.id] if summary is not None else []
    known = books is not None and any(each.number == status.number for each in books.terms.get(status.id, ()))
    if not found or not known:
        return status
    (billing,) = found
    charged = Charged(days=billing.charged_days, amount=billing.charged, last_day=billing.last_day)
    return status.model_copy(
        update={
            "price": CommitmentPrice(ordered=billing.ordered, current=billing.current),
            "charged": charged if billing.charged_days else None,
        }
    )


def billing_conditions(
    books: PoolBooks | None, before: Sequence[Condition], now: datetime
) -> tuple[ConditionValue, ...]:
    """What was said `before` stands until the books have been read, and audited: a restart is no news (I8)."""
    if books is None:
        return _said_before(before)
    return (billing_current(books.state, now=now), *balanced(books.findings, before))


def balanced(findings: tuple[Finding, ...] | None, before: Sequence[Condition]) -> tuple[ConditionValue, ...]:
    """What the audit says; what was said `before`, if it has not been made yet."""
    if findings is None:
        return tuple(each for each in _said_before(before) if each.type == "LedgerBalanced")
    return (ledger_balanced(findings),)


def _said_before(before: Sequence[Condition]) -> tuple[ConditionValue, ...]:
    return tuple(
        ConditionValue(each.type, each.status, each.reason, each.message, each.last_transition_time)
        for each in before
        if each.type in BILLING_CONDITIONS
    )

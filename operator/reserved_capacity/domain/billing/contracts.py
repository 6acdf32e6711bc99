"""What was agreed: a contract is one term of one commitment, with the facts that its charges are computed from.

Facts are recorded once and never computed again (behaviour.md M1); what is learnt later (a lower list price, an agreed
reduction) is a dated fact of its own, so that a day gets the same price whenever it is computed (M3, M5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from reserved_capacity.domain.terms import Reduction, Term

__all__ = ["Contract", "Payment", "PriceSighting", "Reduction"]


class Payment(StrEnum):
    """When a commitment is paid."""

    MONTHLY = "Monthly"
    ANNUAL_PREPAID = "AnnualPrepaid"


@dataclass(frozen=True, slots=True)
class PriceSighting:
    """A list price of a price book, and when the operator first saw it: it lowers no day before the midnight after (M3)."""

    price_book: str
    term: Term
    effective_from: date
    per_cu_month: Decimal
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Contract:
    """One term of one commitment.

    `commitment` is the order reference, unique in the cluster; `number` 1 for the first term, 2 for the term that
    renews it, and so on. `billing_start` is the first charged UTC day, None until it is known; then it never changes.
    `namespace` and `pool` say where the object stands, or stood: the books outlive it (M9).
    """

    commitment: str
    number: int
    account: str
    namespace: str
    pool: str
    price_book: str
    currency: str
    compute_units: int
    term: Term
    payment: Payment
    ordered_price: Decimal
    accepted_at: datetime
    provision_by: date | None = None
    fully_provisioned_at: datetime | None = None
    first_provisioned_at: datetime | None = None
    billing_start: date | None = None
    reductions: tuple[Reduction, ...] = ()

    @property
    def end(self) -> date | None:
        """The day after the last charged day."""
        return self.billing_start + timedelta(days=self.term.days) if self.billing_start is not None else None

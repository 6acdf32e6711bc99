"""Between a commitment's record in a pool's status and its contracts in the books, both ways (ADR 0020; behaviour.md M1, M9).

The status is where a commitment's dates are made; the books are where they are kept. What the books have wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal

from reserved_capacity.domain.billing.contracts import Contract, Payment, Reduction
from reserved_capacity.domain.billing.pricing import PriceHistory, renewed
from reserved_capacity.domain.terms import RENEWAL_NOTICE, CommitmentOrder, CommitmentRecord, start_of


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a pool says of a commitment beyond its order: who pays, how, and at which ordered price."""

    account: str
    namespace: str
    pool: str
    price_book: str
    currency: str
    payment: Payment
    ordered_price: Decimal


def terms_of(
    record: CommitmentRecord, order: CommitmentOrder, agreed: Agreed, known: Sequence[Contract], history: PriceHistory
) -> tuple[Contract, ...]:
    """The terms of a commitment for the books: those that are `known` there, what the record adds to the present one, and
    those that have begun by renewal since (M8), each at the list price of its first day."""
    terms = list(known) or [_first(record, order, agreed)]
    while terms[-1].number < record.number:
        following = renewed(terms[-1], history, term=order.renewal_term)
        if following is None:
            break
        terms.append(following)
    return tuple(_completed(each, record) if each.number == record.number else each for each in terms)


def continued(record: CommitmentRecord | None, terms: Sequence[Contract]) -> CommitmentRecord | None:
    """The record as the books have it: a lost one is made anew, one from before the books' present term is brought up to
    it, and dates that the books have are theirs."""
    if not terms:
        return record
    last = terms[-1]
    if record is None:
        record = CommitmentRecord(
            last.commitment, terms[0].accepted_at, last.compute_units, ordered_cu=last.compute_units
        )
    if record.number > last.number:
        return record
    record = replace(
        record,
        number=last.number,
        accepted_at=terms[0].accepted_at,
        fully_provisioned_at=last.fully_provisioned_at or record.fully_provisioned_at,
        first_provisioned_at=last.first_provisioned_at or record.first_provisioned_at,
        reductions=last.reductions or record.reductions,
    )
    return _dated(record, last.billing_start, last.end)


def _first(record: CommitmentRecord, order: CommitmentOrder, agreed: Agreed) -> Contract:
    """The present term, of which the books know nothing: the first one, or one of a commitment whose books were lost."""
    renewal = record.number > 1
    return Contract(
        commitment=record.id,
        number=record.number,
        account=agreed.account,
        namespace=agreed.namespace,
        pool=agreed.pool,
        price_book=agreed.price_book,
        currency=agreed.currency,
        compute_units=record.ordered_cu or record.compute_units,
        term=(order.renewal_term or order.term) if renewal else order.term,
        payment=agreed.payment,
        ordered_price=agreed.ordered_price,
        accepted_at=record.billing_start if renewal and record.billing_start else record.accepted_at,
        provision_by=order.provision_by,
    )


def _completed(contract: Contract, record: CommitmentRecord) -> Contract:
    """Facts that the books do not have yet; those they have stay."""
    return replace(
        contract,
        fully_provisioned_at=contract.fully_provisioned_at or record.fully_provisioned_at,
        first_provisioned_at=contract.first_provisioned_at or record.first_provisioned_at,
        billing_start=contract.billing_start or _day(record.billing_start),
        reductions=tuple(dict.fromkeys((*contract.reductions, *_new_reductions(contract, record)))),
    )


def _new_reductions(contract: Contract, record: CommitmentRecord) -> list[Reduction]:
    known = {(each.at, each.compute_units) for each in contract.reductions}
    return [each for each in record.reductions if (each.at, each.compute_units) not in known]


def _dated(record: CommitmentRecord, start: date | None, end: date | None) -> CommitmentRecord:
    if start is None or end is None or record.billing_start == start_of(start):
        return record  # the same term: its end may have been brought forward by agreement, and stays so
    ends = start_of(end)
    return replace(record, billing_start=start_of(start), term_end=ends, renewal_deadline=ends - RENEWAL_NOTICE)


def _day(moment: datetime | None) -> date | None:
    return moment.astimezone(UTC).date() if moment is not None else None

"""Owns how the domain's values become rows of the database, and rows values again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from reserved_capacity.domain.billing.contracts import Contract, Payment, PriceSighting, Reduction
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Posting, Transaction
from reserved_capacity.domain.terms import Term
from reserved_capacity.domain.tokens.lots import Direction, Lot, LotCut, ReservationName
from reserved_capacity.domain.tokens.prices import UnitPrice
from reserved_capacity.ledger_ports import Entry, IssuedInvoice

LEARNT = ("provision_by", "fully_provisioned_at", "first_provisioned_at", "billing_start")
"""Fields of a contract that may be unknown at first, and are set once."""

KINDS = {str(kind): kind for kind in EntryKind}
BOOK_COLUMNS = tuple((book, f"{book}_minor") for book in Book)


def price_text(price: Decimal) -> str:
    """Equal prices are equal texts: 220.00 and 220 are both `220`."""
    text = format(price, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def contract_row(contract: Contract) -> dict[str, Any]:
    return {
        "commitment": contract.commitment,
        "number": contract.number,
        "account": contract.account,
        "namespace": contract.namespace,
        "pool": contract.pool,
        "price_book": contract.price_book,
        "currency": contract.currency,
        "compute_units": contract.compute_units,
        "term": str(contract.term),
        "payment": str(contract.payment),
        "ordered_price": price_text(contract.ordered_price),
        "accepted_at": contract.accepted_at,
        **learnt(contract),
    }


def learnt(contract: Contract) -> dict[str, Any]:
    """What is set once, and what follows from it."""
    last_day = contract.end - timedelta(days=1) if contract.end is not None else None
    return {**{name: getattr(contract, name) for name in LEARNT}, "last_day": last_day}


def contract(row: Row[Any], reductions: tuple[Reduction, ...]) -> Contract:
    return Contract(
        commitment=row.commitment,
        number=row.number,
        account=row.account,
        namespace=row.namespace,
        pool=row.pool,
        price_book=row.price_book,
        currency=row.currency,
        compute_units=row.compute_units,
        term=Term(row.term),
        payment=Payment(row.payment),
        ordered_price=Decimal(row.ordered_price),
        accepted_at=row.accepted_at,
        provision_by=row.provision_by,
        fully_provisioned_at=row.fully_provisioned_at,
        first_provisioned_at=row.first_provisioned_at,
        billing_start=row.billing_start,
        reductions=reductions,
    )


def sighting(row: Row[Any]) -> PriceSighting:
    return PriceSighting(row.price_book, Term(row.term), row.effective_from, Decimal(row.per_cu_month), row.seen_at)


def interval(row: Row[Any]) -> Interval:
    return Interval(
        row.namespace,
        row.pool,
        IntervalKind(row.kind),
        row.subject,
        row.owner,
        row.compute_units,
        row.since,
        row.until,
    )


def transaction_row(row: Transaction, number: int, posted_at: datetime) -> dict[str, Any]:
    sums = {posting.book: posting.minor for posting in row.postings}
    return {
        "contract": row.contract,
        "day": row.day,
        "kind": str(row.kind),
        "account": row.account,
        "number": number,
        "posted_at": posted_at,
        "currency": row.currency,
        "amount_minor": row.amount_minor,
        **{column: sums.get(book, 0) for book, column in BOOK_COLUMNS},
        "compute_units": row.compute_units,
        "price": row.price,
        "note": row.note,
        "token_units": row.token_units,
    }


def entry(row: Row[Any]) -> Entry:
    values = row._mapping
    postings = tuple(Posting(book, values[column]) for book, column in BOOK_COLUMNS if values[column])
    transaction = Transaction(
        contract=row.contract,
        account=row.account,
        day=row.day,
        kind=KINDS[row.kind],
        currency=row.currency,
        amount_minor=row.amount_minor,
        postings=postings,
        compute_units=row.compute_units,
        price=row.price,
        note=row.note,
        token_units=row.token_units,
    )
    return Entry(row.number, row.posted_at, transaction)


def lot_row(lot: Lot) -> dict[str, Any]:
    return {
        "id": lot.id,
        "number": lot.number,
        "direction": str(lot.direction),
        "account": lot.account,
        "namespace": lot.reservation.namespace,
        "reservation": lot.reservation.name,
        "offering": lot.offering,
        "price_book": lot.price_book,
        "currency": lot.currency,
        "units": lot.units,
        "unit_tpm": lot.unit_tpm,
        "minimum_days": lot.minimum_days,
        "ordered_price": price_text(lot.ordered_price),
        "purchased_at": lot.purchased_at,
        "billing_start": lot.billing_start,
    }


def lot(row: Row[Any], cuts: tuple[LotCut, ...]) -> Lot:
    return Lot(
        id=row.id,
        number=row.number,
        direction=Direction(row.direction),
        account=row.account,
        reservation=ReservationName(row.namespace, row.reservation),
        offering=row.offering,
        price_book=row.price_book,
        currency=row.currency,
        units=row.units,
        unit_tpm=row.unit_tpm,
        minimum_days=row.minimum_days,
        ordered_price=Decimal(row.ordered_price),
        purchased_at=row.purchased_at,
        billing_start=row.billing_start,
        cuts=cuts,
    )


def unit_price(row: Row[Any]) -> UnitPrice:
    return UnitPrice(
        row.price_book,
        row.offering,
        Direction(row.direction),
        row.effective_from,
        Decimal(row.per_unit_day),
        row.seen_at,
    )


def invoice(row: Row[Any]) -> IssuedInvoice:
    document = json.loads(row.document)
    return IssuedInvoice(row.number, row.account, row.currency, row.month, row.issued_at, document)

"""Contracts and what is on record of them, in short; everything left out is ordinary: 300 CU for a year at 220.00 USD."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from reserved_capacity.domain.billing.contracts import Contract, Payment, PriceSighting, Reduction
from reserved_capacity.domain.billing.intervals import Interval, IntervalKind
from reserved_capacity.domain.billing.ledger import Book, EntryKind, Transaction
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.terms import Term


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def on(text: str) -> date:
    return date.fromisoformat(text)


def contract(
    start: str | None = "2026-03-02",
    *,
    id_: str = "po-1",
    compute_units: int = 300,
    term: Term = Term.ONE_YEAR,
    payment: Payment = Payment.MONTHLY,
    price: str = "220.00",
    currency: str = "USD",
    accepted_at: str = "2026-02-20T09:00:00",
    reductions: tuple[Reduction, ...] = (),
) -> Contract:
    return Contract(
        commitment=id_,
        number=1,
        account="acme",
        namespace="acme",
        pool="prod",
        price_book="usd",
        currency=currency,
        compute_units=compute_units,
        term=term,
        payment=payment,
        ordered_price=Decimal(price),
        accepted_at=utc(accepted_at),
        billing_start=on(start) if start else None,
        reductions=reductions,
    )


def sighting(effective_from: str, price: str, seen_at: str, *, term: Term = Term.ONE_YEAR) -> PriceSighting:
    return PriceSighting("usd", term, on(effective_from), Decimal(price), utc(seen_at))


def seen(*prices: tuple[str, str, str], term: Term = Term.ONE_YEAR) -> PriceHistory:
    """Each (effective_from, price, seen_at)."""
    return PriceHistory([sighting(*price, term=term) for price in prices])


def reduction(at: str, compute_units: int, seen_at: str) -> Reduction:
    return Reduction(on(at), compute_units, utc(seen_at))


def provisioned(compute_units: int, since: str, until: str | None = None, *, commitment: str = "po-1") -> Interval:
    return Interval(
        "acme", "prod", IntervalKind.PROVISIONED, commitment, commitment, compute_units, utc(since), _maybe(until)
    )


def held(compute_units: int, since: str, until: str | None = None, *, member: str = "chat-0") -> Interval:
    return Interval("acme", "prod", IntervalKind.HELD, member, "chat", compute_units, utc(since), _maybe(until))


def _maybe(text: str | None) -> datetime | None:
    return utc(text) if text else None


def total(rows: tuple[Transaction, ...], kind: EntryKind = EntryKind.CHARGE) -> int:
    return sum(row.amount_minor for row in rows if row.kind is kind)


def balance(rows: tuple[Transaction, ...], book: Book) -> int:
    return sum(posting.minor for row in rows for posting in row.postings if posting.book is book)

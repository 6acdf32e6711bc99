"""May a pool's order be accepted? (api.md, ComputeUnitPool `Accepted`; behaviour.md M3 for the price.)

What concerns the whole pool stops every new commitment; what concerns one commitment stops that one. Commitments that
were accepted before stay so: a refusal changes nothing that runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from .reasons.pool import PoolAccepted
from .terms import CommitmentOrder, CommitmentRecord, RenewalPolicy, Term


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """One list price of a price book, per CU and month, in force from 00:00 UTC of `effective_from`."""

    term: Term
    effective_from: date
    per_cu_month: Decimal


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """A pool's order and the world that it refers to.

    `prices` None: the price book does not exist. `taken_ids` are commitments of other pools that come before this one.
    `schedule_error` says what is wrong with the maintenance window. `books_read` False: whether the books know one of these
    orders is not known yet, so none is accepted for the moment (M9).
    """

    accelerator_class: str
    class_exists: bool
    price_book: str
    prices: Sequence[PriceEntry] | None
    orders: Sequence[CommitmentOrder]
    accepted_ids: frozenset[str]
    taken_ids: Mapping[str, str]
    schedule_error: str = ""
    books_read: bool = True


@dataclass(frozen=True, slots=True)
class OrderRefusal:
    reason: PoolAccepted
    message: str


@dataclass(frozen=True, slots=True)
class OrderVerdict:
    """The ids that may be accepted today, each with its ordered price (M3), and the first refusal."""

    acceptable: Mapping[str, Decimal]
    refusal: OrderRefusal | None


def judge_order(facts: OrderFacts, *, today: date) -> OrderVerdict:
    """The verdict on a pool's order on the UTC day `today`."""
    refusal = _whole(facts)
    if refusal is not None:
        return OrderVerdict({}, refusal)
    acceptable: dict[str, Decimal] = {}
    for order in facts.orders:
        if order.id in facts.accepted_ids:
            refusal = refusal or _renewal(facts, order, today)
            continue
        single = _single(facts, order, today)
        if single is None:
            price = list_price(facts.prices or (), order.term, today)
            if price is not None and facts.books_read:
                acceptable[order.id] = price
        else:
            refusal = refusal or single
    return OrderVerdict(acceptable, refusal)


def renewal_prices(
    facts: OrderFacts, before: Sequence[CommitmentRecord], after: Sequence[CommitmentRecord]
) -> dict[str, Decimal]:
    """The ordered price of terms that have begun by renewal: the list price in force on their first day (M8)."""
    numbers = {record.id: record.number for record in before}
    prices = {}
    for record in after:
        term = record.term
        if term is None or record.billing_start is None or record.number <= numbers.get(record.id, record.number):
            continue
        price = list_price(facts.prices or (), term, record.billing_start.date())
        if price is not None:
            prices[record.id] = price
    return prices


def list_price(prices: Sequence[PriceEntry], term: Term, day: date) -> Decimal | None:
    """The price in force on a UTC day: the entry with the latest effectiveFrom that is not later (M3)."""
    effective = [entry for entry in prices if entry.term is term and entry.effective_from <= day]
    return max(effective, key=lambda entry: entry.effective_from).per_cu_month if effective else None


def _whole(facts: OrderFacts) -> OrderRefusal | None:
    if not facts.class_exists:
        return OrderRefusal(
            PoolAccepted.UNKNOWN_ACCELERATOR_CLASS,
            f"there is no AcceleratorClass {facts.accelerator_class!r}: create it, or make the pool anew with another "
            "one, since spec.acceleratorClass is immutable",
        )
    if facts.prices is None:
        return OrderRefusal(
            PoolAccepted.UNKNOWN_PRICE_BOOK,
            f"there is no PriceBook {facts.price_book!r}: create it, or make the pool anew with another one, since "
            "spec.priceBookRef is immutable",
        )
    if facts.schedule_error:
        return OrderRefusal(
            PoolAccepted.INVALID_SCHEDULE,
            f"spec.maintenanceWindow.schedule never comes due ({facts.schedule_error}), so no rollout begins: give five "
            "cron fields in UTC, for example '0 2 * * 6'",
        )
    return None


def _renewal(facts: OrderFacts, order: CommitmentOrder, today: date) -> OrderRefusal | None:
    """Another term is asked for: there must be a price for it before it begins."""
    term = order.renewal_term or order.term
    ends = order.renewal is RenewalPolicy.EXPIRE or any(not each.compute_units for each in order.amendments)
    if ends or list_price(facts.prices or (), term, today) is not None:
        return None
    return OrderRefusal(
        PoolAccepted.PRICE_MISSING,
        f"PriceBook {facts.price_book} has no price for {term} in force on {today}, which the renewal of commitment "
        f"{order.id} needs: append an entry to its spec.computeUnits; until then it would renew at its present price",
    )


def _single(facts: OrderFacts, order: CommitmentOrder, today: date) -> OrderRefusal | None:
    if order.id in facts.taken_ids:
        return OrderRefusal(
            PoolAccepted.DUPLICATE_COMMITMENT,
            f"commitment {order.id} already belongs to pool {facts.taken_ids[order.id]}: give this one an order "
            "reference of its own",
        )
    if list_price(facts.prices or (), order.term, today) is None:
        return OrderRefusal(
            PoolAccepted.PRICE_MISSING,
            f"PriceBook {facts.price_book} has no price for {order.term} in force on {today}, which commitment "
            f"{order.id} needs: append an entry to its spec.computeUnits",
        )
    return None

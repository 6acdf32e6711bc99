"""Tells the books what a pool's status says, and reads out what they say of it (ADR 0020; behaviour.md M1, M3, M8, M9).

What the books have on record wins: a status that was lost, or is an older copy, is continued from there. Whatever cannot be
written now is written by the next pass, from the same objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.domain.billing.agreements import Agreed, terms_of
from reserved_capacity.domain.billing.billing_conditions import late_at
from reserved_capacity.domain.billing.contracts import Contract, PriceSighting
from reserved_capacity.domain.billing.history import Presence
from reserved_capacity.domain.billing.intervals import IntervalKind
from reserved_capacity.domain.billing.pricing import PriceHistory
from reserved_capacity.domain.notices import notices_of
from reserved_capacity.domain.terms import midnight_after
from reserved_capacity.domain.units import cu_of
from reserved_capacity.ledger_ports import Ledger, LedgerError, Notice, PoolName
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, PRICE_BOOKS, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing.board import CLOSE, DELIVERY, Billing, PoolBooks
from reserved_capacity.reconcilers.billing.reading import Reading, read_books, unreadable
from reserved_capacity.reconcilers.context import POOL, Context
from reserved_capacity.snapshot import commitment_records, holdings_of, parse_pool
from reserved_capacity.snapshot.pool_world import commitment_orders

LONGEST_BOOKS_FAILURE = 200  # of a database's own words, in a condition's message


async def reconcile(context: Context, billing: Billing, key: Key) -> datetime | None:
    """Returns when the pool's billing conditions change by themselves."""
    place, ref = PoolName(key.namespace, key.name), Ref(COMPUTE_UNIT_POOLS, key.namespace, key.name)
    observed = context.store.get(ref)
    if observed is None:
        billing.books.forget(place)
        await billing.ledger.observe(place, (), context.clock.now())
        return None
    pool = parse_pool(context.store, observed)
    now = context.clock.now()
    before = billing.books.of(place)
    try:
        reading = await _agree(context, billing, pool, now)
    except LedgerError as error:
        _post(context, billing, place, unreadable(before, billing, str(error)[:LONGEST_BOOKS_FAILURE]))
        raise
    if reading.released:
        context.enqueue(Key(DELIVERY, "", pool.spec.account))
    if reading.awaits_close:
        context.enqueue(Key(CLOSE, "", ""))
        if before is not None:
            return None
    _post(context, billing, place, reading.books)
    midnight = midnight_after(now)
    return min(midnight, late_at(reading.books.state, now=now) or midnight)


def _post(context: Context, billing: Billing, place: PoolName, reading: PoolBooks) -> None:
    if billing.books.post(place, reading):
        context.enqueue(Key(POOL, place.namespace, place.name))


async def _agree(context: Context, billing: Billing, pool: ComputeUnitPool, now: datetime) -> Reading:
    ledger = billing.ledger
    known = await _known(ledger, pool)
    book = context.store.parsed(Ref(PRICE_BOOKS, "", pool.spec.price_book_ref), PriceBook)
    if book is not None:
        await ledger.record_sightings(_sightings(book, _not_before(known, now)))
    history = PriceHistory(await ledger.sightings(pool.spec.price_book_ref))
    terms = await _registered(ledger, pool, book.spec.currency, known, history) if book is not None else known
    await ledger.observe(PoolName(pool.namespace, pool.name), _present(pool), now)
    if await ledger.announce(_notices(pool, now), now=now):
        context.enqueue(Key(DELIVERY, "", pool.spec.account))
    return await read_books(billing, pool, terms, history, now)


async def _known(ledger: Ledger, pool: ComputeUnitPool) -> dict[str, tuple[Contract, ...]]:
    """The terms in the books of every commitment that the pool names, whoever agreed on them."""
    names = dict.fromkeys(
        [*(each.id for each in pool.spec.commitments), *(each.id for each in pool.status.commitments)]
    )
    return {name: await ledger.contracts(commitment=name) for name in names}


async def _registered(
    ledger: Ledger,
    pool: ComputeUnitPool,
    currency: str,
    known: Mapping[str, tuple[Contract, ...]],
    history: PriceHistory,
) -> dict[str, tuple[Contract, ...]]:
    """The same with what the pool's status adds. A commitment that belongs to another account is none of this pool's."""
    orders = {order.id: order for order in commitment_orders(pool)}
    result = dict(known)
    for record in commitment_records(pool):
        order, price = orders.get(record.id), _ordered_price(pool, record.id)
        if order is None or price is None or any(each.account != pool.spec.account for each in known[record.id]):
            continue
        commitment = pool.spec.commitment(record.id)
        assert commitment is not None, "orders are read from the spec"  # noqa: S101
        agreed = Agreed(
            pool.spec.account, pool.namespace, pool.name, pool.spec.price_book_ref, currency, commitment.payment, price
        )
        terms = terms_of(record, order, agreed, known[record.id], history)
        if terms != known[record.id]:
            result[record.id] = await ledger.register(terms)
    return result


def _ordered_price(pool: ComputeUnitPool, commitment: str) -> Decimal | None:
    status = pool.status.commitment(commitment)
    return status.price.ordered if status is not None else None


def _not_before(known: Mapping[str, tuple[Contract, ...]], now: datetime) -> datetime:
    """`now`, but for a clock that has jumped back behind the beginning of a term: nothing was seen before that."""
    starts = [each.accepted_at for several in known.values() for each in several]
    return max([now, *starts])


def _notices(pool: ComputeUnitPool, now: datetime) -> list[Notice]:
    """Every notice that is due, under a key of its own: billing hears each once (M8)."""
    return [
        Notice(
            id=each.key,
            account=pool.spec.account,
            contract=each.commitment,
            data={
                "account": pool.spec.account,
                "commitment": each.commitment,
                "day": each.at.astimezone(UTC).date().isoformat(),
                "kind": "Notice",
                "message": each.message,
                "endsAt": f"{each.ends_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            },
        )
        for record in commitment_records(pool)
        for each in notices_of(record)
        if each.at <= now and not record.ended
    ]


def _sightings(book: PriceBook, now: datetime) -> list[PriceSighting]:
    return [
        PriceSighting(book.name, each.term, each.effective_from, each.price_per_compute_unit_month, now)
        for each in book.spec.compute_units
    ]


def _present(pool: ComputeUnitPool) -> list[Presence]:
    """Who has CU of the pool now: members by the allocation record, commitments by what is claimed for them, be it 0."""
    held = [
        Presence(IntervalKind.HELD, each.member, each.instance, cu_of(each.blocks), each.since)
        for each in holdings_of(pool)
    ]
    provisioned = [
        Presence(IntervalKind.PROVISIONED, each.id, each.id, each.provisioned_cu)
        for each in commitment_records(pool)
        if not each.ended
    ]
    return [*held, *provisioned]

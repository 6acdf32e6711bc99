"""Gather, plan, apply: one module for each kind, and the table by which the loop finds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial

from reserved_capacity.ports import NO_COUNTERS, Clock, Cluster, Counters
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers import capacity, catalogue, instance, pool
from reserved_capacity.reconcilers.billing import agreements, close, delivery
from reserved_capacity.reconcilers.billing.board import AGREEMENTS, CLOSE, DELIVERY, Billing
from reserved_capacity.reconcilers.context import (
    CAPACITY,
    INSTANCE,
    LIMITS,
    OFFERING,
    POOL,
    PRICE_BOOK,
    TOKENS,
    USAGE,
    Context,
)
from reserved_capacity.reconcilers.throughput import ThroughputMeter
from reserved_capacity.reconcilers.tokens import limits, reservation
from reserved_capacity.reconcilers.tokens.usage import UsageMeter
from reserved_capacity.settings import DEFAULT_NAMESPACE, DEFAULT_PULL_IMAGE
from reserved_capacity.store import Store

Reconciler = Callable[[Key], Awaitable[datetime | None]]


CROWDS = frozenset({INSTANCE, TOKENS})
"""Of what there may be thousands, while few decide for them."""

STANDING = (Key(CLOSE, "", ""), Key(USAGE, "", ""))
"""What is to be done whatever objects there are."""


def build(  # noqa: PLR0913 - the composition root's own: what every process gives, and what one alone was told
    cluster: Cluster,
    store: Store,
    clock: Clock,
    enqueue: Callable[[Key], None],
    billing: Billing | None = None,
    namespace: str = DEFAULT_NAMESPACE,
    *,
    counters: Counters = NO_COUNTERS,
    pull_image: str = DEFAULT_PULL_IMAGE,
) -> Mapping[str, Reconciler]:
    """Every reconciler by the name that keys carry. `enqueue` wakes a key for a reason that no object shows; `namespace` is
    the operator's own."""
    meter = ThroughputMeter(counters.servers, clock) if counters.servers is not None else None
    context = Context(cluster, store, clock, enqueue, billing, namespace, meter, pull_image)
    return {
        **_billing(context),
        CAPACITY: partial(capacity.reconcile, context),
        POOL: partial(pool.reconcile, context),
        INSTANCE: partial(instance.reconcile, context),
        OFFERING: partial(catalogue.reconcile_offering, context),
        PRICE_BOOK: partial(catalogue.reconcile_price_book, context),
        LIMITS: partial(limits.reconcile, context),
        USAGE: partial(UsageMeter(counters.gateways).reconcile, context) if counters.gateways is not None else _nothing,
    }


def _billing(context: Context) -> Mapping[str, Reconciler]:
    billing = context.billing
    if billing is None:
        return dict.fromkeys((AGREEMENTS, CLOSE, DELIVERY, TOKENS), _nothing)
    return {
        AGREEMENTS: partial(agreements.reconcile, context, billing),
        CLOSE: partial(close.reconcile, context, billing),
        DELIVERY: partial(delivery.reconcile, context, billing),
        TOKENS: partial(reservation.reconcile, context, billing),
    }


async def _nothing(_key: Key) -> None:
    """No books are kept, or nobody counts."""

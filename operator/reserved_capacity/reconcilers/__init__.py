"""Gather, plan, apply: one module for each kind, and the table by which the loop finds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial

from reserved_capacity.ports import Clock, Cluster
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers import capacity, catalogue, instance, pool
from reserved_capacity.reconcilers.context import CAPACITY, INSTANCE, OFFERING, POOL, PRICE_BOOK, TOKENS, Context
from reserved_capacity.store import Store

Reconciler = Callable[[Key], Awaitable[datetime | None]]


def build(cluster: Cluster, store: Store, clock: Clock, enqueue: Callable[[Key], None]) -> Mapping[str, Reconciler]:
    """Every reconciler by the name that keys carry. `enqueue` wakes a key for a reason that no object shows."""
    context = Context(cluster, store, clock, enqueue)
    return {
        CAPACITY: partial(capacity.reconcile, context),
        POOL: partial(pool.reconcile, context),
        INSTANCE: partial(instance.reconcile, context),
        OFFERING: partial(catalogue.reconcile_offering, context),
        PRICE_BOOK: partial(catalogue.reconcile_price_book, context),
        TOKENS: partial(catalogue.reconcile_tokens, context),
    }

"""Deliver what billing has not heard of, account by account and in order (behaviour.md M7).

Events are marked only after billing has confirmed them, and asked for again from the first one that is not marked. So a
crash, or a lost answer, at any point sends some of them again, under the same ids and in the same order, and skips none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reserved_capacity.ledger_ports import BillingSink, Event, Outbox, SinkError, SinkRefused
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, TOKEN_UNIT_RESERVATIONS, Clock
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing.board import AGREEMENTS, Billing
from reserved_capacity.reconcilers.context import TOKENS, Context

BATCH = 100
CLAIM_SECONDS = 90.0
"""Longer than one delivery with all its attempts takes."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one turn has done. `more`: come again at once; `busy`: another operator is at it, come again when its claim has
    run out."""

    delivered: int = 0
    more: bool = False
    busy: bool = False


async def reconcile(context: Context, billing: Billing, key: Key) -> datetime | None:
    """One batch of the account that the key names; the pools and reservations of the account are told when there is no more, or why not."""
    account = key.name
    if billing.sink is None:
        _tell(context, account)
        return None
    try:
        done = await deliver(billing.ledger, billing.sink, account, owner=billing.owner, clock=context.clock)
    except SinkError as error:
        billing.lagging(await billing.ledger.backlog())
        if billing.books.failed(account, str(error)):
            _tell(context, account)
        raise
    if done.busy:
        return context.clock.now() + timedelta(seconds=CLAIM_SECONDS)
    if done.more:
        context.enqueue(key)
        return None
    billing.books.failed(account, "")
    billing.lagging(await billing.ledger.backlog())
    _tell(context, account)
    return None


def _tell(context: Context, account: str) -> None:
    for resource, reconciler in ((COMPUTE_UNIT_POOLS, AGREEMENTS), (TOKEN_UNIT_RESERVATIONS, TOKENS)):
        for obj in context.store.all(resource):
            if obj["spec"]["account"] == account:
                context.enqueue(Key(reconciler, obj["metadata"]["namespace"], obj["metadata"]["name"]))


async def deliver(
    outbox: Outbox, sink: BillingSink, account: str, *, owner: str, clock: Clock, limit: int = BATCH
) -> Delivery:
    """One batch of an account. Raises what the ports raise: SinkRefused if billing does not take the first event, which
    then holds up its account, since nothing may be left out and the order is promised."""
    if not await outbox.claim(account, owner, now=clock.now(), seconds=CLAIM_SECONDS):
        return Delivery(busy=True)
    events = await outbox.pending(account, limit)
    if not events:
        return Delivery()
    taken = await _send(sink, events)
    await outbox.delivered(taken)
    return Delivery(len(taken), more=len(taken) < len(events) or len(events) == limit)


async def _send(sink: BillingSink, events: Sequence[Event]) -> Sequence[Event]:
    """The events that billing has confirmed: all, or so many of the first as it takes. Raises only when these are none:
    whatever gets on at all is not slowed down by what fails on the way."""
    while True:
        try:
            await sink.deliver(events)
        except SinkError as error:
            if error.taken:
                return events[: error.taken]
            if len(events) == 1 or not isinstance(error, SinkRefused):
                raise
            events = events[: len(events) // 2]
        else:
            return events

"""Looks every minute at what the gateways have counted, and tells the reservations (ADR 0052).

One turn for all offerings, so that a Prometheus that hangs keeps one worker and no more; limits and money do not wait for
it. A reservation hears of what is new, and its own turn writes it with the rest of its status.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.tokens.entitlement import total
from reserved_capacity.gateway.usage import Readings, Usage, Window, account_uses, aged, usage_of
from reserved_capacity.ports import MODEL_OFFERINGS, GatewayCounters
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.context import TOKENS, Context
from reserved_capacity.snapshot.parsing import parse_offering
from reserved_capacity.snapshot.tokens import rate_of, reservations_of

_Found = dict[tuple[str, str], Usage]

SETTLING: Final = timedelta(seconds=5)
"""What was scraped before the minute's end is there by then."""
AGED_AFTER: Final = timedelta(minutes=5)
"""A Prometheus that is started anew is not worth a write to every reservation, and another one when it is back."""


@dataclass(slots=True)
class UsageMeter:
    """`_ends` are, by offering, the ends of the last windows that were measured, or of the first that was not."""

    gateways: GatewayCounters
    _ends: dict[str, datetime] = field(default_factory=dict)

    async def reconcile(self, context: Context, _key: Key) -> datetime:
        """Returns when the next minute has been counted."""
        now = context.clock.now()
        # The development clock is ahead of real time, in which Prometheus lives.
        window = Window.before(now - (context.clock.recorded(now) - now))
        found: _Found = {}
        answers = True
        for offering, reservations in _sold(context):
            readings = await self.gateways.read(offering.name, window) if answers else None
            answers = answers and readings is not None
            if readings is not None and readings.measured:
                self._ends[offering.name] = window.end
                found |= await _measured(context, offering, reservations, readings, window)
            else:
                found |= self._unmeasured(context, offering, reservations, window)
        for place in context.usage.post(found):
            context.enqueue(Key(TOKENS, *place))
        minute = now.replace(second=0, microsecond=0)
        next_look = minute + SETTLING
        return next_look if next_look > now else next_look + timedelta(minutes=1)

    def _unmeasured(
        self, context: Context, offering: ModelOffering, reservations: tuple[TokenUnitReservation, ...], window: Window
    ) -> _Found:
        """What was measured last stays, and after a while it says how old it is."""
        end = self._ends.setdefault(offering.name, window.end)
        found: _Found = {}
        for each in reservations:
            usage = context.usage.of(each.namespace, each.name) or _shown(each)
            if usage is not None:
                old = window.end - end >= AGED_AFTER
                found[each.namespace, each.name] = aged(usage, context.clock.recorded(end)) if old else usage
        return found


def _sold(context: Context) -> list[tuple[ModelOffering, tuple[TokenUnitReservation, ...]]]:
    """Offerings of which somebody has units, by name. Who is not accepted has no lots, and uses none."""
    found = []
    for obj in sorted(context.store.all(MODEL_OFFERINGS), key=lambda each: str(each["metadata"]["name"])):
        offering = parse_offering(context.store, obj["metadata"]["name"])
        if offering is None or offering.spec.token_units is None:
            continue
        reservations = tuple(each for each in reservations_of(context.store, offering.name) if each.status.lots)
        if reservations:
            found.append((offering, reservations))
    return found


async def _measured(
    context: Context,
    offering: ModelOffering,
    reservations: tuple[TokenUnitReservation, ...],
    readings: Readings,
    window: Window,
) -> _Found:
    units = offering.spec.token_units
    weight = units.cached_input_weight if units is not None else Decimal(1)
    found: _Found = {}
    accounts = sorted({each.spec.account for each in reservations})
    uses = await asyncio.to_thread(account_uses, readings, accounts, weight)
    for account in accounts:
        own = [each for each in reservations if each.spec.account == account]
        usage = usage_of(uses[account], total(rate_of(each.status.entitlement) for each in own), window)
        if usage.peak_minute is not None:
            usage = replace(usage, peak_minute=context.clock.recorded(usage.peak_minute))
        found |= dict.fromkeys(((each.namespace, each.name) for each in own), usage)
    return found


def _shown(reservation: TokenUnitReservation) -> Usage | None:
    """What its status says, by this process or one before it."""
    shown = reservation.status.usage
    if shown is None:
        return None
    return Usage(
        shown.window or "",
        shown.input_utilization,
        shown.output_utilization,
        shown.peak_minute,
        shown.spilled_requests,
        shown.rejected_requests,
    )

"""Plans one offering's token units: what the fleet has to carry, what of it counts, and the limits that follow (T3, T4).

The order is the rule: the fleet is asked to grow, what it carries by now is granted and published in one write, and only
then the fleet may shrink. A reservation is told what was read back, never what was meant to be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.terms import midnight_after
from reserved_capacity.domain.tokens.backing import (
    NO_FLEET,
    BackingPlan,
    Claim,
    SnapshotFleet,
    granted_rates,
    plan_backing,
)
from reserved_capacity.domain.tokens.entitlement import TokenRate, total
from reserved_capacity.domain.tokens.limits import AccountLimit, ActiveUnits, account_limits, base_of
from reserved_capacity.domain.tokens.lots import ReservationName
from reserved_capacity.domain.tokens.token_conditions import capacity_backed, limit_published
from reserved_capacity.ports import ApiError
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.context import TOKENS, Context, precondition_of
from reserved_capacity.reconcilers.tokens import fleet, leaving, policies, record
from reserved_capacity.reconcilers.tokens.board import AccountRate, BackedBy, Finding
from reserved_capacity.snapshot.fleet import FleetWorld, PoolRoom, fleet_report, fleet_world, sizes
from reserved_capacity.snapshot.parsing import parse_offering
from reserved_capacity.snapshot.tokens import base_rates, claims_of_reservation, reservations_of, snapshot_fleets

LOOK_AGAIN: Final = timedelta(minutes=5)
"""How long a ConfigMap that somebody has changed or deleted stays so: it is not watched."""


@dataclass(frozen=True, slots=True)
class _Plan:
    world: FleetWorld
    reservations: Sequence[TokenUnitReservation]
    claims: Sequence[Claim]
    fleets: Mapping[str, SnapshotFleet]
    backing: BackingPlan
    limits: tuple[AccountLimit, ...]
    leaving: bool


async def reconcile(context: Context, key: Key) -> datetime | None:
    """Returns when the published limits are looked at again."""
    offering = parse_offering(context.store, key.name)
    if offering is None or offering.spec.token_units is None:
        await _unpublish(context, key.name)
        _post(context, key.name, {})
        return None
    world = fleet_world(context.store, offering)
    try:
        read = await record.read(context, offering.name)
        plan = await _plan(context, world, read)
        wanted = sizes(world, plan.backing.sold, plan.fleets)
        await fleet.grow(context, world, wanted)
        revision = await record.write(context, read, plan.limits, plan.backing.grants)
        told = await policies.publish(context, offering, plan.limits)
    except ApiError as error:
        # What counted goes on counting: the gateway has it. Nothing that is new begins to.
        _post_failure(context, offering.name, str(error))
        raise
    published = told or limit_published(None, revision, _place(context, offering.name))
    _post(context, offering.name, _findings(plan, revision, published))
    now = context.clock.now()
    if published.status is not ConditionStatus.TRUE:
        # Until the gateway has the limit, what carries the one before it stays.
        return now + policies.ASK_AGAIN
    await fleet.shrink(context, world, plan.backing.sold, wanted)
    again = now + (LOOK_AGAIN if told is None else policies.LOOK_AT_GATEWAY)
    return min(again, midnight_after(now)) if plan.leaving else again


async def _plan(context: Context, world: FleetWorld, read: record.Record) -> _Plan:
    by_name = {
        ReservationName(each.namespace, each.name): each for each in reservations_of(context.store, world.offering.name)
    }
    gone = await leaving.find(context, world.offering, read, by_name.keys(), context.clock.now())
    claims = [*(claim for each in by_name.values() for claim in claims_of_reservation(each)), *gone.claims]
    fleets = snapshot_fleets(world.offering, world.instances)
    backing = plan_backing(claims, read.grants or (), fleets)
    terms = {**gone.terms, **{name: _terms(each) for name, each in by_name.items()}}
    active = [
        replace(terms[name], snapshot=snapshot, rate=rate)
        for (name, snapshot), rate in granted_rates(claims, backing).items()
    ]
    limits = account_limits(base_rates(world.offering), active)
    return _Plan(world, tuple(by_name.values()), claims, fleets, backing, limits, bool(gone.claims))


def _terms(reservation: TokenUnitReservation) -> ActiveUnits:
    spec = reservation.spec
    name = ReservationName(reservation.namespace, reservation.name)
    return ActiveUnits(spec.account, name, spec.snapshot, TokenRate(), spec.overflow, spec.enforcement)


def _findings(plan: _Plan, revision: int, published: ConditionValue) -> dict[tuple[str, str], Finding]:
    confirmed = published.status is ConditionStatus.TRUE
    by_account = {each.account: each for each in plan.limits}
    bases, room = base_rates(plan.world.offering), _room(plan.world)
    found = {}
    for each in plan.reservations:
        name = ReservationName(each.namespace, each.name)
        own = [claim for claim in plan.claims if claim.reservation == name]
        limit = by_account.get(each.spec.account)
        fallback = base_of(bases, each.spec.account)
        sold = plan.backing.sold.get(each.spec.snapshot, TokenRate())
        report = fleet_report(plan.world, each.spec.snapshot, sold, plan.fleets.get(each.spec.snapshot), room)
        counting = frozenset(claim.id for claim in own if plan.backing.snapshot_of(claim) is not None)
        found[each.namespace, each.name] = Finding(
            account=AccountRate(limit.base if limit else fallback, limit.added if limit else TokenRate()),
            weighed=frozenset(claim.id for claim in own),
            counting=counting if confirmed else frozenset(),
            revision=revision,
            backed=capacity_backed(
                report if own else None,
                carried=all(plan.backing.carries(claim) for claim in own),
                started=bool(counting),
            ),
            published=published,
            backing=_backing(plan, own, report.instance),
        )
    return found


def _room(world: FleetWorld) -> PoolRoom:
    if world.pool is None:
        return PoolRoom()
    units = world.pool.status.compute_units
    return PoolRoom(units.idle, units.usable)


def _backing(plan: _Plan, own: Sequence[Claim], instance: str) -> BackedBy | None:
    counting = [claim for claim in own if plan.backing.carries(claim)]
    if not counting:
        return None
    fleet_of = plan.fleets.get(counting[0].snapshot, NO_FLEET)
    return BackedBy(instance, fleet_of.share(total(claim.rate for claim in counting), plan.world.cu_per_instance))


def _post(context: Context, offering: str, findings: Mapping[tuple[str, str], Finding]) -> None:
    for namespace, name in sorted(context.limits.post(offering, findings)):
        context.enqueue(Key(TOKENS, namespace, name))


def _post_failure(context: Context, offering: str, failure: str) -> None:
    """The last findings, and that the limits cannot be written; of a new reservation nothing is known."""
    published = limit_published(failure, None, _place(context, offering))
    before = {
        (each.namespace, each.name): context.limits.of(offering, each.namespace, each.name)
        for each in reservations_of(context.store, offering)
    }
    _post(
        context,
        offering,
        {place: replace(finding, published=published) for place, finding in before.items() if finding is not None},
    )


def _place(context: Context, offering: str) -> str:
    ref = record.limits_ref(context, offering)
    return f"ConfigMap {ref.namespace}/{ref.name}"


async def _unpublish(context: Context, offering: str) -> None:
    """The offering is gone, or is not sold by the token any more (which its references forbid): so are its limits."""
    ref = record.limits_ref(context, offering)
    live = await context.cluster.get(ref)
    if live is not None and record.is_ours(live):
        await context.cluster.delete(ref, precondition_of(live))
    await policies.remove(context, offering)

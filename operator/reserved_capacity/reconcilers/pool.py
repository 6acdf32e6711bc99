"""Reconciles a ComputeUnitPool: accepts its order, decides who holds its blocks, and reports.

The allocation record (holdings, and the dates of commitments) and the report go out in one write with the pool's
resourceVersion, before any child is touched; so a crash leaves capacity over-reserved, never double-used. Nobody else
writes a pool's status.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.conditions import ConditionType
from reserved_capacity.api.poolstatus import ComputeUnitPoolStatus
from reserved_capacity.domain.commitment_secure import notices_told
from reserved_capacity.domain.downtime import NodeHealth
from reserved_capacity.domain.holdings import Wait, Waiting
from reserved_capacity.domain.nodes import failure_time
from reserved_capacity.domain.pool_plan import PoolPlan, plan_pool
from reserved_capacity.domain.releases import spare_members
from reserved_capacity.ledger_ports import PoolName
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    ENDPOINT_SLICES,
    EVENTS,
    MODEL_INSTANCES,
    NODES,
    PODS,
    STATEFUL_SETS,
    ApiError,
    Conflict,
    JsonObject,
    Ref,
)
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers import events
from reserved_capacity.reconcilers.context import CAPACITY, INSTANCE, Assessment, Context
from reserved_capacity.reconcilers.pool_report import PoolReport, status_of
from reserved_capacity.snapshot import (
    ailing_conditions,
    conditions_of,
    holdings_of,
    parse_class,
    parse_pool,
    pods_of_member,
    ready_members,
    repair_rules,
)
from reserved_capacity.snapshot.pool_world import PoolView, view_pool

_SECURE = ConditionType.COMMITMENT_SECURE.value


async def reconcile(context: Context, key: Key) -> datetime | None:
    """Returns when something about the pool changes by itself."""
    ref = Ref(COMPUTE_UNIT_POOLS, key.namespace, key.name)
    pool = _living(context, ref)
    if pool is not None:
        await _list_members_of_lost_record(context, pool)
        gone = await _confirmed_gone(context, pool)
        async with context.domain(pool.spec.accelerator_class):
            # Read anew: what is planned on is what is there once nobody else plans in this class.
            pool = _living(context, ref)
            if pool is not None:
                return await _plan_and_publish(context, key, pool, _still_gone(pool, gone))
    _post(context, key, {})
    context.board.want(key.namespace, key.name, ())
    return None


async def _confirm_releases(context: Context, view: PoolView, plan: PoolPlan) -> None:
    """Nothing that serves is stopped on an old view of who is there and what is asked for, be it by the instance or by
    others of its offering (C5, C6), nor of how its nodes are (N1: a process that was frozen knows the time before it
    knows the news): look again just before."""
    held = {holding.member for holding in holdings_of(view.pool) if holding.held}
    released = [each for each in plan.holdings.holdings if not each.held and each.member in held]
    leaving = {each.instance for each in released}
    offerings = {each.spec.offering for each in view.instances if each.name in leaving}
    asked = leaving | {each.name for each in view.instances if each.spec.offering in offerings}
    refs = [Ref(MODEL_INSTANCES, view.pool.namespace, name) for name in sorted(asked)]
    refs += [Ref(NODES, "", name) for name in sorted({name for each in released for name in each.nodes})]
    # All of them before the first is asked for: the store may learn of the others meanwhile.
    planned_on = [(ref, context.store.get(ref)) for ref in refs]
    for ref, known in planned_on:
        live = await context.cluster.get(ref)
        told = _health if ref.resource == NODES else _intent
        if told(live) != told(known):
            raise Conflict(f"{ref} is not what the release of members was planned on")
    rolling = {each.instance for each in (*view.world.rollouts, *plan.rollouts.records) if each.moving}
    moving = {each.instance for each in holdings_of(view.pool) if each.replaces}
    if not leaving.isdisjoint(rolling | moving):
        await _confirm_who_serves(context, view, asked, {each.member for each in released})


async def _confirm_who_serves(context: Context, view: PoolView, instances: set[str], released: set[str]) -> None:
    """A member that moves is stopped because enough others serve, or because it does not itself (S2, S5, N3): ask whether
    it is still so, not when they were last heard of."""
    for name in sorted(instances):
        namespace = view.pool.namespace
        selector = f"{meta.INSTANCE_LABEL}={name}"
        listing = await context.cluster.list(ENDPOINT_SLICES, namespace=namespace, label_selector=selector)
        for obj in listing.items:
            context.store.observe(ENDPOINT_SLICES, obj)
        mine = {each.member for each in holdings_of(view.pool) if each.instance == name}
        planned_on, live = mine & view.world.available, ready_members(context.store, namespace, name)
        changed = (planned_on - live) | (live & released - planned_on)
        if changed and not any(each.name == name and each.spec.suspend for each in view.instances):
            raise Conflict(f"{', '.join(sorted(changed))}: not what the release of members was planned on")


def _health(node: JsonObject | None) -> tuple[Any, ...] | None:
    """What of a node decides whether members leave it."""
    if node is None:
        return None
    return (node["metadata"]["uid"], conditions_of(node), bool((node.get("spec") or {}).get("unschedulable")))


def _intent(obj: JsonObject | None) -> tuple[str, int] | None:
    return (obj["metadata"]["uid"], obj["metadata"]["generation"]) if obj is not None else None


def _living(context: Context, ref: Ref) -> ComputeUnitPool | None:
    observed = context.store.get(ref)
    if observed is None or observed["metadata"].get("deletionTimestamp"):
        return None
    return parse_pool(context.store, observed)


async def _plan_and_publish(context: Context, key: Key, pool: ComputeUnitPool, gone: frozenset[str]) -> datetime | None:
    ref, now = Ref(COMPUTE_UNIT_POOLS, key.namespace, key.name), context.clock.now()
    observed = context.store.get(ref)
    assert observed is not None, "the pool was read from the store just now"  # noqa: S101
    books = context.billing.books.of(PoolName(key.namespace, key.name)) if context.billing is not None else None
    terms = books.terms if books is not None and books.read_on is not None else {} if context.billing is None else None
    view = view_pool(context.store, pool, now=now, recorded=context.clock.recorded, terms=terms)
    plan = plan_pool(replace(view.world, gone=gone), now=now)
    await _confirm_releases(context, view, plan)
    report = PoolReport(view.pool, plan, view.places, books)
    status = status_of(report, now)
    await context.publish(ref, observed, status)
    await _tell_notices(context, observed, report, status, now)
    # A first order is not accepted before the books have been read; until then no instance is told that it exceeds nothing.
    unread = terms is None and not plan.records
    _post(context, key, {} if unread else _assessments(view, plan, overdue=report.overdue(now)))
    if context.board.want(key.namespace, key.name, plan.holdings.wanted):
        context.enqueue(Key(CAPACITY, "", pool.spec.accelerator_class))
    return _next_look(context, view, report, now)


async def _tell_notices(
    context: Context, observed: JsonObject, report: PoolReport, status: ComputeUnitPoolStatus, now: datetime
) -> None:
    """An Event once, when a notice of an end falls due: when the condition, which gives it all the time, begins to."""
    before = next(
        (each["message"] for each in (observed.get("status") or {}).get("conditions") or () if each["type"] == _SECURE),
        "",
    )
    said = status.condition(_SECURE)
    for notice, renews in notices_told(report.ends, now, before, said.message if said is not None else ""):
        with contextlib.suppress(ApiError):  # a courtesy to people: the status has said it already
            await context.cluster.create(EVENTS, events.of_notice(observed, notice, now, renews=renews))


async def _list_members_of_lost_record(context: Context, pool: ComputeUnitPool) -> None:
    """A record that is lost is made anew from members and pods, as the API server lists them: what an old view lacks
    would be given to others, and what runs on it would run beside them."""
    if holdings_of(pool) or pool.status.commitments:
        return
    for resource in (STATEFUL_SETS, PODS):
        selector = f"{meta.POOL_LABEL}={pool.name}"
        listing = await context.cluster.list(resource, namespace=pool.namespace, label_selector=selector)
        for obj in listing.items:
            context.store.observe(resource, obj)


async def _confirmed_gone(context: Context, pool: ComputeUnitPool) -> frozenset[tuple[str, datetime]]:
    """Members, with when they got their blocks, whose StatefulSet and pods the API server itself says are gone (C7); the watches alone may be behind.

    An instance that was made anew in another pool may have members of the same names: those are not waited for.
    """
    gone = set()
    for holding in holdings_of(pool):
        ref = Ref(STATEFUL_SETS, pool.namespace, holding.member)
        known = [context.store.get(ref)]
        known += pods_of_member(context.store, pool.namespace, holding.instance, holding.member)
        if holding.held or any(_is_of(pool, obj) for obj in known):
            continue
        selector = f"{meta.MEMBER_LABEL}={holding.member},{meta.POOL_LABEL}={pool.name}"
        pods = await context.cluster.list(PODS, namespace=pool.namespace, label_selector=selector)
        if not pods.items and not _is_of(pool, await context.cluster.get(ref)):
            gone.add((holding.member, holding.since))
    return frozenset(gone)


def _still_gone(pool: ComputeUnitPool, gone: frozenset[tuple[str, datetime]]) -> frozenset[str]:
    """A name may have been given again since they were confirmed gone: what is gone is that holding, not the member of
    now (R1, C7)."""
    return frozenset(each.member for each in holdings_of(pool) if not each.held and (each.member, each.since) in gone)


def _is_of(pool: ComputeUnitPool, obj: JsonObject | None) -> bool:
    return obj is not None and (obj["metadata"].get("labels") or {}).get(meta.POOL_LABEL) == pool.name


def _assessments(view: PoolView, plan: PoolPlan, *, overdue: bool) -> dict[str, Assessment]:
    spare = spare_members([verdict.demand for verdict in plan.verdicts.values()], plan.holdings.holdings)
    return {
        each.name: Assessment(
            uid=each.metadata.uid,
            generation=each.metadata.generation,
            refusal=plan.verdicts[each.name].refusal,
            wait=plan.holdings.waits.get(each.name),
            move=plan.holdings.blocked_moves.get(each.name),
            overdue=overdue,
            spare=spare[each.name],
            short_of_nodes=_short_of_nodes(view, plan.holdings.waits.get(each.name)),
            rollout=plan.rollouts.reports.get(each.name),
        )
        for each in view.instances
    }


def _short_of_nodes(view: PoolView, wait: Wait | None) -> NodeHealth:
    """Whether an instance waits because of nodes, and what ails these: sick ones first."""
    if wait is None or wait.reason is not Waiting.NODES_UNHEALTHY:
        return NodeHealth.FINE
    sick = any(not fact.ready or fact.failed for fact in view.places.facts.values() if not fact.cordoned)
    gone = any(node.name not in view.places.facts for node in view.places.nodes)
    return NodeHealth.SICK if sick or gone else NodeHealth.CORDONED


def _post(context: Context, key: Key, assessments: dict[str, Assessment]) -> None:
    for name in sorted(context.board.post(key.namespace, key.name, assessments)):
        context.enqueue(Key(INSTANCE, key.namespace, name))


def _next_look(context: Context, view: PoolView, report: PoolReport, now: datetime) -> datetime | None:
    rules = repair_rules(parse_class(context.store, view.pool.spec.accelerator_class))
    moments = [report.plan.next_moment, report.late_from]
    for name in view.places.facts:
        node = context.store.get(Ref(NODES, "", name))
        moments.append(failure_time(ailing_conditions(node, rules), rules) if node else None)
    return min((at for at in moments if at is not None and at > now), default=None)

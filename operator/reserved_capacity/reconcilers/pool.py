"""Reconciles a ComputeUnitPool: accepts its order, decides who holds its blocks, and reports.

The allocation record (holdings, and the dates of commitments) and the report go out in one write with the pool's
resourceVersion, before any child is touched; so a crash leaves capacity over-reserved, never double-used. Nobody else
writes a pool's status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.pricebook import PriceBook
from reserved_capacity.domain.eligibility import InstanceFacts, OfferingFacts, PoolFacts, SnapshotFacts, Verdict, judge
from reserved_capacity.domain.holdings import Holding, HoldingsPlan, HoldingState, PoolState, plan_holdings
from reserved_capacity.domain.nodes import failure_time
from reserved_capacity.domain.orders import OrderFacts, PriceEntry, judge_order
from reserved_capacity.domain.terms import (
    CommitmentOrder,
    CommitmentRecord,
    Placement,
    next_moment,
    plan_commitments,
)
from reserved_capacity.domain.units import blocks_of, cu_of
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, NODES, PODS, PRICE_BOOKS, STATEFUL_SETS, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.context import INSTANCE, Assessment, Context
from reserved_capacity.reconcilers.pool_report import PoolReport, status_of
from reserved_capacity.snapshot import (
    MEMBERS_BY_POOL,
    POOLS_BY_COMMITMENT,
    PoolPlaces,
    commitment_records,
    conditions_of,
    holding_of_stateful_set,
    holdings_of,
    instances_of_pool,
    members_of,
    parse_class,
    parse_offering,
    parse_pool,
    places_of,
    pods_of_member,
    repair_rules,
    timestamp,
)


@dataclass(frozen=True, slots=True)
class _World:
    """Everything that one pass over a pool looks at, gathered once."""

    pool: ComputeUnitPool
    instances: Sequence[ModelInstance]
    offerings: dict[str, ModelOffering]
    holdings: tuple[Holding, ...]
    records: tuple[CommitmentRecord, ...]
    places: PoolPlaces
    now: datetime


async def reconcile(context: Context, key: Key) -> datetime | None:
    """Returns when something about the pool changes by itself."""
    ref = Ref(COMPUTE_UNIT_POOLS, key.namespace, key.name)
    observed = context.store.get(ref)
    if observed is None or observed["metadata"].get("deletionTimestamp"):
        _post(context, key, {})
        return None
    world = _gather(context, parse_pool(context.store, observed))
    verdict = judge_order(_order_facts(context, world), today=world.now.date())
    orders = _orders(world.pool)
    records = plan_commitments(
        orders,
        world.records,
        acceptable=frozenset(verdict.acceptable),
        provisioned_cu=cu_of(world.places.claimed_blocks),
        placements=_placements(context, world),
        now=world.now,
    )
    contracted = sum(record.compute_units for record in records if not record.ended)
    verdicts = _judge_instances(context, world, contracted)
    plan = plan_holdings(
        PoolState(
            contracted_blocks=blocks_of(contracted),
            nodes=world.places.nodes,
            holdings=world.holdings,
            demands=tuple(each.demand for each in verdicts.values()),
            gone=await _confirmed_gone(context, world),
            taken=_taken(context, world),
        ),
        now=world.now,
    )
    report = PoolReport(world.pool, records, verdict, contracted, plan.holdings, world.places, tuple(verdicts.values()))
    await context.publish(ref, observed, status_of(report, world.now))
    _post(context, key, _assessments(world, verdicts, plan, overdue=report.overdue(world.now)))
    return _next_look(context, world, records, orders)


def _gather(context: Context, pool: ComputeUnitPool) -> _World:
    now = context.clock.now()
    instances = instances_of_pool(context.store, pool.namespace, pool.name)
    holdings = holdings_of(pool)
    if not pool.status.commitments and not holdings:
        holdings = _rebuilt_holdings(context, pool)
    holdings = _without_former_owners(context, holdings, instances)
    offerings = {each.spec.offering: parse_offering(context.store, each.spec.offering) for each in instances}
    return _World(
        pool=pool,
        instances=instances,
        offerings={name: offering for name, offering in offerings.items() if offering is not None},
        holdings=holdings,
        records=commitment_records(pool),
        places=places_of(
            context.store, pool, parse_class(context.store, pool.spec.accelerator_class), holdings, now=now
        ),
        now=now,
    )


def _rebuilt_holdings(context: Context, pool: ComputeUnitPool) -> tuple[Holding, ...]:
    """C2: a pool whose status is lost finds its holdings in the StatefulSets, before anything is placed."""
    members = context.store.by(MEMBERS_BY_POOL, STATEFUL_SETS, (pool.namespace, pool.name))
    found = [holding_of_stateful_set(each) for each in members]
    return tuple(holding for holding in found if holding is not None)


def _without_former_owners(
    context: Context, holdings: Sequence[Holding], instances: Sequence[ModelInstance]
) -> tuple[Holding, ...]:
    """Release what a former incarnation of an instance holds: a namesake made anew starts with blocks of its own."""
    uids = {each.name: each.metadata.uid for each in instances}
    former = {
        member.name
        for each in instances
        for member in members_of(context.store, each.namespace, each.name)
        if member.owner_uid != uids[each.name]
    }
    return tuple(
        replace(holding, state=HoldingState.RELEASING) if holding.member in former else holding for holding in holdings
    )


# ---------------------------------------------------------------------------------------------------------- the order


def _orders(pool: ComputeUnitPool) -> tuple[CommitmentOrder, ...]:
    return tuple(
        CommitmentOrder(
            id=each.id,
            compute_units=each.compute_units,
            term=each.term,
            provision_by=each.provision_by,
            renewal=each.renewal.policy,
        )
        for each in pool.spec.commitments
    )


def _order_facts(context: Context, world: _World) -> OrderFacts:
    spec = world.pool.spec
    book = context.store.parsed(Ref(PRICE_BOOKS, "", spec.price_book_ref), PriceBook)
    prices = None
    if book is not None:
        prices = [
            PriceEntry(entry.term, entry.effective_from, entry.price_per_compute_unit_month)
            for entry in book.spec.compute_units
        ]
    return OrderFacts(
        accelerator_class=spec.accelerator_class,
        class_exists=parse_class(context.store, spec.accelerator_class) is not None,
        price_book=spec.price_book_ref,
        prices=prices,
        orders=_orders(world.pool),
        accepted_ids=frozenset(record.id for record in world.records),
        taken_ids=_taken_ids(context, world.pool),
        unsupported=_unsupported(world.pool),
    )


def _taken_ids(context: Context, pool: ComputeUnitPool) -> dict[str, str]:
    """Commitments of this pool whose id another pool has, that comes first: accepted before unaccepted, then by age."""
    taken = {}
    for order in pool.spec.commitments:
        for obj in context.store.by(POOLS_BY_COMMITMENT, COMPUTE_UNIT_POOLS, order.id):
            other = parse_pool(context.store, obj)
            if other.metadata.uid != pool.metadata.uid and _comes_first(other, pool, order.id):
                taken[order.id] = f"{other.namespace}/{other.name}"
    return taken


def _comes_first(other: ComputeUnitPool, pool: ComputeUnitPool, commitment: str) -> bool:
    def rank(each: ComputeUnitPool) -> tuple[bool, str, str]:
        accepted = each.status.commitment(commitment) is not None
        return (not accepted, str(each.metadata.creation_timestamp), each.metadata.uid)

    return rank(other) < rank(pool)


def _unsupported(pool: ComputeUnitPool) -> tuple[str, ...]:
    """Fields whose behaviour is not built yet, where they ask for something else than the default."""
    spec, standard = pool.spec, type(pool.spec).model_fields
    asked = {
        "spec.amendments": bool(spec.amendments),
        "spec.maintenanceWindow": spec.maintenance_window is not None,
        "spec.nodeReplacement": spec.node_replacement != standard["node_replacement"].default,
        "spec.expiry": spec.expiry != standard["expiry"].default,
    }
    return tuple(field for field, used in asked.items() if used)


def _placements(context: Context, world: _World) -> list[Placement]:
    """When CU were provisioned to an instance: the API server's time of each present member's StatefulSet (M1)."""
    placements = []
    for holding in world.holdings:
        obj = context.store.get(Ref(STATEFUL_SETS, world.pool.namespace, holding.member))
        if obj is not None:
            at = context.clock.recorded(timestamp(obj["metadata"]["creationTimestamp"]))
            placements.append(Placement(at, cu_of(holding.blocks)))
    return placements


# ------------------------------------------------------------------------------------------------------- the instances


def _judge_instances(context: Context, world: _World, contracted: int) -> dict[str, Verdict]:
    facts = PoolFacts(world.pool.name, world.pool.spec.accelerator_class, contracted)
    offerings = {name: offering_facts(offering) for name, offering in world.offerings.items()}
    return judge(facts, offerings, [_instance_facts(context, world, each) for each in world.instances], now=world.now)


def offering_facts(offering: ModelOffering) -> OfferingFacts:
    reserved = offering.spec.reserved
    return OfferingFacts(
        name=offering.name,
        sold_reserved=reserved.sold,
        compute_units_per_instance=reserved.compute_units_per_instance,
        min_instances=reserved.min_instances,
        nodes_per_instance=reserved.nodes_per_instance,
        accelerator_classes=frozenset(reserved.accelerator_classes),
        profiles=frozenset({"default", *(profile.name for profile in reserved.serving.profiles)}),
        snapshots={
            each.name: SnapshotFacts(each.retires_at, each.replacement or "") for each in offering.spec.snapshots
        },
    )


def _instance_facts(context: Context, world: _World, instance: ModelInstance) -> InstanceFacts:
    created = instance.metadata.creation_timestamp
    assert created is not None, "every stored object has a creation time"  # noqa: S101
    held = [each for each in world.holdings if each.instance == instance.name and each.held]
    running = [
        member
        for member in members_of(context.store, instance.namespace, instance.name)
        if member.owner_uid == instance.metadata.uid and not member.terminating
    ]
    return InstanceFacts(
        name=instance.name,
        uid=instance.metadata.uid,
        offering=instance.spec.offering,
        snapshot=instance.spec.snapshot,
        profile=instance.spec.profile,
        desired=instance.spec.instances,
        priority=instance.spec.priority,
        created_at=created,
        held=len(held),
        held_blocks=held[0].blocks if held else None,
        running_snapshots=frozenset(member.snapshot for member in running),
        running_profiles=frozenset(member.profile for member in running),
        unsupported=unsupported_fields(instance),
    )


def unsupported_fields(instance: ModelInstance) -> tuple[str, ...]:
    """Fields whose behaviour is not built yet, where they ask for something else than the default."""
    upgrade, standard = instance.spec.upgrade, type(instance.spec.upgrade).model_fields
    fields = [
        f"spec.upgrade.{field.alias or name}"
        for name, field in standard.items()
        if name != "min_available" and getattr(upgrade, name) != field.default
    ]
    return tuple((["spec.changeSet"] if instance.spec.change_set else []) + fields)


async def _confirmed_gone(context: Context, world: _World) -> frozenset[str]:
    """Members whose StatefulSet and pods the API server itself says are gone (C7); the watches alone may be behind."""
    gone = set()
    namespace = world.pool.namespace
    for holding in world.holdings:
        ref = Ref(STATEFUL_SETS, namespace, holding.member)
        known = context.store.get(ref) or pods_of_member(context.store, namespace, holding.instance, holding.member)
        if holding.held or known:
            continue
        pods = await context.cluster.list(
            PODS, namespace=namespace, label_selector=f"{meta.MEMBER_LABEL}={holding.member}"
        )
        if not pods.items and await context.cluster.get(ref) is None:
            gone.add(holding.member)
    return frozenset(gone)


def _taken(context: Context, world: _World) -> frozenset[str]:
    return frozenset(
        member.name
        for instance in world.instances
        for member in members_of(context.store, world.pool.namespace, instance.name)
    )


def _assessments(
    world: _World, verdicts: dict[str, Verdict], plan: HoldingsPlan, *, overdue: bool
) -> dict[str, Assessment]:
    return {
        each.name: Assessment(
            uid=each.metadata.uid,
            generation=each.metadata.generation,
            refusal=verdicts[each.name].refusal,
            wait=plan.waits.get(each.name),
            overdue=overdue,
        )
        for each in world.instances
    }


def _post(context: Context, key: Key, assessments: dict[str, Assessment]) -> None:
    for name in sorted(context.board.post(key.namespace, key.name, assessments)):
        context.enqueue(Key(INSTANCE, key.namespace, name))


def _next_look(
    context: Context, world: _World, records: Sequence[CommitmentRecord], orders: Sequence[CommitmentOrder]
) -> datetime | None:
    rules = repair_rules(parse_class(context.store, world.pool.spec.accelerator_class))
    moments = [next_moment(records, orders, world.now)]
    for name in world.places.facts:
        node = context.store.get(Ref(NODES, "", name))
        moments.append(failure_time(conditions_of(node), rules) if node else None)
    moments += [snapshot.retires_at for offering in world.offerings.values() for snapshot in offering.spec.snapshots]
    return min((at for at in moments if at is not None and at > world.now), default=None)

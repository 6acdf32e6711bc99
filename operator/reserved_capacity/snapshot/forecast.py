"""What the planners would make of changed specs: the same plans, carried out on paper until they stand still (`paper`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.eligibility import Refusal
from reserved_capacity.domain.holdings import Holding, capacity_of
from reserved_capacity.domain.instance_conditions import InstanceObservation
from reserved_capacity.domain.instance_conditions import conditions_of as instance_conditions
from reserved_capacity.domain.pool_conditions import PoolObservation
from reserved_capacity.domain.pool_conditions import conditions_of as pool_conditions
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.reasons.instance import InstanceAccepted
from reserved_capacity.domain.units import blocks_of, cu_of
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_INSTANCES, NODES, JsonObject, Ref, Resource
from reserved_capacity.snapshot.forecast_units import reservation_forecasts
from reserved_capacity.snapshot.forecast_values import (
    Change,
    ChangeSetForecast,
    Forecast,
    InstanceForecast,
    NodeForecast,
    PoolForecast,
    Units,
)
from reserved_capacity.snapshot.indexes import claims_of
from reserved_capacity.snapshot.paper import Paper, place_of
from reserved_capacity.snapshot.parsing import parse_class, parse_instance, parse_pool
from reserved_capacity.snapshot.pools import change_sets_of, contracted_cu, holdings_of, places_of, pool_id
from reserved_capacity.store import Store


def forecast(
    store: Store, changes: Iterable[tuple[Resource, JsonObject]], *, now: datetime, with_units: bool = True
) -> Forecast:
    """`changes` are documents (namespace filled in) whose spec takes the place of what the store has. `with_units` False:
    not all reservations are known, so nothing is said of token units. Raises ValueError for an object that the API server
    would not have taken."""
    paper = Paper.of(store, now)
    for resource, document in changes:
        paper.apply(resource, document)
    if with_units:
        paper.order()
    settled = paper.settle()
    pools = [parse_pool(paper.store, obj) for obj in paper.store.all(COMPUTE_UNIT_POOLS)]
    instances = [parse_instance(paper.store, obj) for obj in paper.store.all(MODEL_INSTANCES)]
    pool_forecasts = {
        place_of(each): _pool_forecast(store, paper, each) for each in pools if place_of(each) in paper.planned
    }
    return Forecast(
        pools=tuple(pool_forecasts.values()),
        instances=tuple(
            _instance_forecast(store, paper, each) for each in instances if not each.metadata.deletion_timestamp
        ),
        reservations=reservation_forecasts(paper, {place: each.after for place, each in pool_forecasts.items()}),
        moves=tuple(paper.moves),
        settled=settled,
    )


def _pool_forecast(store: Store, paper: Paper, pool: ComputeUnitPool) -> PoolForecast:
    view, plan = paper.planned[place_of(pool)]
    before, after = _units(store, pool, paper.now), _units(paper.store, pool, paper.now)
    observation = PoolObservation(
        contracted_cu=after.contracted,
        provisioned_cu=after.provisioned,
        provision_by=None,
        today=paper.now.date(),
        refusal=plan.order.refusal,
        sick_nodes=tuple(node.name for node in view.places.nodes if node.failed),
        foreign_pods=view.places.foreign_pods,
        members=sum(each.demand.desired for each in plan.verdicts.values()),
    )
    ready = pool_conditions(observation)[-1]
    old, new = _claims(store, pool), _claims(paper.store, pool)
    return PoolForecast(
        namespace=pool.namespace,
        name=pool.name,
        reason=ready.reason,
        message=ready.message,
        ok=plan.order.refusal is None and after.provisioned >= after.contracted,
        before=before,
        after=after,
        nodes=tuple(
            NodeForecast(name, Change(old.get(name, 0), new.get(name, 0))) for name in sorted(old.keys() | new.keys())
        ),
        change_sets=tuple(
            ChangeSetForecast(each.id, each.phase, each.message) for each in change_sets_of(pool) if each.members
        ),
    )


def _units(store: Store, pool: ComputeUnitPool, now: datetime) -> Units:
    obj = store.get(Ref(COMPUTE_UNIT_POOLS, pool.namespace, pool.name))
    if obj is None:
        return Units()
    known = parse_pool(store, obj)
    holdings, contracted = holdings_of(known), contracted_cu(known)
    places = places_of(store, known, parse_class(store, known.spec.accelerator_class), holdings, now=now)
    capacity = capacity_of(places.nodes, holdings)
    beyond = max(0, capacity.provisioned - blocks_of(contracted))
    idle, surge = max(0, capacity.idle - beyond), max(0, beyond - capacity.idle)
    allocated = capacity.allocated - surge
    provisioned = cu_of(allocated + idle + capacity.unhealthy)
    return Units(contracted, provisioned, cu_of(allocated), cu_of(idle), cu_of(capacity.unhealthy))


def _claims(store: Store, pool: ComputeUnitPool) -> dict[str, int]:
    """CU by node."""
    found: dict[str, int] = {}
    for node in store.all(NODES):
        blocks = sum(claim.blocks for claim in claims_of(node) if claim.pool == pool_id(pool))
        if blocks:
            found[node["metadata"]["name"]] = cu_of(blocks)
    return found


def _instance_forecast(store: Store, paper: Paper, instance: ModelInstance) -> InstanceForecast:
    planned = paper.planned.get((instance.namespace, instance.spec.pool_ref))
    before, after = _held(store, instance), _held(paper.store, instance)
    plan = planned[1] if planned else None
    verdict = plan.verdicts.get(instance.name) if plan else None
    refusal = verdict.refusal if verdict else None
    if plan is None:
        there = f"there is no ComputeUnitPool {instance.spec.pool_ref!r} in namespace {instance.namespace}"
        refusal = Refusal(InstanceAccepted.POOL_NOT_FOUND, f"{there}: create it, or name another one")
    seen = InstanceObservation(
        pool=instance.spec.pool_ref,
        desired=instance.spec.instances,
        min_available=0,
        suspended=instance.spec.suspend,
        held=len(after),
        releasing=0,
        available=len(after),
        refusal=refusal,
        wait=plan.holdings.waits.get(instance.name) if plan else None,
        evaluated=True,
        rollout=plan.rollouts.reports.get(instance.name) if plan else None,
    )
    conditions = {each.type: each for each in instance_conditions(seen)}
    reserved, accepted, updated = (conditions[each] for each in ("CapacityReserved", "Accepted", "UpToDate"))
    taken = accepted.status is ConditionStatus.TRUE
    moved = updated.status is ConditionStatus.TRUE or reserved.status is not ConditionStatus.TRUE
    message = reserved.message if moved else updated.message
    return InstanceForecast(
        namespace=instance.namespace,
        name=instance.name,
        pool=instance.spec.pool_ref,
        offering=instance.spec.offering,
        desired=instance.spec.instances,
        held=Change(len(before), len(after)),
        compute_units=Change(_sum(before), _sum(after)),
        reason=reserved.reason,
        message=message if taken else accepted.message,
        refused=None if taken else accepted.reason,
        ok=taken and reserved.status is ConditionStatus.TRUE and updated.status is not ConditionStatus.FALSE,
    )


def _held(store: Store, instance: ModelInstance) -> list[Holding]:
    obj = store.get(Ref(COMPUTE_UNIT_POOLS, instance.namespace, instance.spec.pool_ref))
    holdings = holdings_of(parse_pool(store, obj), instance.name) if obj is not None else ()
    return [holding for holding in holdings if holding.held]


def _sum(holdings: Sequence[Holding]) -> int:
    return cu_of(sum(holding.blocks for holding in holdings))

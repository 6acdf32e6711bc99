"""What the planners would make of changed specs: the same plans, carried out on paper until they stand still.

Works on a copy of the store, so nothing that was read is altered and nothing is written. Assumed is that all goes well:
members that are being released go, members that hold blocks come up and serve, and no other spec changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.changesets import Phase
from reserved_capacity.domain.claims import plan_claims
from reserved_capacity.domain.eligibility import Refusal
from reserved_capacity.domain.holdings import Holding, Request, capacity_of
from reserved_capacity.domain.instance_conditions import InstanceObservation
from reserved_capacity.domain.instance_conditions import conditions_of as instance_conditions
from reserved_capacity.domain.pool_conditions import PoolObservation
from reserved_capacity.domain.pool_conditions import conditions_of as pool_conditions
from reserved_capacity.domain.pool_plan import PoolPlan, plan_pool
from reserved_capacity.domain.reasons.base import ConditionStatus
from reserved_capacity.domain.reasons.instance import InstanceAccepted
from reserved_capacity.domain.units import blocks_of, cu_of
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    NODES,
    PODS,
    STATEFUL_SETS,
    WATCHED,
    JsonObject,
    Listing,
    Ref,
    Resource,
)
from reserved_capacity.snapshot.claims import claim_demand, occupied
from reserved_capacity.snapshot.forecast_values import (
    Change,
    ChangeSetForecast,
    Forecast,
    InstanceForecast,
    Move,
    MoveAction,
    NodeForecast,
    PoolForecast,
    Units,
)
from reserved_capacity.snapshot.indexes import INDEXES, claims_annotation, claims_of
from reserved_capacity.snapshot.instances import pods_of_member
from reserved_capacity.snapshot.nodes import inventory
from reserved_capacity.snapshot.parsing import parse_class, parse_instance, parse_pool
from reserved_capacity.snapshot.pool_world import PoolView, view_pool
from reserved_capacity.snapshot.pools import (
    change_sets_of,
    contracted_cu,
    holdings_of,
    places_of,
    pool_id,
    pools_of_class,
    rollouts_of,
)
from reserved_capacity.snapshot.record import change_set_status, commitment_status, holding_status, rollout_status
from reserved_capacity.store import FOREIGN_PODS, Store

MAX_ROUNDS = 50  # and two for each step of a change set or a rollout: a step is started, then done
_Place = tuple[str, str]  # namespace and name


def forecast(store: Store, changes: Iterable[tuple[Resource, JsonObject]], *, now: datetime) -> Forecast:
    """`changes` are documents (namespace filled in) whose spec takes the place of what the store has. Raises ValueError
    for an object that the API server would not have taken."""
    paper = _Paper.of(store, now)
    for resource, document in changes:
        paper.apply(resource, document)
    settled = paper.settle()
    pools = [parse_pool(paper.store, obj) for obj in paper.store.all(COMPUTE_UNIT_POOLS)]
    instances = [parse_instance(paper.store, obj) for obj in paper.store.all(MODEL_INSTANCES)]
    return Forecast(
        pools=tuple(_pool_forecast(store, paper, each) for each in pools if _place(each) in paper.planned),
        instances=tuple(
            _instance_forecast(store, paper, each) for each in instances if not each.metadata.deletion_timestamp
        ),
        moves=tuple(paper.moves),
        settled=settled,
    )


# ------------------------------------------------------------------------------------------------------------- on paper


@dataclass(slots=True)
class _Paper:
    """A copy of the cluster that is moved on by plans."""

    store: Store
    now: datetime
    version: int
    planned: dict[_Place, tuple[PoolView, PoolPlan]] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    made: int = 0

    @classmethod
    def of(cls, store: Store, now: datetime) -> _Paper:
        shelves = {resource: store.all(resource) for resource in (*WATCHED, FOREIGN_PODS)}
        versions = (int(obj["metadata"]["resourceVersion"]) for objects in shelves.values() for obj in objects)
        version = max(versions, default=0)
        copy = Store(INDEXES)
        for resource, objects in shelves.items():
            copy.replace(resource, Listing(objects, str(version)))
        return cls(copy, now, version)

    def apply(self, resource: Resource, document: JsonObject) -> None:
        given = document["metadata"]
        known = self.store.get(Ref(resource, given.get("namespace", ""), given["name"]))
        if known is not None:
            generation = known["metadata"].get("generation", 1) + (known.get("spec") != document["spec"])
            metadata = {**known["metadata"], "generation": generation}
            self._put(resource, {**known, "metadata": metadata, "spec": document["spec"]})
            return
        self.made += 1
        metadata = {
            "name": given["name"],
            "labels": given.get("labels") or {},
            "uid": f"planned-{self.made:06}",
            "generation": 1,
            "creationTimestamp": f"{self.now:%Y-%m-%dT%H:%M:%SZ}",
        }
        if resource.namespaced:
            metadata["namespace"] = given["namespace"]
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        self._put(resource, {**body, "spec": document["spec"]})

    def _put(self, resource: Resource, obj: JsonObject) -> None:
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        self.store.observe(resource, {**obj, "metadata": metadata})

    def _drop(self, resource: Resource, obj: JsonObject) -> None:
        self.version += 1
        self.store.forget(resource, {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}})

    def settle(self) -> bool:
        """Plan in turns until nothing moves any more; whether that was reached."""
        turn, steps = 0, 0
        while turn < MAX_ROUNDS + 2 * steps:
            turn += 1
            moved = [self._plan_pool(pool) for pool in self._pools()]
            moved += [
                self._plan_class(name) for name in sorted({pool.spec.accelerator_class for pool in self._pools()})
            ]
            if not any(moved):
                return True
            steps = max(steps, self._steps())
        return False

    def _pools(self) -> list[ComputeUnitPool]:
        pools = [parse_pool(self.store, obj) for obj in self.store.all(COMPUTE_UNIT_POOLS)]
        return [pool for pool in pools if not pool.metadata.deletion_timestamp]

    def _steps(self) -> int:
        pools = self._pools()
        running = [each for pool in pools for each in pool.status.change_sets if each.phase is Phase.EXECUTING]
        rolling = {each.instance for pool in pools for each in rollouts_of(pool) if each.moving}
        members = sum(each.instance in rolling for pool in pools for each in pool.status.holdings)
        return sum(len(each.steps) for each in running) + 2 * members

    def _plan_pool(self, pool: ComputeUnitPool) -> bool:
        gone = frozenset(holding.member for holding in holdings_of(pool) if not holding.held)
        for holding in holdings_of(pool):
            if not holding.held:
                self._remove_member(pool.namespace, holding)
        view = view_pool(self.store, pool, now=self.now, recorded=lambda at: at, terms={})
        held = frozenset(holding.member for holding in view.world.holdings if holding.held)
        plan = plan_pool(replace(view.world, gone=gone, available=view.world.available | held), now=self.now)
        self.planned[_place(pool)] = (view, plan)
        self.moves += _moves(pool, view.world.holdings, plan.holdings.holdings)
        status = _status_of(pool, plan)
        if status == pool.status.to_wire():
            return False
        obj = self.store.get(Ref(COMPUTE_UNIT_POOLS, pool.namespace, pool.name))
        assert obj is not None, "the pool was read from the store just now"  # noqa: S101
        self._put(COMPUTE_UNIT_POOLS, {**obj, "status": status})
        return True

    def _remove_member(self, namespace: str, holding: Holding) -> None:
        stateful_set = self.store.get(Ref(STATEFUL_SETS, namespace, holding.member))
        if stateful_set is not None:
            self._drop(STATEFUL_SETS, stateful_set)
        for pod in pods_of_member(self.store, namespace, holding.instance, holding.member):
            self._drop(PODS, pod)

    def _plan_class(self, name: str) -> bool:
        class_ = parse_class(self.store, name)
        if class_ is None:
            return False
        nodes = inventory(self.store, class_, now=self.now)
        living = [pool for pool in pools_of_class(self.store, name) if not pool.metadata.deletion_timestamp]
        demands = [claim_demand(self.store, pool, self._wanted(pool)) for pool in living]
        plan = plan_claims(nodes, demands, occupied=occupied(self.store, nodes))
        for change in plan.changes:
            node = self.store.get(Ref(NODES, "", change.node))
            assert node is not None, "the plan is about nodes of the store"  # noqa: S101
            annotations = {
                **(node["metadata"].get("annotations") or {}),
                meta.CLAIMS_ANNOTATION: claims_annotation(change.claims),
            }
            self._put(NODES, {**node, "metadata": {**node["metadata"], "annotations": annotations}})
        return bool(plan.changes)

    def _wanted(self, pool: ComputeUnitPool) -> tuple[Request, ...]:
        planned = self.planned.get(_place(pool))
        return planned[1].holdings.wanted if planned else ()


def _place(obj: ComputeUnitPool | ModelInstance) -> _Place:
    return (obj.namespace, obj.name)


def _moves(pool: ComputeUnitPool, before: Sequence[Holding], after: Sequence[Holding]) -> list[Move]:
    def move(action: MoveAction, holding: Holding) -> Move:
        cu = cu_of(holding.blocks)
        return Move(action, pool.namespace, pool.name, holding.instance, holding.member, cu, holding.nodes)

    held = {holding.member for holding in before if holding.held}
    stays = {holding.member for holding in after if holding.held}
    released = [each for each in before if each.member in held - stays]
    granted = [each for each in after if each.held and each.member not in held]
    return [*(move(MoveAction.RELEASE, each) for each in released), *(move(MoveAction.GRANT, each) for each in granted)]


# ----------------------------------------------------------------------------------------------------------- the record


def _status_of(pool: ComputeUnitPool, plan: PoolPlan) -> Mapping[str, Any]:
    """The part of the status that planners read."""
    update = {
        "observed_generation": pool.metadata.generation,
        "commitments": tuple(commitment_status(pool, record, plan.prices.get(record.id)) for record in plan.records),
        "change_sets": tuple(change_set_status(record) for record in plan.change_sets),
        "holdings": tuple(holding_status(holding) for holding in plan.holdings.holdings),
        "rollouts": tuple(rollout_status(record) for record in plan.rollouts.records),
    }
    return pool.status.model_copy(update=update).to_wire()


# ---------------------------------------------------------------------------------------------------------- the answers


def _pool_forecast(store: Store, paper: _Paper, pool: ComputeUnitPool) -> PoolForecast:
    view, plan = paper.planned[_place(pool)]
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


def _instance_forecast(store: Store, paper: _Paper, instance: ModelInstance) -> InstanceForecast:
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

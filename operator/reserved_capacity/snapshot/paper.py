"""A copy of the cluster that the planners move on, on paper: nothing that was read is altered, and nothing is written.

Assumed is that all goes well: members that are being released go, members that hold blocks come up and serve, and no other
spec changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.domain.changesets import Phase
from reserved_capacity.domain.claims import plan_claims
from reserved_capacity.domain.holdings import Holding, Request
from reserved_capacity.domain.pool_plan import PoolPlan, plan_pool
from reserved_capacity.domain.tokens.backing import Grant
from reserved_capacity.domain.units import cu_of
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    STATEFUL_SETS,
    TOKEN_UNIT_RESERVATIONS,
    WATCHED,
    JsonObject,
    Listing,
    Ref,
    Resource,
)
from reserved_capacity.snapshot.claims import claim_demand, occupied
from reserved_capacity.snapshot.fleet import Resize, growth, new_instance, shrinkage
from reserved_capacity.snapshot.forecast_values import Move, MoveAction
from reserved_capacity.snapshot.indexes import INDEXES, claims_annotation
from reserved_capacity.snapshot.instances import instances_of_pool, pods_of_member
from reserved_capacity.snapshot.nodes import inventory
from reserved_capacity.snapshot.paper_units import OfferingPlan, Order, grants_now, lots_status, order_of, plan_offering
from reserved_capacity.snapshot.parsing import parse_class, parse_offering, parse_pool
from reserved_capacity.snapshot.pool_world import PoolView, view_pool
from reserved_capacity.snapshot.pools import holdings_of, pools_of_class, rollouts_of
from reserved_capacity.snapshot.record import change_set_status, commitment_status, holding_status, rollout_status
from reserved_capacity.snapshot.tokens import parse_reservation
from reserved_capacity.store import FOREIGN_PODS, Store

MAX_ROUNDS: Final = 50
"""And two for each step of a change set or a rollout: a step is started, then done."""
Place = tuple[str, str]
"""Namespace and name."""


@dataclass(slots=True)
class Paper:
    """`read` is the cluster as it was read, `store` the copy that is moved on by plans."""

    read: Store
    store: Store
    now: datetime
    version: int
    planned: dict[Place, tuple[PoolView, PoolPlan]] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    orders: dict[Place, Order] = field(default_factory=dict)
    grants: dict[str, tuple[Grant, ...]] = field(default_factory=dict)
    offerings: dict[str, OfferingPlan] = field(default_factory=dict)
    made: int = 0

    @classmethod
    def of(cls, store: Store, now: datetime) -> Paper:
        shelves = {resource: store.all(resource) for resource in (*WATCHED, FOREIGN_PODS)}
        versions = (int(obj["metadata"]["resourceVersion"]) for objects in shelves.values() for obj in objects)
        version = max(versions, default=0)
        copy = Store(INDEXES)
        for resource, objects in shelves.items():
            copy.replace(resource, Listing(objects, str(version)))
        return cls(store, copy, now, version)

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

    def order(self) -> None:
        """What reservations order by their specs is bought and given up; units that may be given up are gone tomorrow."""
        for obj in self.store.all(TOKEN_UNIT_RESERVATIONS):
            each = parse_reservation(self.store, obj["metadata"]["namespace"], obj["metadata"]["name"])
            if each is not None and each.metadata.deletion_timestamp is None:
                order = self.orders[place_of(each)] = order_of(self.store, each, self.now)
                self._status(TOKEN_UNIT_RESERVATIONS, each.namespace, each.name, {"lots": lots_status(order)})
        names = [obj["metadata"]["name"] for obj in self.store.all(MODEL_OFFERINGS)]
        self.grants = {name: grants_now(self.read, name) for name in names}

    def settle(self) -> bool:
        """Plan in turns until nothing moves any more; whether that was reached."""
        turn, steps = 0, 0
        while turn < MAX_ROUNDS + 2 * steps:
            turn += 1
            moved = [self._plan_offering(name) for name in sorted(self.grants)]
            moved += [self._plan_pool(pool) for pool in self._pools()]
            moved += [
                self._plan_class(name) for name in sorted({pool.spec.accelerator_class for pool in self._pools()})
            ]
            if not any(moved):
                return True
            steps = max(steps, self._steps())
        return False

    def _plan_offering(self, name: str) -> bool:
        """The fleet grows and shrinks, and what it serves by now is granted."""
        offering = parse_offering(self.store, name)
        if offering is None or offering.spec.token_units is None:
            return False
        plan = self.offerings[name] = plan_offering(self.store, offering, self.grants[name])
        resized = (*growth(plan.world, plan.wanted), *shrinkage(plan.world, plan.backing.sold, plan.wanted))
        for each in resized:
            self._resize(plan, each)
        moved = bool(resized) or plan.backing.grants != self.grants[name]
        self.grants[name] = plan.backing.grants
        return moved

    def _resize(self, plan: OfferingPlan, resize: Resize) -> None:
        if resize.live is None:
            self.apply(MODEL_INSTANCES, new_instance(plan.world, resize.snapshot, resize.instances))
            return
        obj = self.store.get(Ref(MODEL_INSTANCES, resize.live.namespace, resize.live.name))
        assert obj is not None, "the fleet was read from the store just now"  # noqa: S101
        if resize.instances:
            self.apply(MODEL_INSTANCES, {**obj, "spec": {**obj["spec"], "instances": resize.instances}})
        else:
            self._drop(MODEL_INSTANCES, obj)

    def _serve(self, pool: ComputeUnitPool, holdings: Sequence[Holding]) -> bool:
        """Instances of a fleet say how many of them hold blocks: that is what token units are granted from."""
        moved = False
        for instance in instances_of_pool(self.store, pool.namespace, pool.name):
            held = [each for each in holdings if each.instance == instance.name and each.held]
            cu = cu_of(sum(each.blocks for each in held))
            now = instance.status
            if instance.metadata.labels.get(meta.FLEET_LABEL) and (now.instances.available, now.compute_units) != (
                len(held),
                cu,
            ):
                status = {"instances": {"held": len(held), "available": len(held)}, "computeUnits": cu}
                self._status(MODEL_INSTANCES, instance.namespace, instance.name, status)
                moved = True
        return moved

    def _status(self, resource: Resource, namespace: str, name: str, parts: JsonObject) -> None:
        obj = self.store.get(Ref(resource, namespace, name))
        assert obj is not None, "it was read from the store just now"  # noqa: S101
        self._put(resource, {**obj, "status": {**(obj.get("status") or {}), **parts}})

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
        # As everybody serves at once, every artifact is everywhere at once.
        specs = tuple(replace(spec, prefetched=None) for spec in view.world.rollout_specs)
        told = replace(view.world, gone=gone, available=view.world.available | held, rollout_specs=specs)
        plan = plan_pool(told, now=self.now)
        self.planned[place_of(pool)] = (view, plan)
        self.moves += _moves(pool, view.world.holdings, plan.holdings.holdings)
        status = _status_of(pool, plan)
        moved = self._serve(pool, plan.holdings.holdings)
        if status == pool.status.to_wire():
            return moved
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
        planned = self.planned.get(place_of(pool))
        return planned[1].holdings.wanted if planned else ()


def place_of(obj: ComputeUnitPool | ModelInstance | TokenUnitReservation) -> Place:
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

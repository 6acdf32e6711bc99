"""Owns the ways to take a guard of the production code (or of the API server) away, for as long as a test lasts."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain import claims, eligibility, holdings, members, placement
from reserved_capacity.domain.members import ObservedMember
from reserved_capacity.domain.rollout import gates, planning, records, walk
from reserved_capacity.domain.rollout.values import RolloutState
from reserved_capacity.domain.rollout.walk import Walk
from reserved_capacity.ports import (
    NODES,
    PODS,
    STATEFUL_SETS,
    Conflict,
    JsonObject,
    Precondition,
    Ref,
    Resource,
)
from reserved_capacity.queue import WorkQueue
from reserved_capacity.reconcilers import capacity, confirmation, pool, routes
from reserved_capacity.reconcilers.context import Context
from reserved_capacity.snapshot import holdings_of, pool_world, pools_of_class
from reserved_capacity.snapshot.claims import claim_demand
from reserved_capacity.store import Store
from tests.fakes.cluster import FakeCluster

Removal = Callable[[], contextlib.AbstractContextManager[Any]]


def instead(owner: object, attribute: str, value: object) -> Removal:
    return lambda: mock.patch.object(owner, attribute, value)


def nothing(*_: object, **__: object) -> None:
    return None


def true(*_: object, **__: object) -> bool:
    return True


def anywhere() -> Removal:
    """A member of the right name will do, for planning and for confirming."""

    @contextlib.contextmanager
    def removed() -> Iterator[None]:
        with mock.patch.object(members, "made_for", true), mock.patch.object(confirmation, "made_for", true):
            yield

    return removed


def nodes_as_they_are(_store: object, _class: object, nodes: Any, _recorded: object) -> Any:
    return nodes


def nothing_known(*_: object) -> tuple[()]:
    return ()


def is_there(_pool: object, obj: JsonObject | None) -> bool:
    return obj is not None


def no_keys(*_: object) -> Iterator[Any]:
    return iter(())


def lost(_member: JsonObject) -> JsonObject:
    raise Conflict("its record is not to be seen yet")


def no_objection(*_: object, **__: object) -> str:
    return ""


_deadline = Walk.deadline


def deadline_forth(self: Walk) -> Any:
    return _deadline(self) if self.record.state is RolloutState.RUNNING else None


def accepting_fewer() -> Removal:
    """As if every instance had accepted to fall below its offering's minimum."""
    init = Walk.__init__

    def accepting(self: Walk, ground: Any, spec: Any, demand: Any, record: Any, **options: Any) -> None:
        init(self, ground, spec, replace(demand, accept_below_minimum=True), record, **options)

    return instead(Walk, "__init__", accepting)


def without_gate(gate: Any) -> Removal:
    return instead(gates, "_GATES", tuple(each for each in gates._GATES if each is not gate))


def never_given_back() -> Removal:
    """What a rollout has borrowed stays on its record for ever."""
    concluded = records.concluded

    def keeping(record: Any, holdings: Any, now: Any) -> Any:
        return replace(concluded(record, holdings, now), borrowed=record.borrowed)

    @contextlib.contextmanager
    def removed() -> Iterator[None]:
        with mock.patch.object(planning, "concluded", keeping), mock.patch.object(walk, "concluded", keeping):
            yield

    return removed


async def yes(*_: object, **__: object) -> bool:
    return True


def no_lock(*_: object) -> contextlib.AbstractAsyncContextManager[None]:
    return contextlib.nullcontext()


def none_held(*_: object) -> dict[str, int]:
    return defaultdict(int)


def as_they_are(held: Any, *_: object) -> Any:
    return held


async def done(*_: object, **__: object) -> None:
    return None


def without_precondition(resource: Resource, *, uid: bool = False) -> Removal:
    """The API server does not look at the version (or the uid) of a write to these objects."""
    checked = FakeCluster._checked

    def lax(self: FakeCluster, ref: Ref, precondition: Precondition) -> JsonObject:
        if ref.resource == resource:
            stored = self._existing(ref)
            theirs = stored["metadata"]["uid"] if uid else precondition.uid
            precondition = Precondition(theirs, precondition.resource_version if uid else None)
        return checked(self, ref, precondition)

    return instead(FakeCluster, "_checked", lax)


def released_unseen(*, pods: bool, member: bool) -> Removal:
    """`_confirmed_gone` asks the API server for less than it should."""

    async def confirmed(context: Context, body: ComputeUnitPool) -> frozenset[tuple[str, Any]]:
        gone = set()
        for holding in holdings_of(body):
            ref = Ref(STATEFUL_SETS, body.namespace, holding.member)
            known = context.store.get(ref) or [
                each
                for each in context.store.all(PODS)
                if (each["metadata"].get("labels") or {}).get("reservedcapacity.io/member") == holding.member
            ]
            if holding.held or known:
                continue
            listing = await context.cluster.list(
                PODS, namespace=ref.namespace, label_selector=f"reservedcapacity.io/member={holding.member}"
            )
            if (pods and listing.items) or (member and await context.cluster.get(ref) is not None):
                continue
            gone.add((holding.member, holding.since))
        return frozenset(gone)

    return instead(pool, "_confirmed_gone", confirmed)


def whoever_has_its_name(_pool: object, gone: frozenset[tuple[str, Any]]) -> frozenset[str]:
    return frozenset(member for member, _ in gone)


def no_canary() -> Removal:
    return instead(Walk, "under_canary", property(lambda _self: False))


def plan_of(**changes: Any) -> Removal:
    """The pool's plan is made from a world with these fields replaced."""
    view_pool = pool_world.view_pool

    def viewed(*arguments: Any, **options: Any) -> pool_world.PoolView:
        view = view_pool(*arguments, **options)
        return replace(view, world=replace(view.world, **changes))

    return instead(pool, "view_pool", viewed)


def newest_version_at_write() -> Removal:
    """Claims are written on the version that the store knows by then, not on the one that was planned on."""
    write = capacity._write_claims

    async def late(context: Context, class_: Any, node: Any, _observed: JsonObject, change: Any) -> None:
        observed = context.store.get(Ref(NODES, "", change.node))
        if observed is None:
            raise Conflict("gone")
        await write(context, class_, node, observed, change)

    return instead(capacity, "_write_claims", late)


async def record_or_none(context: Context, pool: Ref, _member: ObservedMember) -> tuple[holdings.Holding, ...]:
    live = await context.cluster.get(pool)
    return holdings_of(ComputeUnitPool.parse(live)) if live is not None else ()


def forgetful(self: RememberingCluster, _ref: Ref, obj: JsonObject) -> JsonObject:
    return obj


@contextlib.contextmanager
def observes_anything() -> Iterator[None]:
    """The store takes in whatever it is told last, however old."""
    observe = Store._observe

    def observed(self: Store, resource: Resource, obj: JsonObject) -> Any:
        place = (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        shelf = self._shelf(resource)
        shelf.tombstones.clear()
        stored = shelf.objects.get(place)
        if stored is not None:
            aged = {**stored, "metadata": {**stored["metadata"], "resourceVersion": "0"}}
            shelf.objects[place] = aged
        return observe(self, resource, obj)

    with mock.patch.object(Store, "_observe", observed):
        yield


@contextlib.contextmanager
def keys_added_while_running_are_dropped() -> Iterator[None]:
    done = WorkQueue.done

    def forgets(self: WorkQueue, key: Any) -> None:
        self._again.pop(key, None)
        done(self, key)

    with mock.patch.object(WorkQueue, "done", forgets):
        yield


def route_without(resource: Resource) -> Removal:
    silent: Callable[..., Iterator[Any]] = lambda *_: iter(())  # noqa: E731
    return lambda: mock.patch.dict(routes._ROUTES, {resource: silent})


def demand_ignoring_holders(*arguments: Any) -> claims.ClaimDemand:
    return replace(claim_demand(*arguments), held={}, staying={})


_judge = eligibility.judge


def accepting_all(*arguments: Any, **options: Any) -> Mapping[str, eligibility.Verdict]:
    """Refusals are told, and acted upon all the same."""
    return {
        name: replace(verdict, demand=replace(verdict.demand, freeze=holdings.Freeze.NOTHING))
        for name, verdict in _judge(*arguments, **options).items()
    }


def unrecorded_pools_count() -> Removal:
    def pools(*arguments: Any) -> list[Any]:
        return [
            each
            if each.status.observed_generation
            else each.model_copy(update={"status": each.status.model_copy(update={"observed_generation": 1})})
            for each in pools_of_class(*arguments)
        ]

    return instead(capacity, "pools_of_class", pools)


_used: Callable[..., dict[str, int]] = holdings.blocks_held_by_node


def held_only(each: Any) -> dict[str, int]:
    return _used([holding for holding in each if holding.held])


class Unbounded(placement.Room):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.blocks = 1_000


async def publish_always(self: Context, ref: Ref, observed: JsonObject, status: Any) -> None:
    await self.cluster.replace_status(
        ref,
        Precondition(observed["metadata"]["uid"], observed["metadata"]["resourceVersion"]),
        {**observed, "status": status.to_wire()},
    )

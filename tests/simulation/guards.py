"""Guards of the production code (and of the API server), each with a way to take it away: the simulation must notice.

`ALONE` are guards whose loss breaks an invariant. `IN_DEPTH` are those behind which another one stands: nothing unsafe
comes of their loss, and each says why.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain import admission, claims, eligibility, holdings, members, placement, pool_plan
from reserved_capacity.loop import Loop
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    NODES,
    PODS,
    STATEFUL_SETS,
    Conflict,
    JsonObject,
    Precondition,
    Ref,
    Resource,
)
from reserved_capacity.queue import Deadlines, WorkQueue
from reserved_capacity.reconcilers import capacity, instance, pool, routes
from reserved_capacity.reconcilers.context import Board, Context
from reserved_capacity.snapshot import holdings_of, pool_world, pools_of_class
from reserved_capacity.snapshot.claims import claim_demand
from reserved_capacity.store import Store
from tests.fakes.cluster import FakeCluster
from tests.simulation.simulation import EVERYWHERE, Focus

Removal = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Guard:
    """`removed` takes it away; `behind`: what makes up for its loss; `focus` and `first` seed: where to look for the
    consequences."""

    name: str
    removed: Removal
    behind: str = ""
    focus: Focus = EVERYWHERE
    first: int = 0


def _instead(owner: object, attribute: str, value: object) -> Removal:
    return lambda: mock.patch.object(owner, attribute, value)


def _nothing(*_: object, **__: object) -> None:
    return None


async def _yes(*_: object, **__: object) -> bool:
    return True


def _no_lock(*_: object) -> contextlib.AbstractAsyncContextManager[None]:
    return contextlib.nullcontext()


def _none_held(*_: object) -> dict[str, int]:
    return defaultdict(int)


def _as_they_are(held: Any, *_: object) -> Any:
    return held


async def _done(*_: object, **__: object) -> None:
    return None


def _without_precondition(resource: Resource, *, uid: bool = False) -> Removal:
    """The API server does not look at the version (or the uid) of a write to these objects."""
    checked = FakeCluster._checked

    def lax(self: FakeCluster, ref: Ref, precondition: Precondition) -> JsonObject:
        if ref.resource == resource:
            stored = self._existing(ref)
            theirs = stored["metadata"]["uid"] if uid else precondition.uid
            precondition = Precondition(theirs, precondition.resource_version if uid else None)
        return checked(self, ref, precondition)

    return _instead(FakeCluster, "_checked", lax)


def _released_unseen(*, pods: bool, member: bool) -> Removal:
    """`_confirmed_gone` asks the API server for less than it should."""

    async def confirmed(context: Context, body: ComputeUnitPool) -> frozenset[str]:
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
            gone.add(holding.member)
        return frozenset(gone)

    return _instead(pool, "_confirmed_gone", confirmed)


def _plan_of(**changes: Any) -> Removal:
    """The pool's plan is made from a world with these fields replaced."""
    view_pool = pool_world.view_pool

    def viewed(*arguments: Any, **options: Any) -> pool_world.PoolView:
        view = view_pool(*arguments, **options)
        return replace(view, world=replace(view.world, **changes))

    return _instead(pool, "view_pool", viewed)


def _newest_version_at_write() -> Removal:
    """Claims are written on the version that the store knows by then, not on the one that was planned on."""
    write = capacity._write_claims

    async def late(context: Context, class_: Any, node: Any, _observed: JsonObject, change: Any) -> None:
        observed = context.store.get(Ref(NODES, "", change.node))
        if observed is None:
            raise Conflict("gone")
        await write(context, class_, node, observed, change)

    return _instead(capacity, "_write_claims", late)


async def _record_or_none(context: Context, world: Any) -> tuple[holdings.Holding, ...]:
    ref = Ref(COMPUTE_UNIT_POOLS, world.instance.namespace, world.instance.spec.pool_ref)
    live = await context.cluster.get(ref)
    return holdings_of(ComputeUnitPool.parse(live)) if live is not None else ()


def _forgetful(self: RememberingCluster, _ref: Ref, obj: JsonObject) -> JsonObject:
    return obj


@contextlib.contextmanager
def _observes_anything() -> Iterator[None]:
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
def _keys_added_while_running_are_dropped() -> Iterator[None]:
    done = WorkQueue.done

    def forgets(self: WorkQueue, key: Any) -> None:
        self._again.pop(key, None)
        done(self, key)

    with mock.patch.object(WorkQueue, "done", forgets):
        yield


def _route_without(resource: Resource) -> Removal:
    silent: Callable[..., Iterator[Any]] = lambda *_: iter(())  # noqa: E731
    return lambda: mock.patch.dict(routes._ROUTES, {resource: silent})


def _demand_ignoring_holders(*arguments: Any) -> claims.ClaimDemand:
    return replace(claim_demand(*arguments), held={}, staying={})


_judge = eligibility.judge


def _accepting_all(*arguments: Any, **options: Any) -> Mapping[str, eligibility.Verdict]:
    """Refusals are told, and acted upon all the same."""
    return {
        name: replace(verdict, demand=replace(verdict.demand, freeze=holdings.Freeze.NOTHING))
        for name, verdict in _judge(*arguments, **options).items()
    }


def _unrecorded_pools_count() -> Removal:
    def pools(*arguments: Any) -> list[Any]:
        return [
            each
            if each.status.observed_generation
            else each.model_copy(update={"status": each.status.model_copy(update={"observed_generation": 1})})
            for each in pools_of_class(*arguments)
        ]

    return _instead(capacity, "pools_of_class", pools)


_used: Callable[..., dict[str, int]] = holdings.blocks_held_by_node


def _held_only(each: Any) -> dict[str, int]:
    return _used([holding for holding in each if holding.held])


class _Unbounded(placement.Room):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.blocks = 1_000


async def _publish_always(self: Context, ref: Ref, observed: JsonObject, status: Any) -> None:
    await self.cluster.replace_status(
        ref,
        Precondition(observed["metadata"]["uid"], observed["metadata"]["resourceVersion"]),
        {**observed, "status": status.to_wire()},
    )


_LAGGING = {"late_writes": 0.4, "delivery": 0.15, "lost_events": 0.1}
_RACES = Focus(2, _LAGGING, ("scale", "delete_instance", "make_instance"))
_TAKERS = Focus(2, {"delivery": 0.3}, ("lose_gpus", "add_node", "make_instance", "scale", "foreign_pod"))
_OLD_NEWS = Focus(weather={"shuffled": 0.5, "twice_told": 0.4, "delivery": 0.4})
_BLIND = Focus(1, weather={"delivery": 0.1, "late_writes": 0.0})
_NODES = Focus(2, actions=("lose_gpus", "order_more", "add_node", "make_pool"), weather={"delivery": 1.0})
_SWAPS = Focus(1, actions=("lose_gpus", "lose_gpus", "add_node", "delete_instance"), weather={"late_writes": 0.0})
_REPEATS = Focus(1, {"late_writes": 0.6, "write_faults": 0.0}, ("scale", "scale"))
_NAMESAKES = Focus(1, actions=("make_anew", "delete_instance", "make_instance"), weather={"late_writes": 0.6})
_TERMS = Focus(actions=("wait_long", "order_more", "scale"))

ALONE: tuple[Guard, ...] = (
    Guard("resourceVersion of node writes (C2)", _without_precondition(NODES)),
    Guard("resourceVersion of pool status writes (C2)", _without_precondition(COMPUTE_UNIT_POOLS)),
    Guard("claims are written on the node version they were planned on", _newest_version_at_write(), focus=_NODES),
    Guard("confirm held: the record, before a member runs", _instead(instance, "_confirm_held", _yes), focus=_RACES),
    Guard(
        "confirm held: the claim, before a member runs",
        _instead(instance, "blocks_held_by_node", _none_held),
        focus=_TAKERS,
    ),
    Guard("confirm not held, before a member without a holding goes", _instead(instance, "_confirm_not_held", _done)),
    Guard(
        "confirm releases on the newest wish (C5)", _instead(pool, "_confirm_releases", _done), focus=Focus(operators=2)
    ),
    Guard("plan and write are one step per class (lock)", _instead(Context, "domain", _no_lock), focus=_NODES),
    Guard("confirmed gone: pods and member, live (C7)", _released_unseen(pods=False, member=False)),
    Guard("confirmed gone: the pods are listed (C7)", _released_unseen(pods=False, member=True)),
    Guard("foreign pods are listed before a claim (C11)", _instead(capacity, "_check_foreign_pods", _done)),
    Guard("claims of a pool that is gone stay while in use", _instead(capacity, "occupied", lambda *_, **__: {})),
    Guard("a pool that has not reported yet neither claims nor loses", _unrecorded_pools_count()),
    Guard("no member is touched while its pool has no record", _instead(instance, "_live_holdings", _record_or_none)),
    Guard("claims that members hold are not given back", _instead(capacity, "claim_demand", _demand_ignoring_holders)),
    Guard(
        "nodes that only lose claims are written first (I2)",
        _instead(claims._Ledger, "_grows", lambda *_: False),
        focus=_SWAPS,
    ),
    Guard("what is being released is still in use (C7)", _instead(placement, "blocks_held_by_node", _held_only)),
    Guard("no more is granted than is contracted (I2)", _instead(admission, "Room", _Unbounded), focus=_TERMS),
    Guard("the minimum is granted whole (C6)", _instead(admission._Admission, "_next_batch", lambda _self, one: [one])),
    Guard("a refused instance keeps what it has", _instead(pool_plan, "judge", _accepting_all)),
    Guard(
        "a former incarnation's holdings are released",
        _instead(pool_world, "_without_former_owners", _as_they_are),
        focus=_NAMESAKES,
    ),
    Guard("growth runs what the others run (R1, R3)", _instead(members, "current_revision", lambda _o, _u, new: new)),
    Guard("the store never goes back", _observes_anything, focus=_OLD_NEWS),
    Guard("one's own writes are seen at once", _instead(RememberingCluster, "_remembered", _forgetful), focus=_BLIND),
    Guard("keys that are added while they run, run again", _keys_added_while_running_are_dropped),
    Guard("deadlines", _instead(Deadlines, "set", _nothing), focus=_TERMS),
    Guard("a status that is there already is not written (I8)", _instead(Context, "publish", _publish_always)),
    Guard("pods that go wake their pool", _route_without(PODS)),
    Guard("nodes that change wake class and pools", _route_without(NODES)),
    Guard("a pool's verdicts wake its instances", _instead(Board, "post", lambda *_: set())),
)
IN_DEPTH: tuple[Guard, ...] = (
    Guard(
        "members are deleted in the foreground",
        lambda: mock.patch("tests.fakes.cluster.OWNING", frozenset()),
        behind="_confirmed_gone lists the pods as well as the StatefulSet",
    ),
    Guard(
        "uid of member deletes",
        _without_precondition(STATEFUL_SETS, uid=True),
        behind="only a delete that is under way for longer than a release and a new start would meet the namesake: not "
        "reached within 1,000 seeds",
        focus=_REPEATS,
    ),
    Guard(
        "confirmed gone: the member is read live",
        _released_unseen(pods=True, member=False),
        behind="a StatefulSet that was overlooked has no replicas yet: they come only after the holding is confirmed",
    ),
    Guard(
        "what was stumbled over is read anew",
        _instead(Loop, "_look_again", _done),
        behind="the watch or the periodic LIST brings it later",
    ),
    Guard(
        "names that are taken are not given to new members",
        _plan_of(members=frozenset()),
        behind="the new member meets the old one at its creation and waits until that is gone",
    ),
    Guard(
        "children of a former owner are not adopted",
        _instead(instance, "_owned_by", lambda _obj, _instance: True),
        behind="the garbage collector takes them with their owner, and they are made again",
        focus=_NAMESAKES,
    ),
)

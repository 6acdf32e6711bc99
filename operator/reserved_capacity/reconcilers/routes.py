"""Which keys a change wakes: every dependency between objects, on one page.

Each object wakes its own reconciler on any change, so that a status which somebody else wrote is mended. Others are
woken only by what they look at: mostly a new generation, since statuses change often and few depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.domain.nodes import failure_time
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    JOBS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    PRICE_BOOKS,
    SERVICES,
    STATEFUL_SETS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Ref,
    Resource,
)
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing.board import AGREEMENTS
from reserved_capacity.reconcilers.context import CAPACITY, INSTANCE, LIMITS, OFFERING, POOL, PRICE_BOOK, TOKENS
from reserved_capacity.reconcilers.differences import (
    borrowed,
    changed_holders,
    holders_on,
    http_route,
    is_overheld,
    moves,
    place_of,
    promises,
    respecified,
    selected,
    status_fields,
    term_ends,
)
from reserved_capacity.snapshot import (
    MEMBERS_BY_NODE,
    POOLS_BY_COMMITMENT,
    claims_of,
    conditions_of,
    repair_rules,
)
from reserved_capacity.store import (
    BY_FLEET,
    BY_OFFERING,
    BY_PRICE_BOOK,
    FOREIGN_PODS,
    INSTANCES_BY_POOL,
    POOLS_BY_CLASS,
    Store,
)

_Route = Callable[[JsonObject | None, JsonObject | None, Store], Iterator[Key]]


def keys_for(resource: Resource, old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterable[Key]:
    """The keys to reconcile after `old` became `new` (None: it was not, or is no more)."""
    return dict.fromkeys(_ROUTES[resource](old, new, store))


def _class(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    name = _either(old, new)["metadata"]["name"]
    yield Key(CAPACITY, "", name)
    if respecified(old, new):
        yield from _keys(POOL, store.by(POOLS_BY_CLASS, COMPUTE_UNIT_POOLS, name))
        yield from _keys(OFFERING, store.all(MODEL_OFFERINGS))


def _offering(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    name = _either(old, new)["metadata"]["name"]
    yield Key(OFFERING, "", name)
    if respecified(old, new):
        for instance in store.by(BY_OFFERING, MODEL_INSTANCES, name):
            yield from _instance_and_pool(instance)
    if http_route(old) != http_route(new):
        yield Key(LIMITS, "", name)
    if respecified(old, new) or promises(old) != promises(new):
        yield from _keys(INSTANCE, store.by(BY_OFFERING, MODEL_INSTANCES, name))
        yield from _keys(TOKENS, store.by(BY_OFFERING, TOKEN_UNIT_RESERVATIONS, name))
        yield Key(LIMITS, "", name)
    if old is None or new is None:
        yield from _keys(PRICE_BOOK, store.all(PRICE_BOOKS))


def _price_book(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    name = _either(old, new)["metadata"]["name"]
    yield Key(PRICE_BOOK, "", name)
    if respecified(old, new):
        pools = store.by(BY_PRICE_BOOK, COMPUTE_UNIT_POOLS, name)
        yield from _keys(POOL, pools)
        yield from _keys(AGREEMENTS, pools)
        yield from _keys(TOKENS, store.by(BY_PRICE_BOOK, TOKEN_UNIT_RESERVATIONS, name))


def _pool(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    pool = _either(old, new)
    place = place_of(pool)
    yield Key(POOL, *place)
    told = ("commitments", "holdings", "billing")
    if respecified(old, new) or status_fields(old, *told) != status_fields(new, *told):
        # `billing` too: another operator may have read the books later than this one, and is not to be overruled.
        yield Key(AGREEMENTS, *place)
    owed = ("commitments", "holdings")
    if (
        respecified(old, new)
        or status_fields(old, *owed) != status_fields(new, *owed)
        or borrowed(old) != borrowed(new)
    ):
        for each in filter(None, (old, new)):
            yield Key(CAPACITY, "", each["spec"]["acceleratorClass"])
    if old is None or new is None:
        yield from _keys(INSTANCE, store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, place))
    if respecified(old, new):
        # Who waits because of this pool's order references may have them now, or must not any more.
        for order in [order for each in (old, new) if each for order in each["spec"].get("commitments") or ()]:
            yield from _keys(POOL, store.by(POOLS_BY_COMMITMENT, COMPUTE_UNIT_POOLS, order["id"]))
    if old is None or new is None or term_ends(old) != term_ends(new):
        for instance in store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, place):
            yield Key(OFFERING, "", instance["spec"]["offering"])
    for name in changed_holders(old, new):
        yield Key(INSTANCE, place[0], name)
    yield from _backed_by(old, new, store)


def _backed_by(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    """Offerings whose token units run on this pool: how much there is decides what is asked of it, and what is missing."""
    if old is None or new is None or status_fields(old, "computeUnits") != status_fields(new, "computeUnits"):
        place = place_of(_either(old, new))
        yield from (Key(LIMITS, "", each["metadata"]["name"]) for each in store.by(BY_FLEET, MODEL_OFFERINGS, place))


def _instance(old: JsonObject | None, new: JsonObject | None, _store: Store) -> Iterator[Key]:
    instance = _either(old, new)
    yield Key(INSTANCE, *place_of(instance))
    backs = _label(instance["metadata"], meta.FLEET_LABEL)
    if backs and (respecified(old, new) or status_fields(old, *_SERVES) != status_fields(new, *_SERVES)):
        yield Key(LIMITS, "", backs)
    if respecified(old, new):
        # Both sides: a namesake made anew may have left another pool, and nobody else tells that one.
        for instance in filter(None, (old, new)):
            yield from _instance_and_pool(instance)
            yield Key(OFFERING, "", instance["spec"]["offering"])


def _tokens(old: JsonObject | None, new: JsonObject | None, _store: Store) -> Iterator[Key]:
    reservation = _either(old, new)
    offering = reservation["spec"]["offering"]
    yield Key(TOKENS, *place_of(reservation))
    if respecified(old, new) or status_fields(old, "lots") != status_fields(new, "lots"):
        yield Key(OFFERING, "", offering)
        yield Key(LIMITS, "", offering)


def _node(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    for node in (old, new):
        if node is not None:
            yield from _keys(CAPACITY, [obj for obj in store.all(ACCELERATOR_CLASSES) if selected(obj, node)])
            yield from (Key(POOL, claim.pool.namespace, claim.pool.name) for claim in claims_of(node))
    if _fitness(old) != _fitness(new):
        # Whose downtime it is depends on what is known of the nodes.
        yield from (_of_instance(each) for each in store.by(MEMBERS_BY_NODE, STATEFUL_SETS, _name(old, new)))
        yield from _whose_pods_may_be_there(old, new, store)
    if old is None or new is None:
        # A node that is gone has no claims to read; who holds blocks there knows it by name.
        name = _either(old, new)["metadata"]["name"]
        holding = [pool for pool in store.all(COMPUTE_UNIT_POOLS) if holders_on(pool, name)]
        yield from _keys(POOL, holding)
        yield from _waiting_for_a_claim(holding, name)
    elif claims_of(old) != claims_of(new):
        places = {(claim.pool.namespace, claim.pool.name) for each in (old, new) for claim in claims_of(each)}
        pools = [store.get(Ref(COMPUTE_UNIT_POOLS, *place)) for place in sorted(places)]
        yield from _waiting_for_a_claim(filter(None, pools), new["metadata"]["name"])


def _whose_pods_may_be_there(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    """Whether members that are to go can be confirmed gone; their StatefulSets may be gone already."""
    places = {(claim.pool.namespace, claim.pool.name) for node in (old, new) if node for claim in claims_of(node)}
    pools = [store.get(Ref(COMPUTE_UNIT_POOLS, *place)) for place in sorted(places)]
    yield from _waiting_for_a_claim(filter(None, pools), _name(old, new))


def _waiting_for_a_claim(pools: Iterable[JsonObject], node: str) -> Iterator[Key]:
    """Members whose blocks the pool may have again, or others have left: they run only on what it claims (ADR 0008)."""
    for pool in pools:
        namespace, _ = place_of(pool)
        yield from (Key(INSTANCE, namespace, name) for name in holders_on(pool, node))


def _fitness(node: JsonObject | None) -> tuple[Any, ...] | None:
    if node is None:
        return None
    conditions = (node.get("status") or {}).get("conditions") or ()
    unschedulable = bool((node.get("spec") or {}).get("unschedulable"))
    return (unschedulable, *sorted((each["type"], each["status"]) for each in conditions))


def _pod(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    pod = _either(old, new)
    if meta.PREFETCH_LABEL in (pod["metadata"].get("labels") or {}):
        yield from _pull(old, new, store)
        return
    yield from _child(old, new, store)
    was, now = (each["spec"].get("nodeName", "") if each is not None else "" for each in (old, new))
    if _goes(old, new):
        yield from _left(pod["metadata"], [was or now], store)
        yield from _around(was or now, store)
    elif now != was:
        yield from _around(now, store)
    if old is None or _troubles(old) != _troubles(new):
        # Its endpoint may have been seen before it; and why a step takes its time is told (S6).
        yield from _waiting_pool(pod["metadata"], store)


def _pull(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    """It is nobody's member: what counts is why it does not get on. That it has come to its end, its Job says."""
    metadata = _either(old, new)["metadata"]
    if _troubles(old) != _troubles(new):
        yield from _waiting_pool_of(metadata["namespace"], _label(metadata, meta.PREFETCH_LABEL), store)


def _troubles(pod: JsonObject | None) -> list[str]:
    """Why its containers wait. A message alone is no news: some count."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or ()
    return [((each.get("state") or {}).get("waiting") or {}).get("reason", "") for each in statuses]


def _around(name: str, store: Store) -> Iterator[Key]:
    """Whether a node that is not well counts as failed depends on the pods that are left on it, whosever they are (N1):
    all who have blocks there look again."""
    node = store.get(Ref(NODES, "", name))
    if node is None:
        yield from _keys(POOL, [pool for pool in store.all(COMPUTE_UNIT_POOLS) if name and holders_on(pool, name)])
        return
    classes = [obj for obj in store.all(ACCELERATOR_CLASSES) if selected(obj, node)]
    if any(failure_time(conditions_of(node), repair_rules(AcceleratorClass.parse(obj))) for obj in classes):
        yield from _keys(CAPACITY, classes)
        yield from (Key(POOL, claim.pool.namespace, claim.pool.name) for claim in claims_of(node))


def _goes(old: JsonObject | None, new: JsonObject | None) -> bool:
    """Is this incarnation gone, or going? A namesake may be seen before the end of the one that it replaces is."""
    if new is None or new["metadata"].get("deletionTimestamp"):
        return True
    return old is not None and old["metadata"]["uid"] != new["metadata"]["uid"]


def _left(metadata: JsonObject, nodes: Iterable[str], store: Store) -> Iterator[Key]:
    """Something of a pool is going: its blocks may be free soon, its node may count as failed (N1), and should the pool
    itself be gone, its claims may be dropped."""
    place = (metadata["namespace"], _label(metadata, meta.POOL_LABEL))
    pool = store.get(Ref(COMPUTE_UNIT_POOLS, *place))
    if pool is not None:
        # First: a pool that looked before a spare is claimed would say that there is none.
        yield Key(CAPACITY, "", pool["spec"]["acceleratorClass"])
    yield Key(POOL, *place)
    for node in filter(None, (store.get(Ref(NODES, "", name)) for name in nodes)):
        if pool is None:
            yield from _keys(CAPACITY, [obj for obj in store.all(ACCELERATOR_CLASSES) if selected(obj, node)])
        elif is_overheld(pool, node):
            yield from _waiting_for_a_claim([pool], node["metadata"]["name"])


def _foreign_pod(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    for pod in (old, new):  # one that is made anew under its name may be elsewhere
        node = store.get(Ref(NODES, "", pod["spec"]["nodeName"])) if pod is not None else None
        if node is not None:
            yield from _node(None, node, store)


def _stateful_set(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    yield from _child(old, new, store)
    metadata = _either(old, new)["metadata"]
    stops = old is not None and new is not None and old["spec"].get("replicas") and not new["spec"].get("replicas")
    if _goes(old, new) or stops:
        nodes = (metadata.get("annotations") or {}).get(meta.NODES_ANNOTATION, "")
        yield from _left(metadata, nodes.split(","), store)
    elif old is None:
        yield Key(POOL, metadata["namespace"], _label(metadata, meta.POOL_LABEL))


def _endpoint_slice(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    yield from _child(old, new, store)
    yield from _waiting_pool(_either(old, new)["metadata"], store)


def _waiting_pool(metadata: JsonObject, store: Store) -> Iterator[Key]:
    """The pool of a child's instance, if something in it waits for who serves."""
    yield from _waiting_pool_of(metadata["namespace"], _label(metadata, meta.INSTANCE_LABEL), store)


def _waiting_pool_of(namespace: str, name: str, store: Store) -> Iterator[Key]:
    instance = store.get(Ref(MODEL_INSTANCES, namespace, name))
    pool = store.get(Ref(COMPUTE_UNIT_POOLS, namespace, instance["spec"]["poolRef"])) if instance is not None else None
    if instance is not None and pool is not None and moves(pool):
        yield Key(POOL, namespace, instance["spec"]["poolRef"])


def _job(old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterator[Key]:
    yield from _child(old, new, store)
    yield from _waiting_pool(_either(old, new)["metadata"], store)


def _child(old: JsonObject | None, new: JsonObject | None, _store: Store) -> Iterator[Key]:
    metadata = _either(old, new)["metadata"]
    instance = _label(metadata, meta.INSTANCE_LABEL)
    if instance:
        yield Key(INSTANCE, metadata["namespace"], instance)


_ROUTES: dict[Resource, _Route] = {
    ACCELERATOR_CLASSES: _class,
    MODEL_OFFERINGS: _offering,
    PRICE_BOOKS: _price_book,
    COMPUTE_UNIT_POOLS: _pool,
    MODEL_INSTANCES: _instance,
    TOKEN_UNIT_RESERVATIONS: _tokens,
    NODES: _node,
    PODS: _pod,
    FOREIGN_PODS: _foreign_pod,
    STATEFUL_SETS: _stateful_set,
    SERVICES: _child,
    POD_DISRUPTION_BUDGETS: _child,
    CONTROLLER_REVISIONS: _child,
    JOBS: _job,
    ENDPOINT_SLICES: _endpoint_slice,
}


_SERVES = ("instances", "computeUnits")  # of a ModelInstance: what it serves with


def _either(old: JsonObject | None, new: JsonObject | None) -> JsonObject:
    obj = new if new is not None else old
    assert obj is not None, "a change has at least one side"  # noqa: S101
    return obj


def _instance_and_pool(instance: JsonObject) -> Iterator[Key]:
    namespace = instance["metadata"]["namespace"]
    yield Key(INSTANCE, namespace, instance["metadata"]["name"])
    yield Key(POOL, namespace, instance["spec"]["poolRef"])


def _of_instance(child: JsonObject) -> Key:
    return Key(INSTANCE, child["metadata"]["namespace"], _label(child["metadata"], meta.INSTANCE_LABEL))


def _name(old: JsonObject | None, new: JsonObject | None) -> str:
    return str(_either(old, new)["metadata"]["name"])


def _keys(reconciler: str, objects: Iterable[JsonObject]) -> Iterator[Key]:
    return (Key(reconciler, *place_of(obj)) for obj in objects)


def _label(metadata: JsonObject, label: str) -> str:
    return str((metadata.get("labels") or {}).get(label, ""))

"""Owns what the watches saw: the newest known state of every object that we look at, with indexes over it.

Three sources feed it: watch events (`observe`, `forget`), periodic LISTs (`replace`) and the answers to our own writes
(`observe`). resourceVersions order them, whatever order they arrive in, so the store never goes back: neither behind
our own last write, nor to an object that it has seen deleted. Every change is announced to the subscribers, whichever
source it came from; thus what a reconciler writes wakes those who depend on it, though the watch event that follows is
no news any more.

Stored objects are shared and never altered in place, only replaced: callers must not mutate what they get.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from reserved_capacity.doubts import Doubts
from reserved_capacity.ports import (
    CHILD_KINDS,
    COMPUTE_UNIT_POOLS,
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    PODS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Listing,
    Ref,
    Resource,
)
from reserved_capacity.trimming import essential

MANAGED_BY = "app.kubernetes.io/managed-by=reserved-capacity"
NOT_MANAGED_BY = "app.kubernetes.io/managed-by!=reserved-capacity"
INSTANCE_LABEL = "reservedcapacity.io/instance"

# Pods of others that use our GPUs. They are listed, not watched, and kept apart from ours by a resource of their own.
FOREIGN_PODS = Resource("", "v1", "pods#foreign", "Pod", namespaced=True)

# Of these kinds we look at our own objects only. An object that leaves the selector arrives as deleted. A StatefulSet's
# own revisions carry its pods' labels, and are as many as ours.
LABEL_SELECTORS: Mapping[Resource, str] = dict.fromkeys((PODS, *CHILD_KINDS, ENDPOINT_SLICES), MANAGED_BY) | {
    CONTROLLER_REVISIONS: f"{MANAGED_BY},!controller.kubernetes.io/hash",
    FOREIGN_PODS: NOT_MANAGED_BY,
}

_TOMBSTONES = 20_000

Trim = Callable[[Resource, JsonObject], JsonObject]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Change:
    """One object became known (old is None), different, or gone (new is None)."""

    ref: Ref
    old: JsonObject | None
    new: JsonObject | None


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Objects of some resources by any keys that `keys(object)` computes from their content. Compared by identity."""

    name: str
    resources: frozenset[Resource]
    keys: Callable[[JsonObject], Iterable[Hashable]]


def _spec_field(*path: str) -> Callable[[JsonObject], Iterable[Hashable]]:
    def keys(obj: JsonObject) -> Iterable[Hashable]:
        value: Any = obj.get("spec")
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return (value,) if isinstance(value, str) and value else ()

    return keys


def _by_instance(obj: JsonObject) -> Iterable[Hashable]:
    metadata = obj["metadata"]
    name = (metadata.get("labels") or {}).get(INSTANCE_LABEL)
    return ((metadata.get("namespace", ""), name),) if name else ()


def _by_pool(obj: JsonObject) -> Iterable[Hashable]:
    return ((obj["metadata"].get("namespace", ""), pool) for pool in _spec_field("poolRef")(obj))


def _by_fleet(obj: JsonObject) -> Iterable[Hashable]:
    fleet = ((obj.get("spec") or {}).get("tokenUnits") or {}).get("fleet") or {}
    pool = fleet.get("poolRef")
    return ((pool["namespace"], pool["name"]),) if pool else ()


# Key: (namespace, name of the ModelInstance), for everything that carries the label.
BY_INSTANCE = Index("by-instance", frozenset({*CHILD_KINDS, PODS, ENDPOINT_SLICES}), _by_instance)
# Key: (namespace, name of the pool).
INSTANCES_BY_POOL = Index("instances-by-pool", frozenset({MODEL_INSTANCES}), _by_pool)
# Key: name of the offering.
BY_OFFERING = Index("by-offering", frozenset({MODEL_INSTANCES, TOKEN_UNIT_RESERVATIONS}), _spec_field("offering"))
# Key: (namespace, name) of the pool on which the offering's fleet for token units runs.
BY_FLEET = Index("by-fleet", frozenset({MODEL_OFFERINGS}), _by_fleet)
# Key: name of the AcceleratorClass.
POOLS_BY_CLASS = Index("pools-by-class", frozenset({COMPUTE_UNIT_POOLS}), _spec_field("acceleratorClass"))
# Key: name of the PriceBook.
BY_PRICE_BOOK = Index(
    "by-price-book", frozenset({COMPUTE_UNIT_POOLS, TOKEN_UNIT_RESERVATIONS}), _spec_field("priceBookRef")
)
# Key: name of the Node.
PODS_BY_NODE = Index("pods-by-node", frozenset({PODS, FOREIGN_PODS}), _spec_field("nodeName"))

STANDARD_INDEXES = (
    BY_INSTANCE,
    INSTANCES_BY_POOL,
    BY_OFFERING,
    BY_FLEET,
    POOLS_BY_CLASS,
    BY_PRICE_BOOK,
    PODS_BY_NODE,
)

_Place = tuple[str, str]


@dataclass(slots=True)
class _Shelf:
    objects: dict[_Place, JsonObject] = field(default_factory=dict)
    tombstones: OrderedDict[str, int] = field(default_factory=OrderedDict)
    indexed: dict[Index, dict[Hashable, set[_Place]]] = field(default_factory=dict)
    listed_version: int | None = None


class Store:
    def __init__(self, indexes: Iterable[Index] = STANDARD_INDEXES, trim: Trim = essential) -> None:
        self._trim = trim  # what is kept of an object
        self._shelves: dict[Resource, _Shelf] = {}
        self._indexes = tuple(indexes)
        self._subscribers: list[Callable[[Change], None]] = []
        self.doubts = Doubts()
        self._parsed: dict[Ref, tuple[str, str, type[BaseModel], BaseModel]] = {}

    # ------------------------------------------------------------------------------------------------ what was seen

    def subscribe(self, subscriber: Callable[[Change], None]) -> None:
        """Have every change announced, after it is in the store. A subscriber must not raise, nor alter the store."""
        self._subscribers.append(subscriber)

    def observe(self, resource: Resource, obj: JsonObject) -> Change | None:
        """Take in one state of an object; None if it is older than what is known, or the same but for its version.

        A version that brings nothing new is kept all the same, so that preconditions are fresh.
        """
        if self._known(resource, obj) is not None:
            return None  # the echo of our own write, above all
        change = self._observe(resource, self._trim(resource, obj))
        self._announce(change)
        return change

    def forget(self, resource: Resource, obj: JsonObject) -> Change | None:
        """Take in that this incarnation is gone (or has left our label selector); None if that is no news."""
        place, uid, version = _place(obj), _uid(obj), _version(obj)
        shelf = self._shelf(resource)
        self._bury(shelf, uid, version)
        stored = shelf.objects.get(place)
        if stored is None or _uid(stored) != uid or _version(stored) > version:
            return None  # another incarnation is there by now, or it is back
        change = self._remove(resource, shelf, place)
        self._announce(change)
        return change

    def replace(self, resource: Resource, listing: Listing) -> list[Change]:
        """Take in a complete LIST: what it lacks is gone, unless it is newer than the LIST. Returns what changed."""
        shelf = self._shelf(resource)
        version = int(listing.resource_version)
        if self.is_restored(resource, listing):
            self.distrust(resource)
        changes = self._remove_unlisted(resource, shelf, listing, version)
        for obj in listing.items:
            change = self._observe(resource, obj if listing.trimmed else self._trim(resource, obj))
            if change is not None:
                changes.append(change)
        shelf.listed_version = version
        for change in changes:
            self._announce(change)
        return changes

    def is_restored(self, resource: Resource, listing: Listing) -> bool:
        """Whether the cluster was restored from a backup. A LIST is a consistent read: it is never older than the one before,
        and has no object older than we have seen it, unless we saw that later than the LIST."""
        version = int(listing.resource_version)
        if version < int(self.listed_version(resource) or 0):
            return True
        shelf = self._shelf(resource)
        return any(_version(obj) < _newest(shelf, obj) <= version for obj in listing.items)

    def distrust(self, resource: Resource) -> None:
        """What we know never happened, and versions of then and now cannot be compared: anything is newer."""
        shelf = self._shelf(resource)
        for place in shelf.objects:
            shelf.objects[place] = _with_version(shelf.objects[place], "0")
        shelf.tombstones.clear()
        self._parsed.clear()
        shelf.listed_version = 0

    def kept(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """What the store would keep of an object: the very one that it has, where that is this version of it. So a long
        LIST is never in memory as it was sent, nor what is known already a second time."""
        return self._known(resource, obj) or self._trim(resource, obj)

    # ------------------------------------------------------------------------------------------------ what is known

    def synced(self, resource: Resource) -> bool:
        """Whether a complete LIST has been taken in."""
        return self.listed_version(resource) is not None

    def listed_version(self, resource: Resource) -> str | None:
        """The version that the newest LIST is as of: a watch that begins there misses nothing."""
        shelf = self._shelves.get(resource)
        return str(shelf.listed_version) if shelf is not None and shelf.listed_version is not None else None

    def get(self, ref: Ref) -> JsonObject | None:
        shelf = self._shelves.get(ref.resource)
        return shelf.objects.get((ref.namespace, ref.name)) if shelf else None

    def all(self, resource: Resource) -> list[JsonObject]:
        """Every object of the resource, by namespace and name."""
        shelf = self._shelves.get(resource)
        return [shelf.objects[place] for place in sorted(shelf.objects)] if shelf else []

    def in_namespace(self, resource: Resource, namespace: str) -> list[JsonObject]:
        """The objects of one namespace, by name."""
        shelf = self._shelves.get(resource)
        return [shelf.objects[place] for place in sorted(shelf.objects) if place[0] == namespace] if shelf else []

    def by(self, index: Index, resource: Resource, key: Hashable) -> list[JsonObject]:
        """The objects of `resource` that `index` files under `key`, by namespace and name."""
        if index not in self._indexes:
            raise KeyError(f"index {index.name} is not registered with this store")
        if resource not in index.resources:
            raise KeyError(f"index {index.name} does not cover {resource}")
        shelf = self._shelves.get(resource)
        places = shelf.indexed.get(index, {}).get(key, ()) if shelf else ()
        return [shelf.objects[place] for place in sorted(places)] if shelf else []

    def parsed(self, ref: Ref, model: type[Model]) -> Model | None:
        """The object as `model`, parsed once per version; None if there is none. Raises pydantic's ValidationError.

        Shared like the object itself: not to be mutated.
        """
        obj = self.get(ref)
        if obj is None:
            self._parsed.pop(ref, None)
            return None
        return self._parse(ref, obj, model)

    def parsed_answer(self, ref: Ref, answer: JsonObject, model: type[Model]) -> Model:
        """What the API server has just answered, as `model`. Not parsed again where it is what the store holds, to the
        letter: the record of a full pool takes milliseconds, and each of its members asks for it."""
        known = self.get(ref)
        parts = (part for part in answer if part != "metadata")
        if known is not None and _is_same(known, answer) and all(known.get(part) == answer[part] for part in parts):
            return self._parse(ref, known, model)
        return model.model_validate(answer)

    def _parse(self, ref: Ref, obj: JsonObject, model: type[Model]) -> Model:
        uid, version = obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
        cached = self._parsed.get(ref)
        if cached is not None and cached[:3] == (uid, version, model) and isinstance(cached[3], model):
            return cached[3]
        value = model.model_validate(obj)
        self._parsed[ref] = (uid, version, model, value)
        return value

    # ------------------------------------------------------------------------------------------------------ internals

    def _shelf(self, resource: Resource) -> _Shelf:
        return self._shelves.setdefault(resource, _Shelf())

    def _known(self, resource: Resource, obj: JsonObject) -> JsonObject | None:
        """The object that we have, if it is this version of this incarnation."""
        shelf = self._shelves.get(resource)
        known = shelf.objects.get(_place(obj)) if shelf else None
        return known if known is not None and _is_same(known, obj) else None

    def _announce(self, change: Change | None) -> None:
        if change is not None:
            for subscriber in self._subscribers:
                subscriber(change)

    def _observe(self, resource: Resource, obj: JsonObject) -> Change | None:
        place, uid, version = _place(obj), _uid(obj), _version(obj)
        shelf = self._shelf(resource)
        if version <= shelf.tombstones.get(uid, -1):
            return None
        stored = shelf.objects.get(place)
        if stored is not None:
            # Two incarnations compare as well: versions are of the resource, not of the object.
            if _version(stored) >= version:
                return None
            if _same_content(stored, obj):
                shelf.objects[place] = obj
                return None
        self._unindex(resource, shelf, place)
        shelf.objects[place] = obj
        for index in self._indexes:
            if resource in index.resources:
                for key in index.keys(obj):
                    shelf.indexed.setdefault(index, {}).setdefault(key, set()).add(place)
        return Change(Ref(resource, *place), stored, obj)

    def _remove_unlisted(self, resource: Resource, shelf: _Shelf, listing: Listing, version: int) -> list[Change]:
        listed = {_place(obj) for obj in listing.items}
        changes = []
        for place in sorted(set(shelf.objects) - listed):
            stored = shelf.objects[place]
            if _version(stored) <= version:
                self._bury(shelf, _uid(stored), version)
                changes.append(self._remove(resource, shelf, place))
        return changes

    def _remove(self, resource: Resource, shelf: _Shelf, place: _Place) -> Change:
        self._unindex(resource, shelf, place)
        ref = Ref(resource, *place)
        self._parsed.pop(ref, None)
        return Change(ref, shelf.objects.pop(place), None)

    def _unindex(self, resource: Resource, shelf: _Shelf, place: _Place) -> None:
        stored = shelf.objects.get(place)
        if stored is None:
            return
        for index in self._indexes:
            if resource in index.resources:
                entries = shelf.indexed.get(index, {})
                for key in index.keys(stored):
                    entries[key].discard(place)
                    if not entries[key]:
                        del entries[key]

    @staticmethod
    def _bury(shelf: _Shelf, uid: str, version: int) -> None:
        shelf.tombstones[uid] = max(version, shelf.tombstones.pop(uid, version))
        while len(shelf.tombstones) > _TOMBSTONES:
            shelf.tombstones.popitem(last=False)


def _newest(shelf: _Shelf, obj: JsonObject) -> int:
    """The version in which we have seen this incarnation last, be it at its end."""
    stored = shelf.objects.get(_place(obj))
    alive = _version(stored) if stored is not None and _uid(stored) == _uid(obj) else 0
    return max(alive, shelf.tombstones.get(_uid(obj), 0))


def _place(obj: JsonObject) -> _Place:
    metadata = obj["metadata"]
    return (metadata.get("namespace") or "", metadata["name"])


def _uid(obj: JsonObject) -> str:
    return str(obj["metadata"]["uid"])


def _version(obj: JsonObject) -> int:
    return int(obj["metadata"]["resourceVersion"])


def _is_same(known: JsonObject, obj: JsonObject) -> bool:
    """The same version of the same incarnation."""
    return (_uid(known), _version(known)) == (_uid(obj), _version(obj))


def _with_version(obj: JsonObject, version: str) -> JsonObject:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}


def _same_content(old: JsonObject, new: JsonObject) -> bool:
    if old["metadata"]["uid"] != new["metadata"]["uid"]:
        return False
    return _with_version(old, "") == _with_version(new, "")

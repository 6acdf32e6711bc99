"""Owns an API server in memory: the Cluster port with the semantics that reconcilers rely on, and faults on demand.

Held to the real one by the contract tests (tests/contract, e2e/test_cluster_port.py). Deterministic: uids and
resourceVersions are counted, time is injected. Writes of the operator go through the port and are recorded; what users
and controllers do goes through the `user_*` methods, without preconditions, and is not recorded.

A stored object is never altered in place, only replaced; what is handed out is a copy, unless `shares` says that all
who ask keep their hands off it (the simulation, for speed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reserved_capacity.ports import (
    BACKEND_TRAFFIC_POLICIES,
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    EVENTS,
    NODES,
    OUR_KINDS,
    OWNING,
    PODS,
    SERVICES,
    WATCHED,
    AlreadyExists,
    Conflict,
    Invalid,
    JsonObject,
    Listing,
    NotFound,
    OutcomeUnknown,
    Precondition,
    Ref,
    Resource,
    Unavailable,
)
from reserved_capacity.store import FOREIGN_PODS, LABEL_SELECTORS, Store
from reserved_capacity.trimming import foreign_gpu_pods
from tests.fakes.documents import cloned, merged
from tests.fakes.selectors import matches_fields, matches_labels

FOREGROUND = "foregroundDeletion"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_WITHOUT_STATUS_SUBRESOURCE = frozenset({CONTROLLER_REVISIONS, ENDPOINT_SLICES, EVENTS})
_SERVERS_OWN = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
)
_WITHOUT_GENERATION = frozenset({NODES, SERVICES, ENDPOINT_SLICES, EVENTS, CONTROLLER_REVISIONS, PODS})

Watcher = Callable[[str, Resource, JsonObject], None]


class SimulatedCrash(BaseException):
    """The process dies here. A BaseException, so that no error handling of the code under test survives it."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the operator asked for. `outcome` is "ok" or the name of the exception it got."""

    verb: str
    ref: Ref
    body: JsonObject | None
    outcome: str

    def __str__(self) -> str:
        return f"{self.verb} {self.ref} -> {self.outcome}"


@dataclass(slots=True)
class Fault:
    """What happens to matching writes: `before` is raised instead of carrying it out, `after` once it is carried out.

    `skip` matching writes pass first, then `times` are hit.
    """

    before: BaseException | None = None
    after: BaseException | None = None
    matches: Callable[[str, Ref], bool] = lambda _verb, _ref: True
    skip: int = 0
    times: int = 1

    def hits(self, verb: str, ref: Ref) -> bool:
        if self.times <= 0 or not self.matches(verb, ref):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


def not_sent(**options: Any) -> Fault:
    return Fault(before=Unavailable("injected: connection refused"), **options)


def answer_lost(**options: Any) -> Fault:
    return Fault(after=OutcomeUnknown("injected: connection reset after the write"), **options)


@dataclass(slots=True)
class _Held:
    event: str
    resource: Resource
    obj: JsonObject


@dataclass(slots=True)
class FakeCluster:
    now: Callable[[], datetime] = lambda: _EPOCH
    writes: list[Write] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    watching: bool = True
    shares: bool = False
    absent: set[Resource] = field(default_factory=lambda: {BACKEND_TRAFFIC_POLICIES})
    _objects: dict[Resource, dict[tuple[str, str], JsonObject]] = field(default_factory=dict)
    _in_order: dict[Resource, list[JsonObject]] = field(default_factory=dict)
    _watchers: list[Watcher] = field(default_factory=list)
    _held: list[_Held] = field(default_factory=list)
    _version: int = 1000
    _uids: int = 0

    # ------------------------------------------------------------------------------------------------------ the port

    async def get(self, ref: Ref) -> JsonObject | None:
        await asyncio.sleep(0)
        return self.peek(ref)

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        await asyncio.sleep(0)
        return self.listing(resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector)

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        metadata = body["metadata"]
        ref = Ref(resource, metadata.get("namespace", "") if resource.namespaced else "", metadata["name"])
        return await self._write("create", ref, dict(body), lambda: self._create(ref, body))

    async def patch(self, ref: Ref, precondition: Precondition, merge: Mapping[str, Any]) -> JsonObject:
        def carry_out() -> JsonObject:
            stored = self._checked(ref, precondition)
            return self._put(ref, stored, merged(stored, _without_status(ref.resource, merge)))

        return await self._write("patch", ref, dict(merge), carry_out)

    async def replace_status(self, ref: Ref, precondition: Precondition, body: Mapping[str, Any]) -> JsonObject:
        def carry_out() -> JsonObject:
            if ref.resource in _WITHOUT_STATUS_SUBRESOURCE:
                raise NotFound(f"{ref.resource} has no status subresource")
            stored = self._checked(ref, precondition)
            if precondition.resource_version is None and ref.resource in OUR_KINDS:
                raise Invalid(f"{ref}: resourceVersion must be specified for an update of a custom resource")
            return self._put(ref, stored, {**stored, "status": self._copied(dict(body)).get("status", {})})

        return await self._write("replace_status", ref, dict(body), carry_out)

    async def delete(self, ref: Ref, precondition: Precondition) -> None:
        def carry_out() -> JsonObject:
            if self.peek(ref) is not None:
                self._checked(ref, precondition)
                self._mark_deleted(ref, foreground=ref.resource in OWNING)
            return {}

        await self._write("delete", ref, None, carry_out)

    # -------------------------------------------------------------------------------------- users, controllers, tests

    def copy(self) -> FakeCluster:
        """A cluster that holds the same, and that nobody watches. Objects are shared: they are only ever replaced."""
        objects = {resource: dict(shelf) for resource, shelf in self._objects.items()}
        return FakeCluster(
            now=self.now,
            shares=self.shares,
            absent=self.absent,
            _objects=objects,
            _version=self._version,
            _uids=self._uids,
        )

    def peek(self, ref: Ref) -> JsonObject | None:
        """The object as it is now (a copy)."""
        stored = self.stored(ref)
        return None if stored is None else self._copied(stored)

    def stored(self, ref: Ref) -> JsonObject | None:
        """The object as it is now, not to be altered."""
        return self._shelf(ref.resource).get((ref.namespace, ref.name))

    def all_stored(self, resource: Resource) -> Sequence[JsonObject]:
        """All objects, by namespace and name, not to be altered."""
        found = self._in_order.get(resource)
        if found is None:
            found = self._in_order[resource] = [obj for _, obj in sorted(self._shelf(resource).items(), key=_place)]
        return found

    @property
    def version(self) -> int:
        """The version of the last change."""
        return self._version

    def objects(self, resource: Resource) -> Sequence[JsonObject]:
        """Copies of all objects, by namespace and name."""
        return [self._copied(obj) for obj in self.all_stored(resource)]

    def listing(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        """What `list` answers, at once."""
        self._served(resource)
        items = [
            self._copied(obj)
            for obj in self.all_stored(resource)
            if (not namespace or obj["metadata"].get("namespace") == namespace)
            and matches_labels(label_selector, obj["metadata"].get("labels") or {})
            and matches_fields(field_selector, obj)
        ]
        return Listing(items, str(self._version))

    def user_create(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        metadata = body["metadata"]
        ref = Ref(resource, metadata.get("namespace", "") if resource.namespaced else "", metadata["name"])
        return self._copied(self._create(ref, body))

    def user_patch(self, ref: Ref, merge: Mapping[str, Any], *, status: bool = False) -> JsonObject:
        """Merge-patch the object, or with `status` its status subresource (`merge` is then {"status": ...})."""
        stored = self._existing(ref)
        change = {"status": merge["status"]} if status else _without_status(ref.resource, merge)
        return self._copied(self._put(ref, stored, merged(stored, change)))

    def user_delete(self, ref: Ref, *, foreground: bool = False) -> None:
        """`kubectl delete`: gone at once unless a finalizer, a grace period (pods) or `foreground` holds it."""
        self._existing(ref)
        self._mark_deleted(ref, foreground=foreground)

    def remove(self, ref: Ref) -> None:
        """The object is gone, whatever held it (a kubelet, or the garbage collector, has finished)."""
        obj = self._shelf(ref.resource).pop((ref.namespace, ref.name))
        self._in_order.pop(ref.resource, None)
        metadata = {**obj["metadata"], "resourceVersion": self._next_version()}
        self._emit("DELETED", ref.resource, {**obj, "metadata": metadata})

    def drop_finalizer(self, ref: Ref, finalizer: str) -> None:
        stored = self._existing(ref)
        held = [one for one in stored["metadata"].get("finalizers", []) if one != finalizer]
        if stored["metadata"].get("deletionTimestamp") and not held:
            self.remove(ref)
            return
        self._put(ref, stored, merged(stored, {"metadata": {"finalizers": held or None}}))

    # ------------------------------------------------------------------------------------------------------- watching

    def subscribe(self, watcher: Watcher) -> None:
        """Call `watcher(event type, resource, object)` for every change from now on."""
        self._watchers.append(watcher)

    def unsubscribe(self, watcher: Watcher) -> None:
        self._watchers.remove(watcher)

    def attach(self, store: Store) -> None:
        """LIST everything into `store`, then keep it up to date as the operator's watches do (foreign pods: `relist`)."""
        self.relist(store)

        def watcher(event: str, resource: Resource, obj: JsonObject) -> None:
            seen = matches_labels(LABEL_SELECTORS.get(resource, ""), obj["metadata"].get("labels") or {})
            if resource in WATCHED:
                (store.observe if seen and event != "DELETED" else store.forget)(resource, obj)

        self.subscribe(watcher)

    def relist(self, store: Store) -> None:
        """What the periodic LIST-diff does, for all resources."""
        for resource in WATCHED:
            store.replace(resource, self.listing(resource, label_selector=LABEL_SELECTORS.get(resource, "")))
        foreign = self.listing(PODS, label_selector=LABEL_SELECTORS[FOREIGN_PODS])
        store.replace(FOREIGN_PODS, foreign_gpu_pods(foreign, frozenset()))

    def disconnect(self) -> None:
        """Nobody watches any more: every process that did is dead."""
        self._watchers.clear()

    def hold_events(self) -> None:
        """From now on the watches lag: events are kept until `deliver_events` or `lose_events`."""
        self.watching = False

    def deliver_events(self) -> None:
        self.watching = True
        held, self._held = self._held, []
        for one in held:
            self._emit(one.event, one.resource, one.obj)

    def lose_events(self) -> None:
        """The events since `hold_events` never arrive; the next ones do."""
        self.watching = True
        self._held.clear()

    # ------------------------------------------------------------------------------------------------------ internals

    async def _write(
        self, verb: str, ref: Ref, body: JsonObject | None, carry_out: Callable[[], JsonObject]
    ) -> JsonObject:
        await asyncio.sleep(0)
        body = None if body is None else self._copied(body)
        fault = next((one for one in self.faults if one.hits(verb, ref)), None)
        try:
            if fault is not None and fault.before is not None:
                raise fault.before
            result = carry_out()
            if fault is not None and fault.after is not None:
                raise fault.after
        except BaseException as error:
            self.writes.append(Write(verb, ref, body, type(error).__name__))
            raise
        self.writes.append(Write(verb, ref, body, "ok"))
        return self._copied(result)

    def _served(self, resource: Resource) -> None:
        if resource in self.absent:
            raise NotFound(f"the server could not find the requested resource: {resource}")

    def _copied(self, obj: JsonObject) -> JsonObject:
        return obj if self.shares else cloned(obj)

    def _shelf(self, resource: Resource) -> dict[tuple[str, str], JsonObject]:
        return self._objects.setdefault(resource, {})

    def _keep(self, ref: Ref, obj: JsonObject) -> None:
        self._shelf(ref.resource)[ref.namespace, ref.name] = obj
        self._in_order.pop(ref.resource, None)

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def _existing(self, ref: Ref) -> JsonObject:
        stored = self._shelf(ref.resource).get((ref.namespace, ref.name))
        if stored is None:
            raise NotFound(f"{ref} not found")
        return stored

    def _checked(self, ref: Ref, precondition: Precondition) -> JsonObject:
        stored = self._existing(ref)
        metadata = stored["metadata"]
        if metadata["uid"] != precondition.uid:
            raise Conflict(f"{ref}: uid is {metadata['uid']}, not {precondition.uid}")
        if precondition.resource_version not in (None, metadata["resourceVersion"]):
            raise Conflict(f"{ref}: version is {metadata['resourceVersion']}, not {precondition.resource_version}")
        return stored

    def _create(self, ref: Ref, body: Mapping[str, Any]) -> JsonObject:
        self._served(ref.resource)
        if ref.resource.namespaced and not ref.namespace:
            raise Invalid(f"{ref}: no namespace")
        if (ref.namespace, ref.name) in self._shelf(ref.resource):
            raise AlreadyExists(f"{ref} already exists")
        self._uids += 1
        obj = self._copied(dict(body))
        if self.shares:
            obj["metadata"] = dict(obj["metadata"])
        obj.update(apiVersion=ref.resource.api_version, kind=ref.resource.kind)
        obj["metadata"].update(
            uid=f"00000000-0000-4000-8000-{self._uids:012d}",
            resourceVersion=self._next_version(),
            creationTimestamp=self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        if ref.resource not in _WITHOUT_GENERATION:
            obj["metadata"]["generation"] = 1
        if ref.resource not in _WITHOUT_STATUS_SUBRESOURCE | {NODES, PODS}:
            # Nodes and pods keep it, unlike on a real API server: tests and kubelets make them in one call.
            obj.pop("status", None)
        self._keep(ref, obj)
        self._emit("ADDED", ref.resource, obj)
        return obj

    def _put(self, ref: Ref, stored: JsonObject, wanted: JsonObject) -> JsonObject:
        """Store `wanted` with the server's own metadata; a write that changes nothing keeps its version (as etcd3 does)."""
        kept = {key: stored["metadata"][key] for key in _SERVERS_OWN if stored["metadata"].get(key) is not None}
        wanted = {**wanted, "metadata": {**wanted["metadata"], **kept}}
        if wanted == stored:
            return stored
        finalizers, before = (each["metadata"].get("finalizers") or [] for each in (wanted, stored))
        if stored["metadata"].get("deletionTimestamp") and set(finalizers) - set(before):
            raise Invalid(f"{ref}: no new finalizers can be added if the object is being deleted")
        spec_changed = {**wanted, "metadata": 0, "status": 0} != {**stored, "metadata": 0, "status": 0}
        if "generation" in stored["metadata"] and spec_changed:
            wanted["metadata"]["generation"] = stored["metadata"]["generation"] + 1
        held = wanted["metadata"].get("finalizers") or ref.resource == PODS
        if wanted["metadata"].get("deletionTimestamp") and not held:
            self.remove(ref)  # that was the last finalizer
            return wanted
        wanted["metadata"]["resourceVersion"] = self._next_version()
        self._keep(ref, wanted)
        self._emit("MODIFIED", ref.resource, wanted)
        return wanted

    def _mark_deleted(self, ref: Ref, *, foreground: bool) -> None:
        stored = self._existing(ref)
        metadata = dict(stored["metadata"])
        obj = {**stored, "metadata": metadata}
        if foreground and FOREGROUND not in metadata.get("finalizers", []):
            metadata["finalizers"] = [*metadata.get("finalizers", []), FOREGROUND]
        graceful = ref.resource == PODS and (obj.get("spec") or {}).get("nodeName")
        if not metadata.get("finalizers") and not graceful:
            self.remove(ref)
            return
        if not metadata.get("deletionTimestamp"):
            metadata["deletionTimestamp"] = self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        if metadata == stored["metadata"]:
            return
        if "generation" in metadata:
            metadata["generation"] += 1
        metadata["resourceVersion"] = self._next_version()
        self._keep(ref, obj)
        self._emit("MODIFIED", ref.resource, obj)

    def _emit(self, event: str, resource: Resource, obj: JsonObject) -> None:
        if not self.watching:
            self._held.append(_Held(event, resource, obj))
            return
        for watcher in self._watchers:
            watcher(event, resource, self._copied(obj))


def _without_status(resource: Resource, merge: Mapping[str, Any]) -> dict[str, Any]:
    keep_status = resource in _WITHOUT_STATUS_SUBRESOURCE
    return {key: value for key, value in merge.items() if keep_status or key != "status"}


def _place(entry: tuple[tuple[str, str], JsonObject]) -> tuple[str, str]:
    return entry[0]

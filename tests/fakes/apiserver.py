"""Owns the fake cluster's HTTP side: what Kopf and our client need of an API server, with faults on the wire.

One process-local aiohttp server over a FakeCluster. LIST, WATCH (history, bookmarks, 410 after compaction), GET, POST,
merge PATCH, PUT and DELETE, for every resource that the operator knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from reserved_capacity.ports import (
    EVENTS,
    WATCHED,
    AlreadyExists,
    ApiError,
    Conflict,
    JsonObject,
    Precondition,
    Ref,
    Resource,
)
from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import ref_of
from tests.fakes.selectors import matches_labels

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
# Kopf starts no stream before it has seen that there are namespaces.
_NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
_SERVED = (*WATCHED, EVENTS, LEASES, _NAMESPACES)
_MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(slots=True)
class WireFault:
    """`times` requests of `verb` (LIST, WATCH or an HTTP method, * for any) whose path contains `path` go wrong.

    With a `status` they are refused; `drop` cuts the connection, after the request was carried out if `applied`.
    """

    verb: str
    path: str
    status: int = 0
    drop: bool = False
    applied: bool = False
    delay: float = 0.0
    times: int = 1_000_000
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    verb: str
    path: str


@dataclass(frozen=True, slots=True)
class _Change:
    """An object was `old` and became `new` (None: was not, is no more); `last` is its last state."""

    resource: Resource
    old: JsonObject | None
    new: JsonObject | None
    last: JsonObject

    @property
    def version(self) -> int:
        return int(self.last["metadata"]["resourceVersion"])

    def told(self, selector: str) -> bytes:
        """To a watch with this selector an object that leaves it is deleted, as it was; one that enters is added."""
        was, is_ = (
            obj is not None and matches_labels(selector, obj["metadata"].get("labels") or {})
            for obj in (self.old, self.new)
        )
        if was and not is_:
            assert self.old is not None, "it matched"
            version = {"resourceVersion": self.last["metadata"]["resourceVersion"]}
            return _line("DELETED", {**self.old, "metadata": {**self.old["metadata"], **version}})
        return _line("MODIFIED" if was else "ADDED", self.last) if is_ else b""


@dataclass(slots=True)
class FakeApiServer:
    cluster: FakeCluster
    bookmark_seconds: float = 1.0
    faults: list[WireFault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    page: int = 1_000_000
    url: str = ""
    raw_events: dict[Resource, list[bytes]] = field(default_factory=dict)
    _history: list[_Change] = field(default_factory=list)
    _known: dict[Ref, JsonObject] = field(default_factory=dict)
    _compacted: int = 0
    _streams: set[asyncio.Queue[bytes | None]] = field(default_factory=set)
    _by_stream: dict[int, tuple[Resource, str]] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeApiServer:
        for resource in _SERVED:
            self._known |= {ref_of(resource, obj): obj for obj in self.cluster.all_stored(resource)}
        self.cluster.subscribe(self._changed)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    # --------------------------------------------------------------------------------------------------------- faults

    def fault(self, verb: str, path: str, **options: Any) -> WireFault:
        fault = WireFault(verb, path, **options)
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        self.faults.clear()

    def drop_watches(self) -> None:
        """End every stream, as a load balancer or a restarting API server does."""
        for stream in list(self._streams):
            stream.put_nowait(None)

    def compact(self) -> None:
        """Forget the history: a watch that resumes from before gets 410 and has to list."""
        self._history.clear()
        self._compacted = int(self.cluster.listing(LEASES).resource_version)

    def send_raw(self, resource: Resource, line: bytes) -> None:
        """Send a line as it is to the resource's streams."""
        for stream in list(self._streams):
            if self._by_stream[id(stream)][0] == resource:
                stream.put_nowait(line)

    @property
    def streams(self) -> int:
        """Watches that are open."""
        return len(self._streams)

    @property
    def mutations(self) -> list[Request]:
        return [request for request in self.requests if request.verb in _MUTATING and "/leases" not in request.path]

    # ------------------------------------------------------------------------------------------------------- requests

    def _changed(self, event: str, resource: Resource, obj: JsonObject) -> None:
        ref = ref_of(resource, obj)
        change = _Change(resource, self._known.pop(ref, None), None if event == "DELETED" else obj, obj)
        if change.new is not None:
            self._known[ref] = obj
        self._history.append(change)
        for stream in list(self._streams):
            of, selector = self._by_stream[id(stream)]
            if of == resource and (line := change.told(selector)):
                stream.put_nowait(line)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watching = request.query.get("watch") == "true"
        place = _place(request.path)
        listing = request.method == "GET" and place is not None and not place[1].name
        verb = "WATCH" if watching else "LIST" if listing else request.method
        self.requests.append(Request(verb, request.path))
        fault = next((one for one in self.faults if self._applies(one, verb, request.path)), None)
        if fault is not None:
            fault.times -= 1
            await asyncio.sleep(fault.delay)
            if fault.applied:
                await self._answer(request, verb)
            if fault.drop:
                if request.transport is not None:
                    request.transport.close()
                return web.Response()
            if fault.status:
                return _status(fault.status, "Injected", "injected", headers=fault.headers)
        return await self._answer(request, verb)

    @staticmethod
    def _applies(fault: WireFault, verb: str, path: str) -> bool:
        return fault.times > 0 and fault.verb in (verb, "*") and fault.path in path

    async def _answer(self, request: web.Request, verb: str) -> web.StreamResponse:
        place = _place(request.path)
        if place is None:
            return _discovery(request.path)
        resource, ref, status = place
        if verb == "WATCH":
            return await self._watch(request, resource)
        try:
            if verb == "LIST":
                return await self._list(request, resource, ref.namespace)
            return web.json_response(await self._object(request, ref, status), status=200)
        except AlreadyExists as error:
            return _status(409, "AlreadyExists", str(error))
        except ApiError as error:
            return _status(error.code, type(error).__name__, str(error))

    async def _object(self, request: web.Request, ref: Ref, status: bool) -> JsonObject:
        body = await request.json() if request.can_read_body else {}
        match request.method:
            case "GET":
                obj = self.cluster.peek(ref)
                if obj is None:
                    raise _NOT_FOUND
                return obj
            case "POST":
                if ref.namespace:
                    body["metadata"].setdefault("namespace", ref.namespace)
                return await self.cluster.create(ref.resource, body)
            case "PATCH":
                return await self.cluster.patch(ref, self._precondition(ref, body["metadata"]), body)
            case "PUT" if status:
                return await self.cluster.replace_status(ref, self._precondition(ref, body["metadata"]), body)
            case "PUT":
                return self._replace(ref, body)
            case _:
                if self.cluster.peek(ref) is None:
                    raise _NOT_FOUND
                await self.cluster.delete(ref, self._precondition(ref, body.get("preconditions") or {}))
                return {"kind": "Status", "status": "Success"}

    def _precondition(self, ref: Ref, given: JsonObject) -> Precondition:
        stored = self.cluster.peek(ref)
        if stored is None:
            raise _NOT_FOUND
        return Precondition(given.get("uid") or stored["metadata"]["uid"], given.get("resourceVersion"))

    def _replace(self, ref: Ref, body: JsonObject) -> JsonObject:
        stored = self.cluster.peek(ref)
        if stored is None:
            raise _NOT_FOUND
        if body["metadata"].get("resourceVersion") not in (None, stored["metadata"]["resourceVersion"]):
            raise Conflict(f"{ref}: the object has been modified")
        gone = dict.fromkeys(set(stored.get("spec") or {}) - set(body.get("spec") or {}))
        return self.cluster.user_patch(ref, {"spec": {**gone, **(body.get("spec") or {})}})

    async def _list(self, request: web.Request, resource: Resource, namespace: str) -> web.Response:
        token = request.query.get("continue")
        if token and int(token.split(":")[0]) < self._compacted:
            return _status(410, "Expired", "the provided continue parameter is too old")
        listing = self.cluster.listing(
            resource,
            namespace=namespace,
            label_selector=request.query.get("labelSelector", ""),
            field_selector=request.query.get("fieldSelector", ""),
        )
        version, start = (token or f"{listing.resource_version}:0").split(":")
        size = min(self.page, int(request.query.get("limit") or 1_000_000))
        end = int(start) + size
        metadata = {"resourceVersion": version}
        if end < len(listing.items):
            metadata["continue"] = f"{version}:{end}"
        items = [{k: v for k, v in obj.items() if k not in ("apiVersion", "kind")} for obj in listing.items]
        return web.json_response(
            {
                "apiVersion": resource.api_version,
                "kind": f"{resource.kind}List",
                "metadata": metadata,
                "items": items[int(start) : end],
            }
        )

    async def _watch(self, request: web.Request, resource: Resource) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        selector = request.query.get("labelSelector", "")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if since < self._compacted:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(_line("ERROR", gone))
            return response
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._streams.add(stream)
        self._by_stream[id(stream)] = (resource, selector)
        for change in list(self._history):
            if change.resource == resource and change.version > since and (line := change.told(selector)):
                stream.put_nowait(line)
        seconds = request.query.get("timeoutSeconds")
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(float(seconds) if seconds else None):
                    while (line := await self._next_line(stream, resource)) is not None:
                        await response.write(line)
        finally:
            self._streams.discard(stream)
        return response

    async def _next_line(self, stream: asyncio.Queue[bytes | None], resource: Resource) -> bytes | None:
        try:
            async with asyncio.timeout(self.bookmark_seconds):
                return await stream.get()
        except TimeoutError:
            version = self.cluster.listing(LEASES).resource_version
            mark = {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"resourceVersion": version},
            }
            return _line("BOOKMARK", mark)


def kubeconfig_for(server: FakeApiServer, directory: Path) -> Path:
    """A kubeconfig file that leads to the server."""
    path = directory / "kubeconfig"
    path.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {}}],"
        " contexts: [{name: c, context: {cluster: c, user: u}}],"
        f" clusters: [{{name: c, cluster: {{server: '{server.url}'}}}}]}}"
    )
    return path


class _Missing(ApiError):
    code = 404


_NOT_FOUND = _Missing("not found")


def _line(event: str, obj: JsonObject) -> bytes:
    return json.dumps({"type": event, "object": obj}).encode() + b"\n"


def _status(code: int, reason: str, message: str, *, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    return web.json_response(body, status=code, headers=headers)


def _place(path: str) -> tuple[Resource, Ref, bool] | None:
    """Resource, object (no name: the collection) and whether it is the status subresource."""
    for resource in _SERVED:
        prefix = f"/apis/{resource.group}/{resource.version}/" if resource.group else f"/api/{resource.version}/"
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        namespace = parts[1] if parts[0] == "namespaces" and len(parts) > 2 else ""
        rest = parts[2:] if namespace else parts
        if rest[0] == resource.plural:
            name = rest[1] if len(rest) > 1 else ""
            return resource, Ref(resource, namespace, name), rest[2:] == ["status"]
    return None


def _discovery(path: str) -> web.Response:
    if path == "/version":
        return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})
    if path == "/api":
        return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
    if path == "/apis":
        versions = {resource.group: resource.version for resource in _SERVED if resource.group}
        groups = [
            {
                "name": group,
                "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version},
            }
            for group, version in versions.items()
        ]
        return web.json_response({"kind": "APIGroupList", "groups": groups})
    resources = [
        {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "kind": resource.kind,
            "namespaced": resource.namespaced,
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        }
        for resource in _SERVED
        if path == (f"/apis/{resource.api_version}" if resource.group else "/api/v1")
    ]
    if not resources:
        return _status(404, "NotFound", f"no {path}")
    return web.json_response(
        {"kind": "APIResourceList", "groupVersion": resource_version(path), "resources": resources}
    )


def resource_version(path: str) -> str:
    return path.removeprefix("/apis/").removeprefix("/api/")

"""Owns every call that the operator makes to the API server, but for Kopf's streams and the Lease: the Cluster port.

Raw JSON over the official client, so that what the server says is what the store keeps. Writes name their field
manager, are validated strictly, carry their precondition in the body, and are never sent again from here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from reserved_capacity.adapters.failures import from_answer, from_broken_call
from reserved_capacity.adapters.joining import JointReads
from reserved_capacity.ports import (
    OWNING,
    ApiError,
    JsonObject,
    Listing,
    NotFound,
    Precondition,
    Ref,
    Resource,
    Unavailable,
)

FIELD_MANAGER = "reserved-capacity"
# Objects of one page of a LIST. A page is parsed in one piece, during which nothing else runs: this many pods take 50 ms.
CHUNK = 500
_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=5)
_RESTARTS = 3

WriteObserver = Callable[[str, str, int], None]
Trim = Callable[[Resource, JsonObject], JsonObject]


def _unobserved(_verb: str, _kind: str, _code: int) -> None:
    pass


class KubernetesCluster:
    """`api_client` is the library's; `reload` reads the credentials anew after a 401; `wrote(verb, kind, HTTP status)`
    is told of every write; `trim` says what is kept of each item of a LIST, page by page; `field_manager` is whom the API
    server names as the author of what is written."""

    def __init__(
        self,
        api_client: Any,
        *,
        reload: Callable[[], Awaitable[None]],
        wrote: WriteObserver = _unobserved,
        trim: Trim | None = None,
        field_manager: str = FIELD_MANAGER,
    ) -> None:
        self._api_client = api_client
        self._reload = reload
        self._wrote = wrote
        self._trim = trim
        self._writing = {"fieldManager": field_manager, "fieldValidation": "Strict"}
        self._joint = JointReads(self._get)

    async def get(self, ref: Ref) -> JsonObject | None:
        return await self._joint.get(ref)

    async def _get(self, ref: Ref) -> JsonObject | None:
        try:
            return _typed(ref.resource, await self._call("GET", _path(ref.resource, ref.namespace, ref.name)))
        except NotFound:
            return None

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        query = {"limit": str(CHUNK), "labelSelector": label_selector, "fieldSelector": field_selector}
        query = {name: value for name, value in query.items() if value}
        for _ in range(_RESTARTS):
            listing = await self._list_once(resource, _path(resource, namespace), query)
            if listing is not None:
                return listing
        raise Unavailable(f"list {resource}: its continue token expired {_RESTARTS} times in a row", code=410)

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        metadata = body["metadata"]
        namespace = metadata.get("namespace", "") if resource.namespaced else ""
        path = _path(resource, namespace)
        sent = _typed(resource, dict(body))
        answer = await self._write("create", resource, "POST", path, sent, query=self._writing)
        return _typed(resource, answer)

    async def patch(self, ref: Ref, precondition: Precondition, merge: Mapping[str, Any]) -> JsonObject:
        sent = {**merge, "metadata": {**(merge.get("metadata") or {}), **_preconditions(precondition)}}
        path = _path(ref.resource, ref.namespace, ref.name)
        answer = await self._write("patch", ref.resource, "PATCH", path, sent, query=self._writing)
        return _typed(ref.resource, answer)

    async def replace_status(self, ref: Ref, precondition: Precondition, body: Mapping[str, Any]) -> JsonObject:
        place = {"namespace": ref.namespace} if ref.namespace else {}
        # Of the metadata only what says which object this is about: the rest would be refused or ignored.
        metadata = {"name": ref.name, **place, **_preconditions(precondition)}
        kept = {field: body[field] for field in ("spec", "status") if field in body}
        sent = _typed(ref.resource, {"metadata": metadata, **kept})
        path = f"{_path(ref.resource, ref.namespace, ref.name)}/status"
        answer = await self._write("replace_status", ref.resource, "PUT", path, sent, query=self._writing)
        return _typed(ref.resource, answer)

    async def delete(self, ref: Ref, precondition: Precondition) -> None:
        sent = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if ref.resource in OWNING else "Background",
            "preconditions": _preconditions(precondition),
        }
        path = _path(ref.resource, ref.namespace, ref.name)
        try:
            await self._write("delete", ref.resource, "DELETE", path, sent, query={})
        except NotFound:
            return

    # ------------------------------------------------------------------------------------------------------ internals

    async def _list_once(self, resource: Resource, path: str, query: Mapping[str, str]) -> Listing | None:
        """All pages, or None when the token that continues them has expired: pages of two versions do not fit."""
        items: list[JsonObject] = []
        token = ""
        while True:
            page = {**query, "continue": token} if token else query
            try:
                answer = await self._call("GET", path, query=page)
            except ApiError as error:
                if token and error.code == 410:
                    return None
                raise
            page_items = (_typed(resource, item) for item in answer.get("items") or ())
            items.extend(self._trim(resource, item) if self._trim else item for item in page_items)
            metadata = answer["metadata"]
            token = metadata.get("continue") or ""
            if not token:
                return Listing(items, str(metadata["resourceVersion"]), trimmed=self._trim is not None)

    async def _write(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        body: JsonObject,
        *,
        query: Mapping[str, str],
    ) -> JsonObject:
        try:
            answer = await self._call(method, path, query=query, body=body)
        except ApiError as error:
            self._wrote(verb, resource.kind, error.code)
            raise
        self._wrote(verb, resource.kind, 201 if method == "POST" else 200)
        return answer

    async def _call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: JsonObject | None = None
    ) -> JsonObject:
        what, writing = f"{method} {path}", method != "GET"
        url = f"{path}?{urlencode(query)}" if query else path
        code, headers, data = await self._send(method, url, body, what)
        if code == 401:
            # The token may have been rotated since it was read. Refused as nobody, the request was not carried out.
            await self._reload()
            code, headers, data = await self._send(method, url, body, what)
        if code >= 400:
            raise from_answer(code, headers, data, what=what, writing=writing)
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise from_broken_call(error, what=what, writing=writing) from error
        if not isinstance(answer, dict):
            raise from_broken_call(TypeError("the answer is no object"), what=what, writing=writing)
        return answer

    async def _send(
        self, method: str, url: str, body: JsonObject | None, what: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": media}
        try:
            request = await self._api_client.param_serialize(
                method, url, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = await self._api_client.call_api(*request, _request_timeout=_TIMEOUT)
            return response.status, response.headers, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise from_broken_call(error, what=what, writing=method != "GET") from error


def _path(resource: Resource, namespace: str = "", name: str = "") -> str:
    parts = ["apis", resource.group, resource.version] if resource.group else ["api", resource.version]
    if namespace and resource.namespaced:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    if name:
        parts.append(name)
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _typed(resource: Resource, obj: JsonObject) -> JsonObject:
    """With apiVersion and kind, which the items of a list lack."""
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}


def _preconditions(precondition: Precondition) -> JsonObject:
    wanted: JsonObject = {"uid": precondition.uid}
    if precondition.resource_version is not None:
        wanted["resourceVersion"] = precondition.resource_version
    return wanted

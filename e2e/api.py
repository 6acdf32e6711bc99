"""The real API server as an administrator sees it: plain JSON over HTTPS, past whatever stands between it and the operator."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from kubernetes.aio import client, config

Json = dict[str, Any]

OURS = "/apis/reservedcapacity.io/v1alpha1"
CLASSES, OFFERINGS = f"{OURS}/acceleratorclasses", f"{OURS}/modelofferings"
PRICE_BOOKS = f"{OURS}/pricebooks"
POOLS, INSTANCES = f"{OURS}/computeunitpools", f"{OURS}/modelinstances"
NODES, PODS, NAMESPACES = "/api/v1/nodes", "/api/v1/pods", "/api/v1/namespaces"
STATEFUL_SETS = "/apis/apps/v1/statefulsets"
ENDPOINT_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
LEASES = "/apis/coordination.k8s.io/v1/leases"
_CLUSTER_SCOPED = frozenset({CLASSES, OFFERINGS, PRICE_BOOKS, NODES, NAMESPACES, POLICIES, BINDINGS})

# The loaders of the library have no annotations.
_config: Any = config


class Refused(Exception):
    """The API server said no. `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the API server is, how to trust it, and the headers that make us an administrator."""

    server: str
    tls: ssl.SSLContext | None
    headers: Mapping[str, str]

    @classmethod
    async def of(cls, kubeconfig: Path) -> Upstream:
        configuration = client.Configuration()
        await _config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        library: Any = client.ApiClient(configuration)
        headers: dict[str, str] = {}
        await library.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
        tls: ssl.SSLContext = library.rest_client.ssl_context
        await library.close()
        return cls(str(configuration.host), tls, headers)

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """A connection pool of its own, without credentials."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls if self.tls is not None else True)
        return aiohttp.ClientSession(connector=connector, trust_env=False, **options)


class Api:
    """`async with Api(upstream) as api`. Every method raises Refused for an answer of 400 and more."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        self._session = self._upstream.session(headers=self._upstream.headers)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, collection: str, namespace: str, name: str) -> Json:
        return await self._call("GET", _path(collection, namespace, name))

    async def list(self, collection: str) -> Json:
        return await self._call("GET", collection)

    async def apply(self, collection: str, body: Json) -> Json:
        """Server-side apply, as GitOps would: make it, or change our part of it."""
        metadata = body["metadata"]
        path = _path(collection, metadata.get("namespace", ""), metadata["name"])
        return await self._call(
            "PATCH", f"{path}?fieldManager=e2e&force=true", body, media="application/apply-patch+yaml"
        )

    async def patch(self, collection: str, namespace: str, name: str, merge: Json, subresource: str = "") -> Json:
        """A strategic merge patch for what is Kubernetes' own (taints and conditions are merged by key and type), a JSON
        merge patch for what is ours."""
        path = _path(collection, namespace, name) + (f"/{subresource}" if subresource else "")
        form = "merge-patch" if collection.startswith(OURS) else "strategic-merge-patch"
        return await self._call("PATCH", path, merge, media=f"application/{form}+json")

    async def delete(self, collection: str, namespace: str, name: str, *, force: bool = False) -> None:
        """Gone is as good as deleted. `force`: not waiting for a kubelet to say that a pod has ended."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0} if force else None
        try:
            await self._call("DELETE", _path(collection, namespace, name), options)
        except Refused as error:
            if error.code != 404:
                raise

    async def watch(self, collection: str, resource_version: str) -> AsyncIterator[Json]:
        """The events of one watch, until the server ends it."""
        assert self._session is not None
        query = {"watch": "true", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        url = f"{self._upstream.server}{collection}"
        async with self._session.get(url, params=query, timeout=timeout) as response:
            response.raise_for_status()
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def _call(self, method: str, path: str, body: Json | None = None, media: str = "application/json") -> Json:
        assert self._session is not None
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": media} if data is not None else {}
        timeout = aiohttp.ClientTimeout(total=60)
        async with self._session.request(
            method, f"{self._upstream.server}{path}", data=data, headers=headers, timeout=timeout
        ) as response:
            answer: Json = await response.json()
            if response.status >= 400:
                raise Refused(response.status, str(answer.get("message")))
            return answer


def body_of(kind: str, name: str, spec: Json, namespace: str = "") -> Json:
    """An object of ours, to apply."""
    place = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **place},
        "spec": spec,
    }


def _path(collection: str, namespace: str, name: str) -> str:
    prefix, _, plural = collection.rpartition("/")
    inside = "" if collection in _CLUSTER_SCOPED else f"/namespaces/{namespace}"
    return f"{prefix}{inside}/{plural}/{name}"

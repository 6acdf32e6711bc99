"""Owns how the API server is reached: where it is, whom it trusts and who we are, for our client and for Kopf's streams.

Credentials come from a kubeconfig or the pod's service account, through the library's loaders. Nothing is cached for
longer than a minute, and a 401 has everything loaded again: service account tokens rotate.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from kubernetes.aio import client, config
from kubernetes.aio.config import incluster_config

log = structlog.get_logger(__name__)

_config: Any = config  # the loaders have no annotations

# A stream that ends as soon as it begins is asked for no more often than this: Kopf opens the next one at once.
_BETWEEN_STREAMS_SECONDS = 1.0

_SERVICE_ACCOUNT = Path(incluster_config.SERVICE_TOKEN_FILENAME).parent


def in_cluster() -> bool:
    """Whether this process runs in a pod with a service account."""
    return (_SERVICE_ACCOUNT / "token").is_file() and (_SERVICE_ACCOUNT / "namespace").is_file()


def own_namespace() -> str | None:
    """The namespace of the pod that this process runs in, or None outside a cluster."""
    return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() if in_cluster() else None


class Access:
    """One API server and one identity. Make it inside the event loop, with `Access.load`."""

    def __init__(self, kubeconfig: Path | None) -> None:
        self._kubeconfig = kubeconfig
        self._configuration: Any = client.Configuration()
        self._clients: list[Any] = []

    @classmethod
    async def load(cls, kubeconfig: Path | None) -> Access:
        """From `kubeconfig`; without one from the service account in a pod, else from $KUBECONFIG or ~/.kube/config.

        Raises kubernetes' ConfigException.
        """
        access = cls(kubeconfig)
        await access.reload()
        return access

    async def reload(self) -> None:
        """Read the credentials anew, for the clients that exist as well."""
        if self._kubeconfig is None and in_cluster():
            _config.load_incluster_config(client_configuration=self._configuration)
            return
        path = str(self._kubeconfig) if self._kubeconfig is not None else None
        await _config.load_kube_config(config_file=path, client_configuration=self._configuration, persist_config=False)

    @property
    def server(self) -> str:
        return str(self._configuration.host)

    def api_client(self) -> Any:
        """The library's client, over a connection pool of its own. `close()` closes it."""
        # No proxy from the environment: whoever can set a variable could read what we send.
        self._configuration.client_session_kwargs = {"trust_env": False}
        # Ours decides what is sent again; the library must not.
        self._configuration.retries = None
        api_client = client.ApiClient(self._configuration)
        api_client.user_agent = "reserved-capacity"
        self._clients.append(api_client)
        return api_client

    def session(
        self, heard: Callable[[str], None], beginning_at: Callable[[str], Awaitable[str | None]]
    ) -> aiohttp.ClientSession:
        """A session for Kopf's streams. `heard(path of the URL)` is called when a request is accepted and for every piece
        of its answer that arrives: so also for bookmarks, which Kopf keeps to itself. A watch that would have everything
        sent once more begins at the version `beginning_at(path)` instead (docs/adr/0018)."""
        opened: dict[str, float] = {}
        authenticator = client.ApiClient(self._configuration)

        async def authenticated(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            if "watch" in request.url.query:
                due = opened.get(request.url.path, 0.0) + _BETWEEN_STREAMS_SECONDS
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                opened[request.url.path] = time.monotonic()
            headers: dict[str, str] = {}
            await authenticator.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
            request.headers.update(headers)
            response = await handler(request)
            if response.ok:
                heard(request.url.path)  # a stream with nothing to say is opened anew every 70 seconds
            response.content = _Stream(response.content, request.url.path, heard)  # type: ignore[assignment]
            return response

        async def from_our_list(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            if "sendInitialEvents" in request.url.query:
                version = await beginning_at(request.url.path)
                if version is not None:
                    plain = request.url.without_query_params("sendInitialEvents", "resourceVersionMatch")
                    request.url = plain.update_query(resourceVersion=version)
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=authenticator.rest_client.ssl_context),
            headers={"User-Agent": "reserved-capacity"},
            middlewares=(from_our_list, authenticated),
            proxy=self._configuration.proxy,
            trust_env=False,
        )

    async def close(self) -> None:
        for api_client in self._clients:
            await api_client.close()


class _Stream:
    """The body of a watch as Kopf is to see it: it tells of every piece that arrives, holds back a line until it is whole,
    and ends as a broken connection where it ends in mid-line or with an error, so that Kopf opens it anew from where it
    was. To Kopf itself half a line, or any error but 410, is the end of the process."""

    def __init__(self, body: Any, path: str, heard: Callable[[str], None]) -> None:
        self._body, self._path, self._heard = body, path, heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._body.iter_chunked(size):
            self._heard(self._path)
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            for line in whole.split(b"\n"):
                self._check(line)
            yield whole + newline
        if rest:
            self._break_off("it ended in the middle of a line")

    def _check(self, line: bytes) -> None:
        if b'"ERROR"' not in line[:20]:
            return
        error = json.loads(line)["object"]
        if error.get("code") != 410:
            self._break_off(f"{error.get('code')} {error.get('reason')}: {error.get('message')}")

    def _break_off(self, why: str) -> None:
        log.warning("watch broken off", path=self._path, why=why)
        raise aiohttp.ClientPayloadError(f"watch of {self._path}: {why}")

"""A reverse proxy in front of an API server: plain HTTP on loopback, faults by plan, and whole outages.

Everything but the fault is the real server's: requests are passed on with the caller's own token, and a fault "after
commit" lets the write be carried out before its answer is taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp
from aiohttp import web

from e2e.api import Upstream
from e2e.faults.plan import Fault, Plan
from e2e.faults.streams import relay

_REASONS = {
    Fault.CONFLICT: (409, "Conflict", "the object has been modified; please apply your changes to the latest version"),
    Fault.INVALID: (422, "Invalid", "injected: the object is invalid"),
    Fault.THROTTLED: (429, "TooManyRequests", "injected: too many requests, please try again later"),
    Fault.FAILED: (500, "InternalError", "injected: an error on the server has prevented the request from succeeding"),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable", "injected: the server is currently unable to handle the request"),
    Fault.UNKNOWN_USER: (401, "Unauthorized", "Unauthorized"),
    Fault.ANSWER_LOST: (504, "Timeout", "injected: the request did not complete within the requested timeout"),
}
_AFTER_COMMIT = frozenset({Fault.ANSWER_LOST, Fault.RESET_AFTER_COMMIT})
_OF_ONE_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"})
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_RETRY_AFTER_SECONDS = 1


@dataclass(slots=True)
class Proxy:
    """`async with Proxy(upstream, plan) as proxy`: `proxy.url` is where the operator is sent. `plan` can be replaced.
    `requests` counts what came in, by scope of the plan and by verb (WATCH is one), refused or not."""

    upstream: Upstream
    plan: Plan
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    url: str = ""
    _session: aiohttp.ClientSession | None = None
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None
    _port: int = 0
    _transports: set[asyncio.Transport] = field(default_factory=set)

    async def __aenter__(self) -> Proxy:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self._session = self.upstream.session(auto_decompress=False, timeout=timeout)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        await self.restore()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._runner is not None
        assert self._session is not None
        self._cut_all()
        await self._runner.cleanup()
        await self._session.close()

    async def outage(self) -> None:
        """From now on connections are refused, and those that stood are reset."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._cut_all()

    async def restore(self) -> None:
        """Serve (again), on the port of before."""
        assert self._runner is not None
        if self._site is not None:
            return
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await self._site.start()
        self._port = int(self._runner.addresses[-1][1])
        self.url = f"http://127.0.0.1:{self._port}"

    def _cut_all(self) -> None:
        for transport in list(self._transports):
            transport.abort()
        self._transports.clear()

    def writes(self, scope: str) -> int:
        return sum(count for (of, verb), count in self.requests.items() if of == scope and verb in _WRITES)

    # ------------------------------------------------------------------------------------------------------- one call

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if isinstance(transport, asyncio.Transport):
            self._transports.add(transport)
        verb = "WATCH" if request.query.get("watch") == "true" else request.method
        self.requests[self.plan.scope_of(request.path), verb] += 1
        fault = self.plan.for_call(verb, request.path)
        if fault in _AFTER_COMMIT:
            await self._passed_on(request)
        match fault:
            case None if verb == "WATCH":
                return await self._watch(request)
            case None:
                return await self._passed_on(request)
            case Fault.HANG:
                await self._hang(request)
                raise _cut(request)
            case Fault.RESET | Fault.RESET_AFTER_COMMIT:
                raise _cut(request)
            case _:
                return _refusal(fault)

    async def _passed_on(self, request: web.Request) -> web.Response:
        async with self._asked(request) as answer:
            body = await answer.read()
            return web.Response(status=answer.status, headers=_headers(answer.headers), body=body)

    async def _hang(self, request: web.Request) -> None:
        """Every other one that can be is carried out; none is answered, until the caller has had enough."""
        if request.method != "GET" and self.plan.count(Fault.HANG) % 2:
            await self._passed_on(request)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(300)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        async with self._asked(request) as answer:
            response = web.StreamResponse(status=answer.status, headers=_headers(answer.headers))
            await response.prepare(request)
            if answer.status != 200:
                await response.write(await answer.read())
                return response
            try:
                await relay(answer.content, response, self.plan, request)
            except (aiohttp.ClientError, ConnectionError):
                raise _cut(request) from None
            return response

    def _asked(self, request: web.Request) -> aiohttp.client._RequestContextManager:  # the type has no public name
        assert self._session is not None
        return self._session.request(
            request.method,
            f"{self.upstream.server}{request.rel_url.raw_path_qs}",
            headers=_headers(request.headers),
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        )


def _headers(of: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in of.items() if name.lower() not in _OF_ONE_HOP}


def _refusal(fault: Fault) -> web.Response:
    code, reason, message = _REASONS[fault]
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    response = web.Response(
        status=code, text=json.dumps({**status, "message": message}), content_type="application/json"
    )
    if fault == Fault.THROTTLED:
        response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return response


def _cut(request: web.Request) -> Exception:
    """Reset the connection; the exception to raise then, which nobody is left to hear."""
    if isinstance(request.transport, asyncio.Transport):
        request.transport.abort()
    return web.HTTPBadGateway()

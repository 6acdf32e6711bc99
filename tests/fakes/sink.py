"""Owns billing systems of the tests: one in memory behind the port, and one that is a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from aiohttp import web

from reserved_capacity.ledger_ports import Event, SinkError

HOLD = -1
"""As an answer: none, until the client has given up."""
LOST = -2
"""The events are taken, and the connection breaks before the answer."""
CUT = -3
"""The connection breaks before anything is read."""


class Received:
    """What a billing system has been sent, and what is left after it has dropped the ids that it had already."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def add(self, account: str, identity: str) -> None:
        self.sent.append((account, identity))

    @property
    def kept(self) -> dict[str, list[str]]:
        """The ids of each account, in the order in which they came first."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for account, identity in self.sent:
            found[account].setdefault(identity)
        return {account: list(ids) for account, ids in found.items()}


class FakeSink:
    """`reserved_capacity.ledger_ports.BillingSink` in memory. `failures` are raised one after the other, before the
    events are taken, or after if they come as a pair (True, error)."""

    def __init__(self) -> None:
        self.received = Received()
        self.failures: list[SinkError | tuple[bool, SinkError]] = []
        self.refuses: Callable[[Event], SinkError | None] = lambda _: None

    async def deliver(self, events: Sequence[Event]) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, SinkError):
            raise failure
        for event in events:
            refusal = self.refuses(event)
            if refusal is not None:
                raise refusal
        for event in events:
            self.received.add(event.account, event.id)
        if failure is not None:
            raise failure[1]


class HttpSink:
    """A billing system on a free port of this machine. `answers(number of the request)` decides what becomes of each: a
    status (the events are taken if it is 2xx), with headers if it is a pair, or HOLD, LOST, CUT."""

    def __init__(self, answers: Callable[[int], int | tuple[int, dict[str, str]]] = lambda _: 204) -> None:
        self.answers = answers
        self.received = Received()
        self.requests: list[tuple[str, list[dict[str, Any]]]] = []
        self.headers: list[dict[str, str]] = []
        self._released = asyncio.Event()

    async def __aenter__(self) -> HttpSink:
        application = web.Application()
        application.router.add_post("/api/v1/events", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        _, port = self._runner.addresses[0][:2]
        return f"http://127.0.0.1:{port}/api/v1/events"

    async def _take(self, request: web.Request) -> web.StreamResponse:
        content = json.loads(await request.read())
        number = len(self.requests)  # after the body has come: another request may be under way
        events = content if isinstance(content, list) else [content]
        self.requests.append((request.content_type, events))
        self.headers.append(dict(request.headers))
        given = self.answers(number)
        code, headers = given if isinstance(given, tuple) else (given, {})
        if code == HOLD:
            await self._released.wait()
        if code == LOST or 200 <= code < 300:
            for event in events:
                self.received.add(event["subject"], event["id"])
        if code < 0:
            assert request.transport is not None
            request.transport.abort()
            code = 500
        return web.Response(status=code, headers=headers, text="" if code < 300 else "no, because")

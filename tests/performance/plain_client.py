"""A plain client of the API server: the floor that the operator is measured against, and what plays the user."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from e2e.cluster.lifecycle import Cluster

JsonObject = dict[str, Any]

# As many requests at once as the operator has workers.
CONCURRENCY = 16
_MODEL_INSTANCES = "/apis/reservedcapacity.io/v1alpha1/modelinstances"


@dataclass(slots=True)
class PlainClient:
    """JSON in, JSON out, as the administrator; raises RuntimeError with the server's words."""

    session: aiohttp.ClientSession
    server: str

    async def call(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        while True:
            async with self.session.request(method, self.server + path, json=body, headers=headers) as response:
                answer: JsonObject = await response.json(content_type=None)
            if response.status == 429:  # the API server has just learned of the kind, and fills its cache
                await asyncio.sleep(1)
            elif response.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.get('message', answer)}")
            else:
                return answer

    async def items(self, path: str) -> list[JsonObject]:
        return list((await self.call("GET", path))["items"])

    async def watch(self, path: str, seen: Callable[[JsonObject], None]) -> None:
        """Tell `seen` of every object of the collection, now and whenever it changes, until cancelled."""
        while True:  # the server ends watches of a kind whose CRD it takes in once more
            listing = await self.call("GET", path)
            for item in listing["items"]:
                seen(item)
            version = listing["metadata"]["resourceVersion"]
            async with self.session.get(f"{self.server}{path}?watch=true&resourceVersion={version}") as response:
                pending = b""
                # Not `readline`: it refuses lines over 64 KiB.
                async for chunk in response.content.iter_any():
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        if "metadata" in (obj := json.loads(line)["object"]) and "name" in obj["metadata"]:
                            seen(obj)


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[PlainClient]:
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(server["certificate-authority-data"]).decode()
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {user['token']}", "User-Agent": "bench"},
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority), limit=2 * CONCURRENCY),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:
        yield PlainClient(session, server["server"])


async def at_once(jobs: Iterable[Callable[[], Awaitable[Any]]], limit: int = CONCURRENCY) -> None:
    """Run all jobs, `limit` at a time, in their order."""
    waiting = iter(jobs)

    async def worker() -> None:
        for job in waiting:
            await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())


@dataclass(slots=True)
class Conditions:
    """When each ModelInstance was first seen with a condition that is True, by (namespace, name)."""

    at: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)
    _progress: asyncio.Event = field(default_factory=asyncio.Event)
    _watch: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        reached = (f"{len(self.at.get(type_, {}))} {type_}" for type_ in ("CapacityReserved", "Ready"))
        return ", ".join(reached)

    def seen(self, obj: JsonObject) -> None:
        place = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        for condition in (obj.get("status") or {}).get("conditions") or ():
            if condition["status"] == "True":
                self.at.setdefault(condition["type"], {}).setdefault(place, time.monotonic())
        self._progress.set()

    async def reached(self, type_: str, count: int, timeout_seconds: float) -> float:
        """Wait until so many instances have the condition; the moment at which the last of them was seen to have it."""
        async with asyncio.timeout(timeout_seconds):
            while len(self.at.get(type_, {})) < count:
                assert self._watch is not None
                assert not self._watch.done(), f"the watch ended: {self._watch}"
                self._progress.clear()
                await self._progress.wait()
        return max(self.at[type_].values())

    @asynccontextmanager
    async def watched(self, client: PlainClient) -> AsyncIterator[Conditions]:
        self._watch = asyncio.create_task(client.watch(_MODEL_INSTANCES, self.seen))
        self._watch.add_done_callback(lambda _: self._progress.set())
        try:
            yield self
        finally:
            self._watch.cancel()
            await asyncio.wait([self._watch])

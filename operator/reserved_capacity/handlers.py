"""Owns everything that Kopf does for us, on one page: log in, and tell the store what the watch streams say.

Handlers of events only, which decide nothing and cannot fail, so Kopf has nothing to write, nothing to retry and nothing
to lose: one failed PATCH of the framework loses the event, kills the timer or leaves a deleted object in its index
(research/reliability.md E1, E2, E15; tests/faults keeps watch on that).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kopf

from reserved_capacity.adapters.access import Access
from reserved_capacity.ports import WATCHED, JsonObject, Resource
from reserved_capacity.store import LABEL_SELECTORS, Store

_UNUSED = "reservedcapacity.io/kopf-unused"
_BETWEEN_LOGINS_SECONDS = 2.0


def registry(
    store: Store,
    access: Access,
    heard: Callable[[Resource], None],
    where_to_watch_from: Callable[[Resource], Awaitable[str | None]],
) -> kopf.OperatorRegistry:
    """Every trigger that there is. `heard` is called for each sign of life of a resource's stream, bookmarks included;
    `where_to_watch_from` before a stream that has no place to go on from, and so would have everything sent again."""
    handlers = kopf.OperatorRegistry()
    by_collection = {_collection(resource): resource for resource in WATCHED}

    logins = _Logins()

    def heard_at(path: str) -> None:
        if (resource := by_collection.get(path)) is not None:
            heard(resource)

    async def beginning_at(path: str) -> str | None:
        resource = by_collection.get(path)
        return await where_to_watch_from(resource) if resource is not None else None

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        await logins.wait()
        await access.reload()
        return kopf.AiohttpSession(server=access.server, aiohttp_session=access.session(heard_at, beginning_at))

    for resource in WATCHED:
        kopf.on.event(resource.group, resource.version, resource.plural, id=f"seen/{resource}", registry=handlers)(
            _seen(resource, store)
        )
    return handlers


def _seen(resource: Resource, store: Store) -> Callable[..., Any]:
    async def seen(event: JsonObject, **_: Any) -> None:
        if event["type"] == "DELETED":
            store.forget(resource, event["object"])
        else:
            store.observe(resource, event["object"])

    return seen


def settings() -> kopf.OperatorSettings:
    """Kopf's settings; what is not here keeps its default. The reasons are in research/reliability.md 2.3."""
    chosen = kopf.OperatorSettings()
    chosen.process.ultimate_exiting_timeout = 20
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.watching.server_timeout = 270
    chosen.watching.client_timeout = 300
    chosen.watching.connect_timeout = 10
    chosen.watching.reconnect_backoff = 1.0
    chosen.watching.inactivity_timeout = 70
    chosen.watching.initial_streaming = True  # which Access.session turns into a watch from our own LIST
    for resource, selector in LABEL_SELECTORS.items():
        if resource in WATCHED:
            chosen.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
    chosen.queueing.worker_limit = None
    chosen.queueing.error_delays = (1, 2, 5, 10)
    chosen.scanning.disabled = True
    chosen.execution.executor = ThreadPoolExecutor(max_workers=2)  # a tripwire: nothing of ours is synchronous
    chosen.networking.request_timeout = 15
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = _Backoffs()
    chosen.networking.enforce_retry_after = True
    chosen.networking.trust_env = False
    # Never written. Were they, by mistake, everybody could see whose they are.
    chosen.persistence.finalizer = _UNUSED
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_UNUSED)
    chosen.persistence.diffbase_storage = _NoDiffBase()
    return chosen


async def stop(root_tasks: Collection[asyncio.Task[Any]], told: asyncio.Event) -> None:
    """End what `kopf.spawn_tasks` began, whether it still runs or has failed. Raises what it failed of."""
    told.set()
    if any(task.done() for task in root_tasks):
        # When one stream fails, Kopf leaves the others running, and cancels them later in a way that they can ignore.
        streams = [task for task in asyncio.all_tasks() if task.get_name().startswith("watcher for ")]
        for task in streams:
            task.cancel()
        if streams:
            await asyncio.wait(streams, timeout=2.0)
    ours = asyncio.all_tasks() - set(root_tasks)
    async with asyncio.timeout(5.0):
        await kopf.run_tasks(root_tasks, ignored=ours)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Kopf copies every object of every event to compare it with what it handled last. Nothing of ours asks for that."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        """Nowhere."""


class _Backoffs:
    """Growing delays without an end, drawn anew for every request that fails: when they end, Kopf ends the process, and
    an API server that is away is no reason for that (docs/adr/0013)."""

    def __iter__(self) -> Iterator[float]:
        for seconds in itertools.chain((0.5, 1.0, 2.0, 4.0), itertools.repeat(8.0)):
            yield seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing


class _Logins:
    """Keeps logins apart: Kopf logs in again at once for as long as the API server answers 401."""

    def __init__(self) -> None:
        self._last = float("-inf")

    async def wait(self) -> None:
        await asyncio.sleep(max(0.0, self._last + _BETWEEN_LOGINS_SECONDS - time.monotonic()))
        self._last = time.monotonic()


def _collection(resource: Resource) -> str:
    """The path of the resource's cluster-wide collection, which Kopf's streams read."""
    prefix = f"/apis/{resource.group}" if resource.group else "/api"
    return f"{prefix}/{resource.version}/{resource.plural}"

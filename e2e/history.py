"""What really happened, from the side that no fault touches: every version of every object, in the order of etcd.

Resource versions are one sequence for the whole cluster, so the watches of several kinds can be laid into one history, and
"at every write" can be taken literally: `replay` shows the world after each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

import aiohttp

from e2e.api import (
    CLASSES,
    ENDPOINT_SLICES,
    INSTANCES,
    NODES,
    OFFERINGS,
    PODS,
    POOLS,
    STATEFUL_SETS,
    Api,
    Json,
    Refused,
)
from e2e.waiting import PATIENCE_SECONDS, eventually

WATCHED = (CLASSES, NODES, PODS, STATEFUL_SETS, ENDPOINT_SLICES, POOLS, INSTANCES, OFFERINGS)

Found = TypeVar("Found")
Place = tuple[str, str, str]  # collection, namespace, name


@dataclass(frozen=True, slots=True)
class Happening:
    """One write: what the object is after it, None when it is gone; `was` is what it was before."""

    version: int
    place: Place
    was: Json | None
    obj: Json | None


World = dict[Place, Json]


@dataclass(slots=True)
class History:
    """`async with History(api) as history`: from then on it knows what is, and remembers what was."""

    api: Api
    now: World = field(default_factory=dict)
    happenings: list[Happening] = field(default_factory=list)
    _start: World = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> History:
        versions = {}
        for collection in WATCHED:
            listed = await self._listed(collection)
            versions[collection] = listed["metadata"]["resourceVersion"]
            for obj in listed["items"]:
                self._start[_place(collection, obj)] = obj
        self.now.update(self._start)
        self._tasks = [asyncio.create_task(self._follow(each, version)) for each, version in versions.items()]
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # ------------------------------------------------------------------------------------------------------------ now

    def of(self, collection: str, namespace: str | None = None) -> list[Json]:
        """The objects of a kind that are there now, in the order of their names."""
        return [
            obj
            for (kind, space, _), obj in sorted(self.now.items(), key=lambda item: item[0])
            if kind == collection and namespace in (None, space)
        ]

    def get(self, collection: str, namespace: str, name: str) -> Json | None:
        return self.now.get((collection, namespace, name))

    @property
    def version(self) -> int:
        """Of the newest write that has been heard of."""
        return max((each.version for each in self.happenings), default=0)

    async def until(
        self,
        look: Callable[[], Found],
        what: str,
        seconds: float = PATIENCE_SECONDS,
        tell: Callable[[], object] = lambda: "",
    ) -> Found:
        """Wait until `look` finds something true; what it found. `tell` says what is there instead."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            left = deadline - time.monotonic()
            assert left > 0, f"not within {seconds:.0f} s: {what}: {tell()}"
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), min(left, 1.0))
            for task in self._tasks:
                if task.done():
                    task.result()
        return found

    # ------------------------------------------------------------------------------------------------------------ was

    def replay(self) -> Iterator[tuple[Happening, World]]:
        """Each write in the order of etcd, with the world as it was after it. The world is one and the same dict."""
        world = dict(self._start)
        for happening in sorted(self.happenings, key=lambda each: each.version):
            if happening.obj is None:
                world.pop(happening.place, None)
            else:
                world[happening.place] = happening.obj
            yield happening, world

    def ever(self, collection: str, namespace: str) -> set[str]:
        """The uids of all objects of a kind that there have been since."""
        return {
            each.obj["metadata"]["uid"]
            for each in self.happenings
            if each.obj is not None and each.place[:2] == (collection, namespace)
        }

    async def _listed(self, collection: str) -> Json:
        async def listing() -> Json | None:
            try:
                return await self.api.list(collection)
            except Refused as error:
                # A CRD that has just been applied is not served yet, or its storage is being prepared.
                if error.code not in (404, 429):
                    raise
                return None

        found: Json = await eventually(listing, f"{collection} is served")
        return found

    async def _follow(self, collection: str, version: str) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
                async for event in self.api.watch(collection, version):
                    obj = event["object"]
                    assert event["type"] != "ERROR", f"the history of {collection} has a gap: {obj}"
                    version = obj["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        await self._take(collection, event["type"], obj)

    async def _take(self, collection: str, kind: str, obj: Json) -> None:
        place = _place(collection, obj)
        left = None if kind == "DELETED" else obj
        version = int(obj["metadata"]["resourceVersion"])
        self.happenings.append(Happening(version, place, self.now.get(place), left))
        if left is None:
            self.now.pop(place, None)
        else:
            self.now[place] = left
        async with self._changed:
            self._changed.notify_all()


def _place(collection: str, obj: Json) -> Place:
    return (collection, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])

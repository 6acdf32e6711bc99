"""Owns that those who ask for one object at the same time are answered by one read of it.

A read must begin after it was asked for, or it might miss what the asker knows has happened. So nobody joins a read that
is under way: all who come meanwhile share the next one. Each member that is made asks for its pool, which has a thousand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from reserved_capacity.ports import JsonObject, Ref

Answer = JsonObject | None


class JointReads:
    """`read` asks the API server, each time that it is called."""

    def __init__(self, read: Callable[[Ref], Awaitable[Answer]]) -> None:
        self._read = read
        self._under_way: dict[Ref, asyncio.Task[Answer]] = {}
        self._next: dict[Ref, asyncio.Task[Answer]] = {}

    async def get(self, ref: Ref) -> Answer:
        # Whoever is cancelled leaves the read to the others.
        return await asyncio.shield(self._one_that_begins_from_now_on(ref))

    def _one_that_begins_from_now_on(self, ref: Ref) -> asyncio.Task[Answer]:
        if ref in self._next:
            return self._next[ref]
        if ref in self._under_way:
            self._next[ref] = self._task(self._after(self._under_way[ref], ref))
            return self._next[ref]
        self._under_way[ref] = self._task(self._begin(ref))
        return self._under_way[ref]

    async def _after(self, before: asyncio.Task[Answer], ref: Ref) -> Answer:
        await asyncio.wait([before])
        self._under_way[ref] = self._next.pop(ref)
        return await self._begin(ref)

    async def _begin(self, ref: Ref) -> Answer:
        try:
            return await self._read(ref)
        finally:
            del self._under_way[ref]

    @staticmethod
    def _task(reading: Any) -> asyncio.Task[Answer]:
        task: asyncio.Task[Answer] = asyncio.create_task(reading)
        # Where all who asked were cancelled nobody looks at what became of it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

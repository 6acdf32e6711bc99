"""Where unclaimed blocks are while claims are planned, so that a pool's plan does not look at every node (C3).

Nodes of one zone with equally many free blocks lie on one shelf, a heap by name. A node that changes is put on another
shelf and left on its former one; what has another count by now is passed over, so nothing is ever searched for.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Vacancy:
    """The free blocks of one node; `whole`: nobody else has anything of it."""

    zone: str
    free: int
    whole: bool


@dataclass(slots=True)
class _Zone:
    free: int = 0
    shelves: dict[Vacancy, list[str]] = field(default_factory=dict)


class Vacancies:
    """The usable nodes of a class that have free blocks."""

    def __init__(self) -> None:
        self._nodes: dict[str, Vacancy] = {}
        self._zones: dict[str, _Zone] = {}

    def put(self, name: str, vacancy: Vacancy) -> None:
        """What is free on a node from now on."""
        before = self._nodes.get(name)
        if vacancy == before:
            return
        zone = self._zones.setdefault(vacancy.zone, _Zone())
        zone.free += vacancy.free - (before.free if before else 0)
        self._nodes[name] = vacancy
        if vacancy.free:
            heapq.heappush(zone.shelves.setdefault(vacancy, []), name)

    def free_by_zone(self) -> dict[str, int]:
        """Blocks, for the zones that have any."""
        return {name: zone.free for name, zone in self._zones.items() if zone.free}

    def take(self, zone: str, wanted: int, own: Iterable[str]) -> list[tuple[str, int]]:
        """Take so many blocks of a zone, or all that it has: untouched nodes that are wanted whole, the largest first,
        then the best fit, rather on one of the pool's `own` nodes. Returns nodes and blocks in the order of taking."""
        taken = []
        for name, blocks in self._take_whole(zone, wanted):
            taken.append((name, blocks))
            wanted -= blocks
        return taken + self._take_best(zone, wanted, own)

    def _take_whole(self, zone: str, wanted: int) -> Iterator[tuple[str, int]]:
        shelves = [each for each in self._zones[zone].shelves if each.whole]
        for shelf in sorted(shelves, key=lambda each: -each.free):
            while shelf.free <= wanted and (name := self._first(shelf)) is not None:
                self._remove(name, shelf.free)
                wanted -= shelf.free
                yield name, shelf.free

    def _take_best(self, zone: str, wanted: int, own: Iterable[str]) -> list[tuple[str, int]]:
        taken: list[tuple[str, int]] = []
        if not wanted:
            return taken
        preferred: dict[int, list[str]] = {}
        for name in sorted(own, reverse=True):
            if (vacancy := self._nodes.get(name)) is not None and vacancy.zone == zone:
                preferred.setdefault(vacancy.free, []).append(name)
        sizes = {shelf.free for shelf in self._zones[zone].shelves}
        # One node on which all fits, the tightest; or else the largest rests, so that the pool is on few nodes.
        for free in sorted(sizes, key=lambda free: (free < wanted, free if free >= wanted else -free)):
            while wanted and (tightest := self._next(zone, free, preferred.get(free, []))) is not None:
                blocks = min(free, wanted)
                self._remove(tightest, blocks)
                taken.append((tightest, blocks))
                wanted -= blocks
        return taken

    def _next(self, zone: str, free: int, preferred: list[str]) -> str | None:
        if preferred:
            return preferred.pop()
        found = (self._first(Vacancy(zone, free, whole)) for whole in (True, False))
        return min((name for name in found if name is not None), default=None)

    def _first(self, shelf: Vacancy) -> str | None:
        names = self._zones[shelf.zone].shelves.get(shelf, [])
        while names and self._nodes[names[0]] != shelf:
            heapq.heappop(names)
        return names[0] if names else None

    def _remove(self, name: str, blocks: int) -> None:
        before = self._nodes[name]
        self.put(name, Vacancy(before.zone, before.free - blocks, whole=False))

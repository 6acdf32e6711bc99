"""The pool while the rollouts of its instances take their steps: who holds what, who serves, where there is room.

Every step goes through here, so what one rollout takes is not there for the next, and what one stops counts for all.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from reserved_capacity.domain.holdings import (
    Demand,
    Holding,
    HoldingState,
    PoolState,
    Request,
    standing,
    succeeded,
)
from reserved_capacity.domain.placement import Place, Room, best_fit
from reserved_capacity.domain.units import cu_of
from reserved_capacity.domain.versions import Version


class Ground:
    """`pool.holdings` has nobody in it who is gone. `wishes` are the demands as they were asked."""

    def __init__(self, pool: PoolState, wishes: Sequence[Demand], now: datetime) -> None:
        self.pool, self.wishes, self.now = pool, wishes, now
        self.holdings = {holding.member: holding for holding in pool.holdings}
        self._by_instance: dict[str, dict[str, Holding]] = {}
        for holding in pool.holdings:
            self._by_instance.setdefault(holding.instance, {})[holding.member] = holding
        self._serving_by_instance = Counter[str]()
        self.notes: list[str] = []
        healthy = {node.name for node in pool.nodes if not node.failed}
        # Who is on a node that has failed serves nobody, whatever the EndpointSlices still say.
        self.lost = {name for name, each in self.holdings.items() if not healthy.issuperset(each.nodes)}
        self.serving = (pool.available & self.holdings.keys()) - self.lost
        for name in self.serving:
            self._serving_by_instance[self.holdings[name].instance] += self.holdings[name].held
        self.room = Room(pool, pool.holdings)
        # Who lost its node, or has to leave it, comes first: rollouts live on what that leaves (N2, N3).
        self._keep_room(self.room, self.lost)

    def _keep_room(self, room: Room, members: Iterable[str]) -> None:
        former, topology = succeeded(self.holdings.values()), {each.instance: each for each in self.pool.demands}
        for name in sorted(members):
            holding = self.holdings[name]
            if holding.held and name not in former and holding.instance in topology:
                room.place_all([_room_of(holding, topology[holding.instance])])

    # ----------------------------------------------------------------------------------------------------------- facts

    def of(self, instance: str) -> list[Holding]:
        """All that it holds, also what it gives back."""
        return list(self._by_instance.get(instance, {}).values())

    def held_by(self, instance: str) -> list[Holding]:
        """Members that are not being given back, by name."""
        return sorted((each for each in self.of(instance) if each.held), key=lambda each: each.member)

    def standing(self, instance: str) -> int:
        """Instances that it holds; one that moves counts once."""
        return len(standing(self.of(instance)))

    def heirs(self, instance: str) -> dict[str, Holding]:
        """Who was made in place of whom, by the name of the former."""
        return succeeded(self.of(instance))

    def serves(self, member: str) -> bool:
        return member in self.serving and self.holdings[member].held

    def serving_of(self, instances: Iterable[str]) -> int:
        return sum(self._serving_by_instance[each] for each in instances)

    def usable(self, holding: Holding) -> bool:
        """May a successor be placed where this member is?"""
        return self.room.free.keys() >= set(holding.nodes)

    # ------------------------------------------------------------------------------------------------------------ room

    def find(self, request: Request) -> Place | None:
        """Nodes with room for one more, or None; nothing is taken."""
        return _find(self.room, request)

    def fits(self, request: Request, count: int) -> bool:
        """Is there room for so many more at once?"""
        room = copy.copy(self.room)
        room.free = dict(self.room.free)
        return room.place_all([request] * count) is not None

    def fits_when_released(self, request: Request) -> bool:
        """Would there be room if all that is being given back were?"""
        held = [each for each in self.holdings.values() if each.held]
        return len(held) < len(self.holdings) and _find(Room(self.pool, held), request) is not None

    def spare_cu(self) -> int:
        return cu_of(min(sum(self.room.free.values()), self.room.room_for(1)))

    def largest_piece_cu(self) -> int:
        return cu_of(max(self.room.free.values(), default=0))

    def keep(self, request: Request, count: int) -> None:
        """Whoever comes next does not get these places."""
        for _ in range(count):
            self.room.place_all([request])

    def reserve(self, wants: Mapping[str, tuple[Request, int]]) -> dict[str, dict[str, int]]:
        """Blocks to keep free for rollouts that are under way, by instance and node, as far as those that leave a node spare
        them."""
        if not any(count for _, count in wants.values()):
            return {}
        room = Room(self.pool, list(self.holdings.values()))
        leaving = {node.name for node in self.pool.nodes if node.evacuate}
        self._keep_room(room, [name for name, each in self.holdings.items() if not leaving.isdisjoint(each.nodes)])
        reserved: dict[str, dict[str, int]] = {}
        for instance, (request, count) in wants.items():
            mine = reserved.setdefault(instance, {})
            for _ in range(count):
                places = room.place_all([request])
                for node in places[0] if places else ():
                    mine[node] = mine.get(node, 0) + request.part
        return reserved

    # ----------------------------------------------------------------------------------------------------------- steps

    def place(self, demand: Demand, request: Request, version: Version, *, replaces: str = "") -> Holding | None:
        """Reserve room for one new member; its StatefulSet follows from the holding (ADR 0003)."""
        places = self.room.place_all([request])
        if places is None:
            return None
        name = self._free_name(demand.instance)
        new = Holding(
            demand.instance,
            name,
            request.blocks,
            places[0],
            self.now,
            instance_uid=demand.uid,
            replaces=replaces,
            version=version,
        )
        self._put(new)
        instead = f" in place of {replaces}" if replaces else ""
        self.notes.append(f"placing {name} with {version} on {', '.join(new.nodes)}{instead}")
        return new

    def take_over(self, heir: str, member: str) -> None:
        """From now on the successor stands for this member, and not for whom it was made."""
        self._put(replace(self.holdings[heir], replaces=member))

    def release(self, member: str, why: str) -> None:
        holding = self.holdings[member]
        self._serving_by_instance[holding.instance] -= self.serves(member)
        self._put(replace(holding, state=HoldingState.RELEASING))
        self.notes.append(f"releasing {member}: {why}")

    def _put(self, holding: Holding) -> None:
        self.holdings[holding.member] = holding
        self._by_instance.setdefault(holding.instance, {})[holding.member] = holding

    def _free_name(self, instance: str) -> str:
        """R1: the lowest ordinal that nobody uses."""
        ordinal = 0
        while (name := f"{instance}-{ordinal}") in self.holdings or name in self.pool.taken:
            ordinal += 1
        return name


def _room_of(holding: Holding, demand: Demand) -> Request:
    return Request(holding.blocks, len(holding.nodes), demand.topology_key)


def _find(room: Room, request: Request) -> Place | None:
    if not 0 < request.blocks <= room.room_for(1):
        return None
    return best_fit(room.free, request, room.labels)


def request_of(demand: Demand, members: Sequence[Holding]) -> Request:
    """Room for one more member: as large as those that are there, whatever the offering says today (R1, R3)."""
    if not members:
        return demand.request
    return Request(members[0].blocks, len(members[0].nodes), demand.topology_key)

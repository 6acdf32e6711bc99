"""Who gets blocks, who gives them back, who moves, and why the rest waits (behaviour.md C4-C9, N1-N3).

A holding is made before its member's StatefulSet and goes only after the member's pods are gone: reserve before you
create, confirm gone before you release. Nothing that serves is ever preempted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice

from .holdings import (
    BlockedMove,
    Demand,
    Freeze,
    Holding,
    HoldingsPlan,
    HoldingState,
    PoolState,
    Request,
    Wait,
    Waiting,
    effective_desired,
    ordinal_of,
)
from .placement import Place, Room
from .units import cu_of
from .waits import Requests, Waits


def plan_holdings(pool: PoolState, *, now: datetime) -> HoldingsPlan:
    """Drop what is gone, release what is no longer wanted, move what has to leave its node, then grant in order.

    A request that fits is not starved behind one that does not (C5). The first placement of an offering grants its
    minimum whole or not at all; above it, one instance at a time (C6).
    """
    notes: list[str] = []
    kept = _drop_gone(pool, notes)
    kept = _release(replace(pool, holdings=tuple(kept)), notes)
    admission = _Admission(replace(pool, holdings=tuple(kept)), now, notes)
    blocked = admission.evacuate()
    waits = admission.grant()
    holdings = tuple(sorted(admission.holdings, key=lambda holding: holding.member))
    return HoldingsPlan(holdings, waits, tuple(notes), blocked, admission.wanted(waits, blocked))


def _drop_gone(pool: PoolState, notes: list[str]) -> list[Holding]:
    kept = []
    for holding in sorted(pool.holdings, key=lambda holding: holding.member):
        if not holding.held and holding.member in pool.gone:
            notes.append(f"{holding.member} is gone: {cu_of(holding.blocks)} CU are idle again")
        else:
            kept.append(holding)
    return kept


# ------------------------------------------------------------------------------------------------------------- releases


def _release(pool: PoolState, notes: list[str]) -> list[Holding]:
    """Mark the surplus members of every instance as Releasing."""
    wanted = {demand.instance: demand for demand in pool.demands}
    held_by: dict[str, list[Holding]] = {}
    for holding in pool.holdings:
        if holding.held:
            held_by.setdefault(holding.instance, []).append(holding)
    leaving: set[str] = set()
    for instance, held in sorted(held_by.items()):
        demand = wanted.get(instance)
        keep = effective_desired(demand, len(held)) if demand else 0
        for holding in _surplus(pool, held, keep):
            leaving.add(holding.member)
            why = f"{instance} asks for {keep}" if demand else f"{instance} is deleted"
            notes.append(f"releasing {holding.member}: {why}")
    return [
        replace(holding, state=HoldingState.RELEASING) if holding.member in leaving else holding
        for holding in pool.holdings
    ]


def _surplus(pool: PoolState, held: Sequence[Holding], keep: int) -> list[Holding]:
    """The members to release: those off usable nodes first, then the highest ordinals.

    Members on a cordoned node are in surplus because others were made in their place: they go one by one, as soon as
    enough of the others serve.
    """
    surplus = max(0, len(held) - keep)
    if not surplus:
        return []
    cordoned = {node.name for node in pool.nodes if node.evacuate and not node.failed}
    usable = {node.name for node in pool.nodes if node.usable}
    moving = [holding for holding in held if cordoned.intersection(holding.nodes)]
    staying = [holding for holding in held if holding not in moving]
    staying.sort(key=lambda holding: (not usable.issuperset(holding.nodes), ordinal_of(holding)), reverse=True)
    released = staying[: max(0, surplus - len(moving))]
    if moving:
        first = min(moving, key=lambda holding: (holding.member in pool.available, ordinal_of(holding)))
        serving = sum(holding.member in pool.available for holding in held if holding not in (*released, first))
        if serving >= keep:
            released.append(first)
    return released


# --------------------------------------------------------------------------------------------------------------- grants


class _Admission:
    """The pool while blocks are given out: what is held so far, where there is room, and what each instance misses."""

    def __init__(self, pool: PoolState, now: datetime, notes: list[str]) -> None:
        self.pool, self.now, self.notes = pool, now, notes
        self.holdings = list(pool.holdings)
        self.room = Room(pool, pool.holdings)
        self.held = Counter(holding.instance for holding in pool.holdings if holding.held)
        self.demands = {demand.instance: demand for demand in pool.demands}
        self.missing = {demand.instance: _missing(demand, self.held[demand.instance]) for demand in pool.demands}
        self.names = _free_member_names(pool)
        self.offerings: dict[str, list[Demand]] = {}  # in order of admission
        self.serving = Counter[str]()  # instances, by offering
        for demand in sorted(pool.demands, key=lambda demand: demand.admission_order):
            self.offerings.setdefault(demand.offering, []).append(demand)
            self.serving[demand.offering] += self.held[demand.instance]
        # What found no place; as long as nothing is granted it finds none the next time either.
        self.in_vain: set[Requests] = set()

    def evacuate(self) -> dict[str, BlockedMove]:
        """Give members that have to leave their node another place; who finds none is returned, by instance.

        From a failed node they go at once: they serve no more, and the blocks there stay theirs until they are gone.
        From a cordoned one, one at a time in the pool, and the old one serves until the new one does (N3).
        """
        blocked: dict[str, BlockedMove] = {}
        nodes = {node.name: node for node in self.pool.nodes if node.evacuate}
        for holding in sorted(self.holdings, key=lambda holding: holding.member):
            left = [nodes[name] for name in holding.nodes if name in nodes]
            if not left or not holding.held or holding.instance not in self.demands:
                continue
            failed = any(node.failed for node in left)
            frozen = self.demands[holding.instance].freeze is Freeze.EVERYTHING
            if not failed and (frozen or self._moving()):
                # Of a frozen instance whatever is held is wanted, so a successor would be one more and not instead of.
                continue
            if not self._move(holding, gone=failed):
                have = cu_of(min(sum(self.room.free.values()), self.room.room_for(1)))
                move = BlockedMove(holding.member, left[0].name, cu_of(holding.blocks), have)
                blocked.setdefault(holding.instance, move)
        return blocked

    def _moving(self) -> bool:
        """Is a member made in another's place already, anywhere in the pool?"""
        return any(
            self.held[name] > effective_desired(demand, self.held[name]) for name, demand in self.demands.items()
        )

    def _move(self, holding: Holding, *, gone: bool) -> bool:
        demand = self.demands[holding.instance]
        request = Request(holding.blocks, len(holding.nodes), demand.topology_key)
        places = self.room.place_all([request])
        if places is None:
            return False
        if gone:
            at = self.holdings.index(holding)
            self.holdings[at] = replace(holding, state=HoldingState.RELEASING)
            self.held[holding.instance] -= 1
            self.serving[demand.offering] -= 1
        self._hold(demand, holding.blocks, places[0])
        self.notes.append(f"moving {holding.member} from {', '.join(holding.nodes)} to {', '.join(places[0])}")
        return True

    def grant(self) -> dict[str, Wait]:
        """Rounds in order of admission until one grants nothing; whoever misses something then waits.

        So the reasons are those of the world as it will be written, and the same plan a second time grants nothing (I8).
        """
        ordered = sorted(self.pool.demands, key=lambda demand: demand.admission_order)
        while self._round(ordered):
            pass
        short = [demand for demand in ordered if self.missing[demand.instance]]
        if not short:
            return {}
        waits = Waits(self.pool, self.holdings)
        return {demand.instance: waits.of(demand, self._next_batch(demand)) for demand in short}

    def _round(self, ordered: Sequence[Demand]) -> bool:
        served = False
        for demand in ordered:
            while self.missing[demand.instance] and (batch := self._next_batch(demand)) and self._grant(batch):
                served = True
        return served

    def _next_batch(self, demand: Demand) -> list[Demand] | None:
        """What to grant together: one instance, or all that lift the offering to its minimum; None if they cannot."""
        if demand.min_instances <= 1:
            return [demand]
        short = demand.min_instances - self.serving[demand.offering]
        if short <= 1:
            return [demand]
        # The one that asks first is part of its own batch, whatever the others' priority.
        rest = (each for each in self.offerings[demand.offering] if each is not demand)
        wanted = (each for each in chain((demand,), rest) for _ in range(self.missing[each.instance]))
        batch = list(islice(wanted, short))
        return batch if len(batch) == short else None

    def _grant(self, batch: Sequence[Demand]) -> bool:
        requests = tuple(each.request for each in batch)
        if requests in self.in_vain:
            return False
        places = self.room.place_all(requests)
        if places is None:
            self.in_vain.add(requests)
            return False
        self.in_vain.clear()
        for each, place in zip(batch, places, strict=True):
            member = self._hold(each, each.blocks_per_instance, place)
            self.missing[each.instance] -= 1
            self.notes.append(f"granted {cu_of(each.blocks_per_instance)} CU on {', '.join(place)} to {member}")
        return True

    def _hold(self, demand: Demand, blocks: int, place: Place) -> str:
        member = next(self.names[demand.instance])
        self.holdings.append(Holding(demand.instance, member, blocks, place, self.now, instance_uid=demand.uid))
        self.held[demand.instance] += 1
        self.serving[demand.offering] += 1
        return member

    def wanted(self, waits: dict[str, Wait], blocked: dict[str, BlockedMove]) -> tuple[Request, ...]:
        """Room that the pool's idle blocks would be enough for, were they in one piece."""
        fragmented = [name for name, wait in waits.items() if wait.reason is Waiting.FRAGMENTED]
        moving = [name for name, move in blocked.items() if move.have_cu >= move.need_cu]
        return tuple(self.demands[name].request for name in sorted({*fragmented, *moving}))


def _missing(demand: Demand, held: int) -> int:
    if not demand.blocks_per_instance:
        return 0  # an instance of no size, since its offering is gone, would serve for nothing
    return max(0, effective_desired(demand, held) - held)


def _free_member_names(pool: PoolState) -> dict[str, Iterator[str]]:
    """For each instance, names with the lowest ordinals that nobody uses (R1)."""
    used = {holding.member for holding in pool.holdings} | pool.taken

    def names(instance: str) -> Iterator[str]:
        ordinal = 0
        while True:
            name = f"{instance}-{ordinal}"
            if name not in used:
                used.add(name)
                yield name
            ordinal += 1

    return {demand.instance: names(demand.instance) for demand in pool.demands}

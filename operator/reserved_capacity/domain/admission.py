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
    blocks_held_by_node,
    effective_desired,
    standing,
    succeeded,
)
from .placement import Place, Room
from .releases import drop_gone, floor_of, release_surplus
from .units import cu_of
from .waits import Requests, Waits


def plan_holdings(pool: PoolState, *, now: datetime) -> HoldingsPlan:
    """Drop what is gone, release what is no longer wanted, move what has to leave its node, then grant in order.

    A request that fits is not starved behind one that does not (C5). The first placement of an offering grants its
    minimum whole or not at all; above it, one instance at a time (C6).
    """
    notes: list[str] = []
    kept = drop_gone(pool, notes)
    kept = release_surplus(replace(pool, holdings=tuple(kept)), notes)
    admission = _Admission(replace(pool, holdings=tuple(kept)), now, notes)
    blocked = admission.evacuate()
    waits = admission.grant()
    holdings = tuple(sorted(admission.holdings, key=lambda holding: holding.member))
    return HoldingsPlan(holdings, waits, tuple(notes), blocked, admission.wanted(waits, blocked))


# --------------------------------------------------------------------------------------------------------------- grants


class _Admission:
    """The pool while blocks are given out: what is held so far, where there is room, and what each instance misses."""

    def __init__(self, pool: PoolState, now: datetime, notes: list[str]) -> None:
        self.pool, self.now, self.notes = pool, now, notes
        self.holdings = list(pool.holdings)
        self.room = Room(pool, pool.holdings)
        self.held = Counter(holding.instance for holding in standing(pool.holdings))
        self.demands = {demand.instance: demand for demand in pool.demands}
        self.missing = {demand.instance: _missing(demand, self.held[demand.instance]) for demand in pool.demands}
        self.names = _free_member_names(pool)
        self.offerings: dict[str, list[Demand]] = {}  # in order of admission
        self.holders = Counter[str]()  # instances that hold, by offering
        for demand in sorted(pool.demands, key=lambda demand: demand.admission_order):
            self.offerings.setdefault(demand.offering, []).append(demand)
            self.holders[demand.offering] += self.held[demand.instance]
        # What found no place; as long as nothing is granted it finds none the next time either.
        self.in_vain: set[Requests] = set()

    # ----------------------------------------------------------------------------------------------- leaving (N1-N3)

    def evacuate(self) -> dict[str, BlockedMove]:
        """Give members that have to leave their node another place; who finds none is returned, by instance.

        From a failed node they go at once: they serve no more, and the blocks there stay theirs until they are gone.
        From a cordoned one they go one at a time, and the old one serves until the new one does; or, where the pool
        terminates first, as many as may be missed (N2, N3).
        """
        blocked: dict[str, BlockedMove] = {}
        nodes = {node.name: node for node in self.pool.nodes if node.evacuate}
        if not nodes:
            return blocked

        def order(holding: Holding) -> tuple[bool, str, str]:
            left = [nodes[name] for name in holding.nodes if name in nodes]
            return (
                not any(node.failed for node in left),
                min((node.name for node in left), default=""),
                holding.member,
            )

        for holding in sorted(self.holdings, key=order):
            left = [nodes[name] for name in holding.nodes if name in nodes]
            if not left or not holding.held or holding.instance not in self.demands:
                continue
            failed = any(node.failed for node in left)
            hint = (
                self._leave_failed(holding) if failed else self._leave_cordoned(holding, [node.name for node in left])
            )
            if hint is not None:
                have = cu_of(min(sum(self.room.free.values()), self.room.room_for(1, moving=True)))
                move = BlockedMove(holding.member, left[0].name, cu_of(holding.blocks), have, hint, failed)
                blocked.setdefault(holding.instance, move)
        return blocked

    def _leave_failed(self, holding: Holding) -> str | None:
        """None: it is on its way. One whose successor is there already needs no second one."""
        if holding.member in succeeded(self.holdings):
            self._release(holding)
            return None
        return None if self._move(holding, stopped=True) else ""

    def _leave_cordoned(self, holding: Holding, left: Sequence[str]) -> str | None:
        """None: it is on its way, or not its turn yet; else what keeps it besides the lack of room."""
        former, demand = succeeded(self.holdings), self.demands[holding.instance]
        if holding.member in former or demand.freeze is Freeze.STEPS:
            return None
        objection = self._may_not_stop(holding, left) if self.pool.replacement.terminates_first else ""
        if self.pool.replacement.terminates_first and not objection:
            if self._move(holding, stopped=True):
                return None
            if demand.freeze is Freeze.NOTHING:
                self._give_up(holding)
                return None
            objection = "it would not be placed again before its spec can be acted on"
        busy = {node for each in self.holdings if each.member in former for node in each.nodes}
        most = self.pool.replacement.max_unavailable_nodes
        if busy and (not busy.isdisjoint(left) or len(busy.union(left)) > most):
            return None
        if self.pool.replacement.terminates_first and self._serving(holding.instance) < self._keep(demand):
            return (
                None  # whoever is missed comes first: that a start fails is no reason to go about it another way (N2)
            )
        return None if self._move(holding, stopped=False) else objection

    def _may_not_stop(self, holding: Holding, left: Sequence[str]) -> str:
        """Why a member must not be stopped before there is another in its place; empty if it may be (N2, C6)."""
        under_way, most = self._under_replacement(), self.pool.replacement.max_unavailable_nodes
        if not under_way.issuperset(left) and len(under_way.union(left)) > most:
            return f"maxUnavailableNodes is {most}"
        demand = self.demands[holding.instance]
        floor = floor_of(demand, self._keep(demand))
        stopped = holding.member in self.pool.available
        if self._serving(holding.instance) - stopped < floor:
            return f"minAvailable is {floor}"
        group = [each.instance for each in self.pool.demands if each.offering == demand.offering]
        serving = sum(self._serving(each) for each in group) - stopped
        if serving < demand.min_instances and not demand.accept_below_minimum:
            return f"the minimum of {demand.offering} is {demand.min_instances}: upgrade.acceptBelowMinimum would allow fewer"
        return ""

    def _under_replacement(self) -> set[str]:
        """Nodes of which the pool misses blocks, or that it is leaving already."""
        staying = blocks_held_by_node([holding for holding in self.holdings if holding.held])
        return {
            node.name
            for node in self.pool.nodes
            if node.evacuate and (node.replaced or node.blocks > (0 if node.failed else staying.get(node.name, 0)))
        }

    def _serving(self, instance: str) -> int:
        return sum(
            each.held and each.member in self.pool.available for each in self.holdings if each.instance == instance
        )

    def _keep(self, demand: Demand) -> int:
        return effective_desired(demand, self.held[demand.instance])

    def _move(self, holding: Holding, *, stopped: bool) -> bool:
        demand = self.demands[holding.instance]
        request = Request(holding.blocks, len(holding.nodes), demand.topology_key)
        places = self.room.place_all([request], moving=True)
        if places is None:
            return False
        if stopped:
            self._release(holding)
        self._count(demand, -1)
        self._hold(replace(demand, version=holding.version), holding.blocks, places[0], replaces=holding.member)
        self.notes.append(f"moving {holding.member} from {', '.join(holding.nodes)} to {', '.join(places[0])}")
        return True

    def _give_up(self, holding: Holding) -> None:
        self._release(holding)
        demand = self.demands[holding.instance]
        self._count(demand, -1)
        self.missing[holding.instance] = _missing(demand, self.held[holding.instance])
        self.notes.append(f"releasing {holding.member}: it has to leave {', '.join(holding.nodes)}")

    def _count(self, demand: Demand, more: int) -> None:
        self.held[demand.instance] += more
        self.holders[demand.offering] += more

    def _release(self, holding: Holding) -> None:
        self.holdings[self.holdings.index(holding)] = replace(holding, state=HoldingState.RELEASING)

    # --------------------------------------------------------------------------------------------------------- grants

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
        short = demand.min_instances - self.holders[demand.offering]
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

    def _hold(self, demand: Demand, blocks: int, place: Place, replaces: str = "") -> str:
        member = next(self.names[demand.instance])
        holding = Holding(
            demand.instance,
            member,
            blocks,
            place,
            self.now,
            instance_uid=demand.uid,
            replaces=replaces,
            version=demand.version,
        )
        self.holdings.append(holding)
        self._count(demand, 1)
        return member

    def wanted(self, waits: dict[str, Wait], blocked: dict[str, BlockedMove]) -> tuple[Request, ...]:
        """Room that the pool's idle blocks would be enough for, were they in one piece, or on nodes that take members."""
        requests: list[Request] = []
        offerings: set[str] = set()
        for name, wait in waits.items():
            demand = self.demands[name]
            # Those who can only be placed together wait for one and the same (C6).
            if wait.reason in (Waiting.FRAGMENTED, Waiting.NODES_UNHEALTHY) and demand.offering not in offerings:
                offerings.add(demand.offering)
                requests += [each.request for each in self._next_batch(demand) or ()]
        for name, move in sorted(blocked.items()):
            if move.have_cu >= move.need_cu:
                requests.append(self.demands[name].request)
        return tuple(requests)


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

"""Who holds which blocks of a pool: grants, releases, and the reason for whatever waits (behaviour.md C1, C5-C7).

A pool's holdings are one list, planned whole and written in one write, so a move between instances is atomic. A
holding is made before its member's StatefulSet and goes only after the member's pods are gone: reserve before you
create, confirm gone before you release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from .units import cu_of

MAX_MEMBERS = 1000  # of one pool, those that are being released included (api.md, identities)


class HoldingState(StrEnum):
    HELD = "Held"
    RELEASING = "Releasing"


@dataclass(frozen=True, slots=True)
class Holding:
    """The blocks of one member, in equal parts on its nodes. Keyed by member, which is unique in a namespace."""

    instance: str
    member: str
    blocks: int
    nodes: tuple[str, ...]
    since: datetime
    state: HoldingState = HoldingState.HELD

    @property
    def held(self) -> bool:
        return self.state is HoldingState.HELD

    @property
    def blocks_per_node(self) -> int:
        return self.blocks // len(self.nodes) if self.nodes else 0


class Freeze(StrEnum):
    """What an instance may not do in this plan, because its spec cannot be acted on."""

    NOTHING = "Nothing"
    GROWTH = "Growth"  # keeps or loses what it holds, gets nothing new
    EVERYTHING = "Everything"  # what is held stays held and serves meanwhile


@dataclass(frozen=True, slots=True)
class Demand:
    """What one ModelInstance asks of its pool. `min_instances` counts all instances of (pool, offering) (C6)."""

    instance: str
    uid: str
    offering: str
    blocks_per_instance: int
    min_instances: int
    desired: int
    priority: int
    created_at: datetime
    freeze: Freeze = Freeze.NOTHING

    @property
    def admission_order(self) -> tuple[int, datetime, str]:
        """C5: priority, then creation time, then UID."""
        return (-self.priority, self.created_at, self.uid)


@dataclass(frozen=True, slots=True)
class PoolNode:
    """The pool's part of one node; `usable` False: claimed and kept, but no new member is placed there."""

    name: str
    blocks: int
    usable: bool
    failed: bool = False


class Waiting(StrEnum):
    """Why an instance does not get its next grant; the values are `CapacityReserved` reasons of api.md."""

    BELOW_MINIMUM_INSTANCES = "BelowMinimumInstances"
    NOT_YET_PROVISIONED = "NotYetProvisioned"
    WAITING_FOR_RELEASE = "WaitingForRelease"
    WAITING_FOR_COMPUTE_UNITS = "WaitingForComputeUnits"
    FRAGMENTED = "Fragmented"
    NODES_UNHEALTHY = "NodesUnhealthy"


@dataclass(frozen=True, slots=True)
class Wait:
    """An instance that waits: the CU of its next grant, and the CU that the pool has idle."""

    reason: Waiting
    need_cu: int
    have_cu: int


@dataclass(frozen=True, slots=True)
class PoolCapacity:
    """Blocks of a pool by use: provisioned = allocated + idle + unhealthy, each block once (api.md, identities)."""

    provisioned: int
    allocated: int
    idle: int
    unhealthy: int
    releasing: int

    @property
    def usable(self) -> int:
        return self.allocated + self.idle


@dataclass(frozen=True, slots=True)
class HoldingsPlan:
    """The complete list of holdings from now on, why it changed, and who waits for what."""

    holdings: tuple[Holding, ...]
    waits: Mapping[str, Wait]
    notes: tuple[str, ...]


def capacity_of(nodes: Sequence[PoolNode], holdings: Sequence[Holding]) -> PoolCapacity:
    """Count every block of a pool once: unhealthy if its node failed, else allocated if held, else idle."""
    used = blocks_held_by_node(holdings)
    releasing = blocks_held_by_node([holding for holding in holdings if not holding.held])
    healthy = [node for node in nodes if not node.failed]
    # Where a claim came back smaller than what is held, all of it is allocated, and no more than there is.
    allocated = sum(min(used.get(node.name, 0), node.blocks) for node in healthy)
    unhealthy = sum(node.blocks for node in nodes if node.failed)
    idle = sum(max(0, node.blocks - used.get(node.name, 0)) for node in healthy)
    return PoolCapacity(
        provisioned=allocated + idle + unhealthy,
        allocated=allocated,
        idle=idle,
        unhealthy=unhealthy,
        releasing=sum(min(releasing.get(node.name, 0), node.blocks) for node in healthy),
    )


def blocks_held_by_node(holdings: Sequence[Holding]) -> dict[str, int]:
    """Blocks in somebody's hands, by node name; those that are being released are still in somebody's hands (C7)."""
    used: dict[str, int] = {}
    for holding in holdings:
        for node in holding.nodes:
            used[node] = used.get(node, 0) + holding.blocks_per_node
    return used


@dataclass(frozen=True, slots=True)
class PoolState:
    """All that the plan of one pool's holdings looks at.

    `gone` are members of Releasing holdings that are confirmed gone, pods and all; `taken` are member names that
    still exist in the cluster and must not be given to a new member; `contracted_blocks` bounds what may be held (I2)
    and what may come yet.
    """

    contracted_blocks: int
    nodes: tuple[PoolNode, ...]
    holdings: tuple[Holding, ...]
    demands: tuple[Demand, ...]
    gone: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()


def plan_holdings(pool: PoolState, *, now: datetime) -> HoldingsPlan:
    """Drop what is gone, release what is no longer wanted, then grant in order of admission.

    A request that fits is not starved behind one that does not, and nothing that serves is ever preempted (C5). The
    first placement of an offering grants its minimum whole or not at all; above it, one instance at a time (C6).
    """
    notes: list[str] = []
    kept = _drop_gone(pool, notes)
    kept = _release(kept, pool.demands, pool.nodes, notes)
    granted, waits = _grant(replace(pool, holdings=tuple(kept)), now, notes)
    return HoldingsPlan(tuple(sorted(granted, key=lambda holding: holding.member)), waits, tuple(notes))


def effective_desired(demand: Demand, held: int) -> int:
    """Instances that an object may have now: its wish, unless its spec cannot be acted on."""
    match demand.freeze:
        case Freeze.EVERYTHING:
            return held
        case Freeze.GROWTH:
            return min(demand.desired, held)
        case Freeze.NOTHING:
            return demand.desired


def _drop_gone(pool: PoolState, notes: list[str]) -> list[Holding]:
    kept = []
    for holding in sorted(pool.holdings, key=lambda holding: holding.member):
        if not holding.held and holding.member in pool.gone:
            notes.append(f"{holding.member} is gone: {cu_of(holding.blocks)} CU are idle again")
        else:
            kept.append(holding)
    return kept


def _release(
    holdings: Sequence[Holding], demands: Sequence[Demand], nodes: Sequence[PoolNode], notes: list[str]
) -> list[Holding]:
    """Mark the surplus members of every instance: those off usable nodes first, then the highest ordinals."""
    wanted = {demand.instance: demand for demand in demands}
    usable = {node.name for node in nodes if node.usable}
    leaving: set[str] = set()
    for instance in sorted({holding.instance for holding in holdings}):
        held = [holding for holding in holdings if holding.instance == instance and holding.held]
        demand = wanted.get(instance)
        keep = effective_desired(demand, len(held)) if demand else 0
        held.sort(key=lambda holding: (not usable.issuperset(holding.nodes), ordinal_of(holding)), reverse=True)
        for holding in held[: max(0, len(held) - keep)]:
            leaving.add(holding.member)
            why = f"{instance} asks for {keep}" if demand else f"{instance} is deleted"
            notes.append(f"releasing {holding.member}: {why}")
    return [
        replace(holding, state=HoldingState.RELEASING) if holding.member in leaving else holding for holding in holdings
    ]


def ordinal_of(holding: Holding) -> int:
    return int(holding.member.removeprefix(f"{holding.instance}-"))


class _Placement:
    """The room of the pool while grants are made; best-fit, so that large holes stay large (C3).

    No more is given than is contracted, also while more than that is still claimed (I2). What is held counts as room
    that is used, on whatever node; where that is more than the claim, the node simply has no room.
    """

    def __init__(self, pool: PoolState, holdings: Sequence[Holding]) -> None:
        used = blocks_held_by_node(holdings)
        self.members = MAX_MEMBERS - len(holdings)
        self.blocks = pool.contracted_blocks - sum(used.values())
        self.free = {node.name: max(0, node.blocks - used.get(node.name, 0)) for node in pool.nodes if node.usable}

    def room_for(self, members: int) -> int:
        """Blocks that so many more members may hold together, wherever."""
        return max(0, self.blocks) if members <= self.members else 0

    def place_all(self, sizes: Sequence[int]) -> list[str] | None:
        """A node for every size, or None and nothing is taken."""
        if sum(sizes) > self.room_for(len(sizes)):
            return None
        free, places = dict(self.free), dict[int, str]()
        # Largest first: with equal sizes, the common case, this is exact.
        for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
            fitting = [(blocks, name) for name, blocks in free.items() if blocks >= sizes[index]]
            if not fitting:
                return None
            _, name = min(fitting)
            free[name] -= sizes[index]
            places[index] = name
        self.members -= len(sizes)
        self.blocks -= sum(sizes)
        self.free = free
        return [places[index] for index in range(len(sizes))]


class _Grants:
    """The pool while grants are made: what is held so far, where there is room, and what each instance misses."""

    def __init__(self, pool: PoolState, now: datetime, notes: list[str]) -> None:
        self.pool, self.now, self.notes = pool, now, notes
        self.holdings = list(pool.holdings)
        self.placement = _Placement(pool, pool.holdings)
        self.held = Counter(holding.instance for holding in pool.holdings if holding.held)
        self.missing = {demand.instance: _missing(demand, self.held[demand.instance]) for demand in pool.demands}
        self.names = _free_member_names(pool)

    def serve(self, demand: Demand) -> bool:
        """Grant as long as something is missing and finds a place; tells whether anything was granted."""
        served = False
        while self.missing[demand.instance] and (batch := self.next_batch(demand)) and self._grant(batch):
            served = True
        return served

    def next_batch(self, demand: Demand) -> list[Demand] | None:
        """What to grant together: one instance, or all that lift the offering to its minimum; None if they cannot."""
        group = [each for each in self.pool.demands if each.offering == demand.offering]
        short = demand.min_instances - sum(self.held[each.instance] for each in group)
        if short <= 1:
            return [demand]
        # The one that asks first is part of its own batch, whatever the others' priority.
        rest = sorted((each for each in group if each is not demand), key=lambda each: each.admission_order)
        wanted = [each for each in (demand, *rest) for _ in range(self.missing[each.instance])]
        return wanted[:short] if len(wanted) >= short else None

    def _grant(self, batch: Sequence[Demand]) -> bool:
        places = self.placement.place_all([each.blocks_per_instance for each in batch])
        if places is None:
            return False
        for each, node in zip(batch, places, strict=True):
            member = next(self.names[each.instance])
            self.holdings.append(Holding(each.instance, member, each.blocks_per_instance, (node,), self.now))
            self.held[each.instance] += 1
            self.missing[each.instance] -= 1
            self.notes.append(f"granted {cu_of(each.blocks_per_instance)} CU on {node} to {member}")
        return True


def _grant(pool: PoolState, now: datetime, notes: list[str]) -> tuple[list[Holding], dict[str, Wait]]:
    """Rounds in order of admission until one grants nothing; whoever misses something then waits.

    So the reasons are those of the world as it will be written, and the same plan a second time grants nothing (I8).
    """
    grants = _Grants(pool, now, notes)
    ordered = sorted(pool.demands, key=lambda demand: demand.admission_order)
    while sum(grants.serve(demand) for demand in ordered):  # a sum, since every demand has its turn in every round
        pass
    waits = {
        demand.instance: _wait(pool, grants.holdings, demand, grants.next_batch(demand))
        for demand in ordered
        if grants.missing[demand.instance]
    }
    return grants.holdings, waits


def _missing(demand: Demand, held: int) -> int:
    if not demand.blocks_per_instance:
        return 0  # an instance of no size, since its offering is gone, would serve for nothing
    return max(0, effective_desired(demand, held) - held)


def held_count(instance: str, holdings: Sequence[Holding]) -> int:
    return sum(holding.instance == instance and holding.held for holding in holdings)


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


def _wait(pool: PoolState, holdings: Sequence[Holding], demand: Demand, batch: Sequence[Demand] | None) -> Wait:
    have = capacity_of(pool.nodes, holdings).idle
    if batch is None:
        need = demand.min_instances * demand.blocks_per_instance
        return Wait(Waiting.BELOW_MINIMUM_INSTANCES, cu_of(need), cu_of(have))
    sizes = [each.blocks_per_instance for each in batch]
    room = _Placement(pool, holdings).room_for(len(sizes))
    return Wait(_why(pool, holdings, sizes), cu_of(sum(sizes)), cu_of(min(have, room)))


def _why(pool: PoolState, holdings: Sequence[Holding], sizes: Sequence[int]) -> Waiting:
    """Why these find no place: the first reason that matches, in the order of api.md."""
    need, capacity = sum(sizes), capacity_of(pool.nodes, holdings)
    now = _Placement(pool, holdings)
    released = _Placement(pool, [holding for holding in holdings if holding.held])
    soon = capacity.idle + capacity.releasing
    if need <= released.room_for(len(sizes)):
        if soon < need <= soon + _unprovisioned(pool, holdings):
            return Waiting.NOT_YET_PROVISIONED
        if capacity.idle < need <= soon or released.place_all(sizes) is not None:
            return Waiting.WAITING_FOR_RELEASE
    if need > min(now.room_for(len(sizes)), capacity.idle + _idle_on_failed(pool, holdings)):
        return Waiting.WAITING_FOR_COMPUTE_UNITS
    return Waiting.FRAGMENTED if sum(now.free.values()) >= need else Waiting.NODES_UNHEALTHY


def _unprovisioned(pool: PoolState, holdings: Sequence[Holding]) -> int:
    """Blocks that are contracted and will be claimed: what members hold without a claim comes back to them alone."""
    claimed = {node.name: node.blocks for node in pool.nodes}
    held = blocks_held_by_node([holding for holding in holdings if holding.held])
    lost = sum(max(0, blocks - claimed.get(name, 0)) for name, blocks in held.items())
    return max(0, pool.contracted_blocks - sum(claimed.values()) - lost)


def _idle_on_failed(pool: PoolState, holdings: Sequence[Holding]) -> int:
    used = blocks_held_by_node(holdings)
    return sum(max(0, node.blocks - used.get(node.name, 0)) for node in pool.nodes if node.failed)

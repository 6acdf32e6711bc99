"""Who holds which blocks of a pool, as values, and the sums over them (behaviour.md C1, C4).

A pool's holdings are one list, planned whole (admission.py) and written in one write, so a move between instances is
atomic. Nothing is counted by increments: all sums are recomputed from the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .repair import NodeReplacement
from .versions import Version

MAX_MEMBERS = 1000  # of one pool, those that are being released included (api.md, identities)


class HoldingState(StrEnum):
    HELD = "Held"
    RELEASING = "Releasing"


@dataclass(frozen=True, slots=True)
class Holding:
    """The blocks of one member, in equal parts on its nodes. Keyed by member, which is unique in a namespace.

    `instance_uid` is the incarnation that it was granted to: a namesake made anew has no claim on it. `replaces` is the
    member that this one was made in place of, for as long as that one is on record (N2, N3). `version` is what the member
    runs, or shall run once it is made (R1).
    """

    instance: str
    member: str
    blocks: int
    nodes: tuple[str, ...]
    since: datetime
    state: HoldingState = HoldingState.HELD
    instance_uid: str = ""
    replaces: str = ""
    version: Version | None = None

    @property
    def held(self) -> bool:
        return self.state is HoldingState.HELD

    @property
    def blocks_per_node(self) -> int:
        return self.blocks // len(self.nodes) if self.nodes else 0


@dataclass(frozen=True, slots=True)
class Request:
    """Room for one instance: its blocks, in equal parts on so many nodes that share one value of a label (C8)."""

    blocks: int
    nodes: int = 1
    topology_key: str = ""

    @property
    def part(self) -> int:
        return self.blocks // self.nodes


class Freeze(StrEnum):
    """What an instance may not do in this plan, because its spec cannot be acted on."""

    NOTHING = "Nothing"
    GROWTH = "Growth"  # keeps or loses what it holds, gets nothing new
    EVERYTHING = "Everything"  # what is held stays held and serves meanwhile
    STEPS = "Steps"  # as Everything, and what moves is moved by the steps of its change set (F3)


@dataclass(frozen=True, slots=True)
class Demand:
    """What one ModelInstance asks of its pool. `min_instances` counts all instances of (pool, offering) (C6).

    `min_available` members serve at least while others move (None: all that are wanted); `accept_below_minimum`: so may
    fewer than the offering's minimum. `version` is what members run that are granted to it; what moves keeps its own.
    `vacated` places its rollout fills itself: they are not in `desired`.
    """

    instance: str
    uid: str
    offering: str
    blocks_per_instance: int
    min_instances: int
    desired: int
    priority: int
    created_at: datetime
    freeze: Freeze = Freeze.NOTHING
    nodes_per_instance: int = 1
    topology_key: str = ""
    min_available: int | None = None
    accept_below_minimum: bool = False
    version: Version | None = None
    vacated: int = 0

    @property
    def request(self) -> Request:
        """Room for one more instance."""
        return Request(self.blocks_per_instance, self.nodes_per_instance, self.topology_key)

    @property
    def admission_order(self) -> tuple[int, datetime, str]:
        """C5: priority, then creation time, then UID."""
        return (-self.priority, self.created_at, self.uid)


@dataclass(frozen=True, slots=True)
class PoolNode:
    """The pool's part of one node; `usable` False: claimed and kept, but no new member is placed there.

    `failed`: its blocks count as unhealthy. `evacuate`: its members shall move, at once from a node that has failed,
    one at a time from one that is cordoned (N1, N3). `replaced` blocks are claimed elsewhere in its place: they are not
    among its `blocks`, and outside all sums until the node is fenced (N2). `labels` are the node's (C8).
    """

    name: str
    blocks: int
    usable: bool
    failed: bool = False
    evacuate: bool = False
    replaced: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


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
    """An instance that waits: the CU of its next grant, the CU that the pool has idle, and the move that would mend
    it where there is one (C9)."""

    reason: Waiting
    need_cu: int
    have_cu: int
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class BlockedMove:
    """A member that has to leave its node, which has `failed` or is cordoned, and finds no other place (N3). `hint`: why
    it is not stopped first."""

    member: str
    node: str
    need_cu: int
    have_cu: int
    hint: str = ""
    failed: bool = False


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
    """The complete list of holdings from now on, why it changed, and who waits for what, by instance.

    `wanted` is the room that idle claims could be re-arranged for: enough is there, but nowhere in one piece (C9).
    """

    holdings: tuple[Holding, ...]
    waits: Mapping[str, Wait]
    notes: tuple[str, ...]
    blocked_moves: Mapping[str, BlockedMove] = field(default_factory=dict)
    wanted: tuple[Request, ...] = ()


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


def may_run(member: str, node: str, holdings: Sequence[Holding], running: Set[str], *, claimed_blocks: int) -> bool:
    """Are there blocks of the node for this member? Fewer may be claimed than are held, where a node came back with less
    room. Who runs there (of `running`) or is being released has blocks; the others get them in the order of the record,
    so that no two begin on the same."""
    before = True
    used = 0
    for holding in holdings:
        if holding.member == member:
            before = False
        if node in holding.nodes and (
            before or holding.member == member or holding.member in running or not holding.held
        ):
            used += holding.blocks_per_node
    return used <= claimed_blocks


@dataclass(frozen=True, slots=True)
class PoolState:
    """All that the plan of one pool's holdings looks at.

    `gone` are members of Releasing holdings that are confirmed gone, pods and all; `taken` are member names that
    still exist in the cluster and must not be given to a new member; `contracted_blocks` bounds what may be held (I2)
    and what may come yet. `available` are members that serve. `reserved` blocks, by node, are promised to a change set.
    """

    contracted_blocks: int
    nodes: tuple[PoolNode, ...]
    holdings: tuple[Holding, ...]
    demands: tuple[Demand, ...]
    gone: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    available: frozenset[str] = frozenset()
    reserved: Mapping[str, int] = field(default_factory=dict)
    replacement: NodeReplacement = field(default_factory=NodeReplacement)


def effective_desired(demand: Demand, held: int) -> int:
    """Instances that an object may have now, of `held` (held_count): its wish, unless its spec cannot be acted on."""
    match demand.freeze:
        case Freeze.EVERYTHING | Freeze.STEPS:
            return held
        case Freeze.GROWTH:
            return min(demand.desired, held)
        case Freeze.NOTHING:
            return demand.desired


def ordinal_of(holding: Holding) -> int:
    return int(holding.member.removeprefix(f"{holding.instance}-"))


def succeeded(holdings: Iterable[Holding]) -> dict[str, Holding]:
    """The members that are still held and have a successor that is, by name: they go when that one serves (N3).

    A successor that had to leave its own node hands its part on to whoever was made in its place.
    """
    known = {holding.member: holding for holding in holdings}
    found: dict[str, Holding] = {}
    if not any(holding.replaces for holding in known.values()):
        return found  # nobody moves, as nearly always
    for heir in known.values():
        former = known.get(heir.replaces)
        for _ in known:
            if former is None or former.held:
                break
            former = known.get(former.replaces)
        if heir.held and former is not None and former.held:
            found[former.member] = heir
    return found


def standing(holdings: Sequence[Holding]) -> list[Holding]:
    """What is held to stay: neither being given back nor succeeded by another."""
    former = succeeded(holdings)
    return [holding for holding in holdings if holding.held and holding.member not in former]


def held_count(instance: str, holdings: Sequence[Holding]) -> int:
    """Instances that an object holds; one that moves counts once, though two members of it are held meanwhile."""
    return len(standing([holding for holding in holdings if holding.instance == instance]))

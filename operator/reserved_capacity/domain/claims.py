"""Which nodes give blocks to which pools: the plan of claims of one AcceleratorClass (behaviour.md C2, C3, C11).

All pools of a class are planned together, because they compete for the same nodes. A plan names whole lists of
claims per node, since a node's annotation is written whole, in one patch with the node's resourceVersion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .holdings import Request
from .nodes import Claim, InventoryNode, PoolId
from .repair import LeavingNode, coverage, next_replacement
from .vacancies import Vacancies, Vacancy


@dataclass(frozen=True, slots=True)
class ClaimDemand:
    """What one pool is owed.

    `held` are the blocks that its members hold, by node name, also on nodes that are gone: such a node comes back to
    the pool that holds it (N2). `staying` are those of them that are not being given back. `lost_nodes` are nodes that
    are gone with all pods of the pool: these are replaced. `first_accepted` orders the pools: who bought first is
    provisioned first. `wanted` is room that idle claims should be re-arranged for (C9). So many nodes are replaced
    `nodes_at_once` (N2). `lent` are blocks that its rollouts want beyond the contract (S2, BorrowSpare); they come last, from
    what nobody is owed. `last_held` are blocks by node as the pool last had them, whether or not the node is there.
    """

    pool: PoolId
    contracted_blocks: int
    first_accepted: datetime
    held: Mapping[str, int] = field(default_factory=dict)
    staying: Mapping[str, int] = field(default_factory=dict)
    lost_nodes: frozenset[str] = frozenset()
    wanted: tuple[Request, ...] = ()
    nodes_at_once: int = 1
    lent: int = 0
    last_held: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeClaims:
    """The claims that a node shall carry from now on, and why they differ from those that it has."""

    node: str
    claims: tuple[Claim, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """Nodes to write, and the blocks that each pool is still owed after that.

    Nodes that only lose claims come first, then the others, each by name: written one by one, and stopped anywhere by
    a crash or a conflict, what moves between nodes is missing for a moment rather than there twice (I2).
    """

    changes: tuple[NodeClaims, ...]
    missing_blocks: Mapping[PoolId, int]


class _Ledger:
    """The nodes of the class while a plan is made: claims by node and pool, and the reasons so far."""

    def __init__(self, nodes: Sequence[InventoryNode]) -> None:
        self.nodes = {node.name: node for node in sorted(nodes, key=lambda node: node.name)}
        # An annotation that names a pool twice gives it the sum: a block is never free by mistake.
        self.claims = {
            name: {claim.pool: node.claimed_by(claim.pool) for claim in node.claims}
            for name, node in self.nodes.items()
        }
        self.reasons: dict[str, list[str]] = {name: [] for name in self.nodes}
        # The same by pool, so that the plan of one pool does not look at every node of the class.
        self._places: dict[PoolId, set[str]] = {}
        for name, by_pool in self.claims.items():
            for pool in by_pool:
                self._places.setdefault(pool, set()).add(name)
        self._vacancies: Vacancies | None = None

    def places(self, pool: PoolId) -> list[str]:
        """The nodes on which the pool has a claim, by name."""
        return sorted(self._places.get(pool, ()))

    def free(self, name: str) -> int:
        node = self.nodes[name]
        return max(0, node.blocks - sum(self.claims[name].values()) - node.foreign_blocks)

    def overclaimed(self, name: str) -> int:
        """Claims on blocks that the node has no more: I2 binds a claim when it is made, and a node may shrink later."""
        return max(0, sum(self.claims[name].values()) - self.nodes[name].blocks)

    def claimed(self, name: str, pool: PoolId) -> int:
        return self.claims[name].get(pool, 0)

    def total(self, pool: PoolId) -> int:
        return sum(self.claims[name][pool] for name in self._places.get(pool, ()))

    def set(self, name: str, pool: PoolId, blocks: int, reason: str) -> None:
        if blocks:
            self.claims[name][pool] = blocks
            self._places.setdefault(pool, set()).add(name)
        else:
            self.claims[name].pop(pool, None)
            self._places.get(pool, set()).discard(name)
        self.reasons[name].append(reason)
        if self._vacancies is not None:
            self._put(self._vacancies, name)

    def vacancies(self) -> Vacancies:
        """What is free, from the first claim on: most plans claim nothing."""
        if self._vacancies is None:
            self._vacancies = Vacancies()
            for name in self.nodes:
                self._put(self._vacancies, name)
        return self._vacancies

    def _put(self, vacancies: Vacancies, name: str) -> None:
        node, free = self.nodes[name], self.free(name)
        if node.usable:
            vacancies.put(name, Vacancy(node.zone, free, whole=free == node.blocks))

    def changes(self) -> tuple[NodeClaims, ...]:
        planned = {
            name: tuple(sorted(Claim(pool, blocks) for pool, blocks in by_pool.items()))
            for name, by_pool in self.claims.items()
        }
        changed = [name for name, claims in planned.items() if claims != tuple(sorted(self.nodes[name].claims))]
        changed.sort(key=lambda name: (self._grows(name), name))
        return tuple(NodeClaims(name, planned[name], tuple(self.reasons[name])) for name in changed)

    def _grows(self, name: str) -> bool:
        node = self.nodes[name]
        return any(blocks > node.claimed_by(pool) for pool, blocks in self.claims[name].items())


def plan_claims(
    nodes: Sequence[InventoryNode], demands: Sequence[ClaimDemand], *, occupied: Mapping[tuple[PoolId, str], int]
) -> ClaimPlan:
    """Give every pool the blocks that it is owed, from the nodes of one class.

    In this order: claims of pools that are gone are dropped once nothing of theirs runs on the node any more
    (`occupied`: blocks by pool and node that pods or holdings still use); claims above the contract are given back
    where idle; claims lost with a re-created node are restored to the pool whose members hold them, and then to the pool
    that last had them idle (N2, before anybody else may claim there); what is missing is claimed, whole nodes first, the rest best-fit, in as few zones
    as possible (C3), and so are replacements for nodes that a pool is leaving, one node at a time (N2); what is left over
    is lent to rollouts (S2); idle claims on
    blocks that a node has no more are swapped for real ones, and others so that what is wanted fits in one piece (C9).
    """
    ledger = _Ledger(nodes)
    ordered = sorted(demands, key=lambda demand: (demand.first_accepted, demand.pool))
    _drop_orphans(ledger, {demand.pool for demand in demands}, occupied)
    for demand in ordered:
        _give_back(ledger, demand)
    for demand in ordered:
        _restore(ledger, demand)
    for demand in ordered:
        _offer_back(ledger, demand)
    missing = {demand.pool: _grow(ledger, demand) for demand in ordered}
    for demand in ordered:
        if not any(missing.values()):  # nobody lends what somebody has bought
            _claim(ledger, demand.pool, max(0, demand.lent - _beyond(ledger, demand)))
    for demand in ordered:
        _give_back_replaced(ledger, demand)
    for demand in ordered:
        _restore(ledger, demand)
    for demand in ordered:
        _swap_vanished(ledger, demand)
        _rearrange(ledger, demand)
    return ClaimPlan(ledger.changes(), missing)


def _drop_orphans(ledger: _Ledger, living: set[PoolId], occupied: Mapping[tuple[PoolId, str], int]) -> None:
    heirs = {(pool.namespace, pool.name): pool for pool in living}
    for name, by_pool in ledger.claims.items():
        for pool in sorted(set(by_pool) - living):
            heir = heirs.get((pool.namespace, pool.name))
            if heir is not None:
                # Lost and made anew (M9): what the former incarnation had is its own, its members still run there.
                blocks = by_pool[pool]
                ledger.set(name, pool, 0, f"{pool} was made anew")
                ledger.set(name, heir, ledger.claimed(name, heir) + blocks, f"{pool} takes over {blocks} blocks")
            elif not occupied.get((pool, name)):
                ledger.set(name, pool, 0, f"released {by_pool[pool]} blocks of {pool}, which is gone")


def _give_back_replaced(ledger: _Ledger, demand: ClaimDemand) -> None:
    """Of a node that is being left, what is replaced elsewhere and in nobody's hands any more has done its duty. What
    members hold stays until they are gone: before that the node is not fenced."""
    for node, covered in _leaving(ledger, demand):
        given = min(covered, _idle(ledger, node.name, demand)) if node.name in ledger.nodes else 0
        if given > 0:
            kept = ledger.claimed(node.name, demand.pool) - given
            ledger.set(node.name, demand.pool, kept, f"released {given} blocks that were replaced elsewhere")


def _give_back(ledger: _Ledger, demand: ClaimDemand) -> None:
    _give_back_replaced(ledger, demand)
    excess = _beyond(ledger, demand) - demand.lent
    idle = {name: blocks for name in ledger.places(demand.pool) if (blocks := _idle(ledger, name, demand)) > 0}

    def order(name: str) -> tuple[bool, int, int, str]:
        # What nobody can use now, then fully idle nodes, then the smallest rests: what stays serves, and is whole.
        return (ledger.nodes[name].usable, demand.held.get(name, 0), idle[name], name)

    for name in sorted(idle, key=order):
        given = min(idle[name], excess)
        if given <= 0:
            return
        blocks = ledger.claimed(name, demand.pool) - given
        ledger.set(name, demand.pool, blocks, f"gave back {given} idle blocks above the contract of {demand.pool}")
        excess -= given


def _restore(ledger: _Ledger, demand: ClaimDemand) -> None:
    for name in sorted(name for name in demand.held if name in ledger.nodes):
        lost = demand.held[name] - ledger.claimed(name, demand.pool)
        again = min(lost, ledger.free(name))
        if again > 0:
            blocks = ledger.claimed(name, demand.pool) + again
            ledger.set(name, demand.pool, blocks, f"restored {again} blocks that members of {demand.pool} hold")


def _offer_back(ledger: _Ledger, demand: ClaimDemand) -> None:
    """N2: a node that comes back without its annotation is offered to the pool that last held it before anybody else."""
    back = [name for name in demand.last_held if name in ledger.nodes and ledger.nodes[name].usable]
    for name in sorted(name for name in back if not ledger.claimed(name, demand.pool)):
        again = min(demand.last_held[name], ledger.free(name), -_excess(ledger, demand))
        if again > 0:
            ledger.set(name, demand.pool, again, f"gave {again} blocks back to {demand.pool}, which had them last")


def _grow(ledger: _Ledger, demand: ClaimDemand) -> int:
    """Claim what is missing, then what replaces the next node that is being left; returns what is owed all the same."""
    missing = _claim(ledger, demand.pool, max(0, -_excess(ledger, demand)))
    if not missing:
        leaving = _leaving(ledger, demand)
        nodes, covered = [node for node, _ in leaving], {node.name: blocks for node, blocks in leaving}
        _claim(ledger, demand.pool, next_replacement(nodes, covered, demand.nodes_at_once))
    return missing


def _excess(ledger: _Ledger, demand: ClaimDemand) -> int:
    """Blocks beyond the contract. Lost ones count: their node may come back, and the pool must not have more than its
    contract then (I2)."""
    return ledger.total(demand.pool) + _lost_blocks(ledger, demand) - demand.contracted_blocks


def _beyond(ledger: _Ledger, demand: ClaimDemand) -> int:
    """Blocks beyond the contract that do not stand for a node that is being left."""
    return _excess(ledger, demand) - sum(covered for _, covered in _leaving(ledger, demand))


def _leaving(ledger: _Ledger, demand: ClaimDemand) -> list[tuple[LeavingNode, int]]:
    """The nodes that a pool is leaving, each with the blocks that are claimed elsewhere in its place.

    Idle blocks on a cordoned node stay, unless somebody waits for room.
    """
    leaving = []
    for name in ledger.places(demand.pool):
        node, staying = ledger.nodes[name], demand.staying.get(name, 0)
        if node.failed or (node.cordoned and staying):
            leaving.append(LeavingNode(name, ledger.claimed(name, demand.pool), staying, node.failed))
        elif node.cordoned and demand.wanted:
            leaving.append(LeavingNode(name, max(0, _idle(ledger, name, demand)), 0, failed=False))
    leaving += [
        LeavingNode(name, demand.held[name], demand.staying.get(name, 0), failed=True)
        for name in sorted(demand.lost_nodes & set(demand.held))
    ]
    covered = coverage(leaving, _excess(ledger, demand))
    return [(node, covered[node.name]) for node in leaving]


def _rearrange(ledger: _Ledger, demand: ClaimDemand) -> None:
    """C9: enough idle blocks, nowhere in one piece: move claims to the node where the fewest of them make it fit."""
    hopeless: Request | None = None
    promised = Counter[str]()  # blocks that one of the wanted has found a place on
    for request in sorted(demand.wanted, key=lambda request: -request.blocks):
        if request.nodes > 1 or request == hopeless or not request.blocks:
            continue  # over several nodes the whole search would be needed; one instance of that kind waits for room
        idle = {name: blocks - promised[name] for name, blocks in _idle_by_node(ledger, demand).items()}
        if request.blocks > sum(idle.values()):
            continue
        place = min(((blocks, name) for name, blocks in idle.items() if blocks >= request.blocks), default=None)
        if place is not None:
            promised[place[1]] += request.blocks
            continue
        target = _target(ledger, idle, request.blocks)
        if target is None:
            hopeless = request
            continue
        needed = request.blocks - idle.get(target, 0)
        _collect(ledger, demand, needed, target, idle)
        blocks = ledger.claimed(target, demand.pool) + needed
        ledger.set(target, demand.pool, blocks, f"moved {needed} idle blocks here, so that {request.blocks} fit")
        promised[target] += request.blocks


def _idle_by_node(ledger: _Ledger, demand: ClaimDemand) -> dict[str, int]:
    """Idle blocks on the usable nodes on which the pool has anything; below 0 where more is held than claimed."""
    names = {*ledger.places(demand.pool), *(name for name in demand.held if name in ledger.nodes)}
    return {name: _idle(ledger, name, demand) for name in sorted(names) if ledger.nodes[name].usable}


def _target(ledger: _Ledger, idle: Mapping[str, int], wanted: int) -> str | None:
    """The node where the fewest more blocks make so many in one piece."""
    near = [(-blocks, name) for name, blocks in idle.items() if blocks > 0 and blocks + ledger.free(name) >= wanted]
    if near:
        return min(near)[1]
    anywhere = [
        (-idle.get(name, 0), name)
        for name, node in ledger.nodes.items()
        if node.usable and idle.get(name, 0) + ledger.free(name) >= wanted
    ]
    return min(anywhere)[1] if anywhere else None


def _collect(ledger: _Ledger, demand: ClaimDemand, needed: int, target: str, idle: Mapping[str, int]) -> None:
    """Give up so many idle blocks elsewhere, the smallest rests first."""
    for blocks, name in sorted((blocks, name) for name, blocks in idle.items() if name != target and blocks > 0):
        given = min(blocks, needed)
        if given:
            kept = ledger.claimed(name, demand.pool) - given
            ledger.set(name, demand.pool, kept, f"moved {given} idle blocks of {demand.pool} to {target}")
            needed -= given


def _swap_vanished(ledger: _Ledger, demand: ClaimDemand) -> None:
    """C3: idle blocks may be swapped between nodes at any time; those that a node has no more, for blocks that exist.

    Where no other node has room the claim stays: the device plugin of a node that has just booted has not counted its
    GPUs yet, and such a blip must not hand sold capacity to the next pool in line.
    """
    for name in ledger.places(demand.pool):
        vanished = min(ledger.overclaimed(name), _idle(ledger, name, demand)) if ledger.nodes[name].ready else 0
        if vanished <= 0:
            continue
        swapped = vanished - _claim(ledger, demand.pool, vanished)
        if swapped:
            blocks = ledger.claimed(name, demand.pool) - swapped
            ledger.set(name, demand.pool, blocks, f"swapped {swapped} idle blocks of {demand.pool} that are no more")


def _claim(ledger: _Ledger, pool: PoolId, missing: int) -> int:
    """Claim so many blocks from what is free; returns those that nothing was found for."""
    if not missing:
        return 0
    places = ledger.places(pool)
    own = [name for name in places if ledger.claimed(name, pool)]
    for zone in _zones(ledger, places, missing):
        if not missing:
            break
        for name, taken in ledger.vacancies().take(zone, missing, own):
            ledger.set(name, pool, ledger.claimed(name, pool) + taken, f"claimed {taken} blocks for {pool}")
            missing -= taken
    return missing


def _idle(ledger: _Ledger, name: str, demand: ClaimDemand) -> int:
    return ledger.claimed(name, demand.pool) - demand.held.get(name, 0)


def _lost_blocks(ledger: _Ledger, demand: ClaimDemand) -> int:
    """Blocks that members hold where the claim is no more: on nodes that are gone, or came back smaller."""
    return sum(max(0, blocks - _claimed_at(ledger, name, demand.pool)) for name, blocks in demand.held.items())


def _claimed_at(ledger: _Ledger, name: str, pool: PoolId) -> int:
    return ledger.claimed(name, pool) if name in ledger.nodes else 0


def _zones(ledger: _Ledger, places: Sequence[str], missing: int) -> list[str]:
    """Zones in the order to fill them: where the pool is, then the tightest that fits all, then the largest."""
    free = ledger.vacancies().free_by_zone()
    home = {ledger.nodes[name].zone for name in places}

    def rank(zone: str) -> tuple[bool, bool, int, str]:
        fits = free[zone] >= missing
        return (zone not in home, not fits, free[zone] if fits else -free[zone], zone)

    return sorted(free, key=rank)

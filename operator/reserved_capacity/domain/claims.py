"""Which nodes give blocks to which pools: the plan of claims of one AcceleratorClass (behaviour.md C2, C3, C11).

All pools of a class are planned together, because they compete for the same nodes. A plan names whole lists of
claims per node, since a node's annotation is written whole, in one patch with the node's resourceVersion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .nodes import Claim, InventoryNode, PoolId


@dataclass(frozen=True, slots=True)
class ClaimDemand:
    """What one pool is owed.

    `held` are the blocks that its members hold, by node name, also on nodes that are gone: such a node comes back to
    the pool that holds it (N2), and meanwhile nothing is claimed in its place (replacement is an act of repair, not
    of growth). `first_accepted` orders the pools: who bought first is provisioned first.
    """

    pool: PoolId
    contracted_blocks: int
    first_accepted: datetime
    held: Mapping[str, int] = field(default_factory=dict)


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

    def free(self, name: str) -> int:
        node = self.nodes[name]
        return max(0, node.blocks - sum(self.claims[name].values()) - node.foreign_blocks)

    def overclaimed(self, name: str) -> int:
        """Claims on blocks that the node has no more: I2 binds a claim when it is made, and a node may shrink later."""
        return max(0, sum(self.claims[name].values()) - self.nodes[name].blocks)

    def claimed(self, name: str, pool: PoolId) -> int:
        return self.claims[name].get(pool, 0)

    def total(self, pool: PoolId) -> int:
        return sum(by_pool.get(pool, 0) for by_pool in self.claims.values())

    def set(self, name: str, pool: PoolId, blocks: int, reason: str) -> None:
        if blocks:
            self.claims[name][pool] = blocks
        else:
            self.claims[name].pop(pool, None)
        self.reasons[name].append(reason)

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
    where idle; claims lost with a re-created node are restored to the pool whose members hold them (N2, before
    anybody else may claim there); what is missing is claimed, whole nodes first, the rest best-fit, in as few zones
    as possible (C3); idle claims on blocks that a node has no more are swapped for real ones.
    """
    ledger = _Ledger(nodes)
    ordered = sorted(demands, key=lambda demand: (demand.first_accepted, demand.pool))
    _drop_orphans(ledger, {demand.pool for demand in demands}, occupied)
    for demand in ordered:
        _give_back(ledger, demand)
    for demand in ordered:
        _restore(ledger, demand)
    missing = {demand.pool: _grow(ledger, demand) for demand in ordered}
    for demand in ordered:
        _swap_vanished(ledger, demand)
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


def _give_back(ledger: _Ledger, demand: ClaimDemand) -> None:
    # Lost blocks count: their node may come back, and the pool must not hold more than its contract then (I2).
    excess = ledger.total(demand.pool) + _lost_blocks(ledger, demand) - demand.contracted_blocks
    idle = {name: blocks for name in ledger.nodes if (blocks := _idle(ledger, name, demand)) > 0}

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
    for name in sorted(set(demand.held) & set(ledger.nodes)):
        lost = demand.held[name] - ledger.claimed(name, demand.pool)
        again = min(lost, ledger.free(name))
        if again > 0:
            blocks = ledger.claimed(name, demand.pool) + again
            ledger.set(name, demand.pool, blocks, f"restored {again} blocks that members of {demand.pool} hold")


def _grow(ledger: _Ledger, demand: ClaimDemand) -> int:
    """Claim what is missing; returns the blocks that could not be claimed."""
    missing = demand.contracted_blocks - ledger.total(demand.pool) - _lost_blocks(ledger, demand)
    return _claim(ledger, demand.pool, max(0, missing))


def _swap_vanished(ledger: _Ledger, demand: ClaimDemand) -> None:
    """C3: idle blocks may be swapped between nodes at any time; those that a node has no more, for blocks that exist.

    Where no other node has room the claim stays: the device plugin of a node that has just booted has not counted its
    GPUs yet, and such a blip must not hand sold capacity to the next pool in line.
    """
    for name, node in ledger.nodes.items():
        vanished = min(ledger.overclaimed(name), _idle(ledger, name, demand)) if node.ready else 0
        if vanished <= 0:
            continue
        swapped = vanished - _claim(ledger, demand.pool, vanished)
        if swapped:
            blocks = ledger.claimed(name, demand.pool) - swapped
            ledger.set(name, demand.pool, blocks, f"swapped {swapped} idle blocks of {demand.pool} that are no more")


def _claim(ledger: _Ledger, pool: PoolId, missing: int) -> int:
    """Claim so many blocks from what is free; returns those that nothing was found for."""
    for zone in _zones(ledger, pool, missing):
        for name in _nodes_for(ledger, pool, zone, missing):
            if not missing:
                return 0
            taken = min(ledger.free(name), missing)
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


def _candidates(ledger: _Ledger) -> list[InventoryNode]:
    return [node for node in ledger.nodes.values() if node.usable and ledger.free(node.name) > 0]


def _zones(ledger: _Ledger, pool: PoolId, missing: int) -> list[str]:
    """Zones in the order to fill them: where the pool is, then the tightest that fits all, then the largest."""
    free: dict[str, int] = {}
    for node in _candidates(ledger):
        free[node.zone] = free.get(node.zone, 0) + ledger.free(node.name)
    home = {node.zone for node in ledger.nodes.values() if ledger.claimed(node.name, pool)}

    def rank(zone: str) -> tuple[bool, bool, int, str]:
        fits = free[zone] >= missing
        return (zone not in home, not fits, free[zone] if fits else -free[zone], zone)

    return sorted(free, key=rank)


def _nodes_for(ledger: _Ledger, pool: PoolId, zone: str, missing: int) -> list[str]:
    """Nodes of a zone in the order to claim from them: untouched ones that are wanted whole, then the best fit."""
    nodes = [node for node in _candidates(ledger) if node.zone == zone]
    whole: list[str] = []
    for node in sorted(nodes, key=lambda node: (-node.blocks, node.name)):
        if ledger.free(node.name) == node.blocks <= missing:
            whole.append(node.name)
            missing -= node.blocks
    rest = [node for node in nodes if node.name not in whole]

    def fit(node: InventoryNode) -> tuple[bool, int, bool, str]:
        free = ledger.free(node.name)
        return (free < missing, free if free >= missing else -free, not ledger.claimed(node.name, pool), node.name)

    return whole + [node.name for node in sorted(rest, key=fit)]

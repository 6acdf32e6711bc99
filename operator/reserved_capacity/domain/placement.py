"""Where there is room in a pool: best-fit, over one node or several of one topology domain (behaviour.md C3, C8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .holdings import MAX_MEMBERS, Holding, PoolState, Request, blocks_held_by_node, standing

Place = tuple[str, ...]


class Room:
    """The room of a pool while grants are made; best-fit, so that large holes stay large (C3).

    No more is given than is contracted, also while more than that is still claimed (I2). What is held counts as room
    that is used, on whatever node; where that is more than the claim, the node simply has no room. `withheld` is what
    members that are still to leave their node need of it: they may move there, but nobody else is granted it.
    """

    def __init__(self, pool: PoolState, holdings: Sequence[Holding]) -> None:
        used = blocks_held_by_node(holdings)
        # Of a node that is being left, what is claimed elsewhere already is outside the contract's sum (N2).
        left = {node.name: node.blocks for node in pool.nodes if node.evacuate}
        self.members = MAX_MEMBERS - len(holdings)
        inside = sum(min(blocks, left.get(name, blocks)) for name, blocks in used.items())
        self.blocks = pool.contracted_blocks - inside
        self.withheld = 0
        if any(used.get(name, 0) > blocks for name, blocks in left.items()):
            self.withheld = max(0, sum(holding.blocks for holding in standing(holdings)) - inside)
        self.labels = {node.name: node.labels for node in pool.nodes}
        self.free = {
            node.name: max(0, node.blocks - used.get(node.name, 0) - pool.reserved.get(node.name, 0))
            for node in pool.nodes
            if node.usable
        }

    def room_for(self, members: int, *, moving: bool = False) -> int:
        """Blocks that so many more members may hold together, wherever; `moving`: in the place of others."""
        return max(0, self.blocks - (0 if moving else self.withheld)) if members <= self.members else 0

    def place_all(self, requests: Sequence[Request], *, moving: bool = False) -> list[Place] | None:
        """Nodes for every request, or None and nothing is taken."""
        places = self.find_all(requests, moving=moving)
        if places is not None:
            self.members -= len(requests)
            if moving:
                self.withheld = max(0, self.withheld - sum(request.blocks for request in requests))
            for request, place in zip(requests, places, strict=True):
                self.blocks -= request.blocks
                for name in place:
                    self.free[name] -= request.part
        return places

    def find_all(self, requests: Sequence[Request], *, moving: bool = False) -> list[Place] | None:
        """Nodes for every request together, if there are; nothing is taken."""
        if sum(request.blocks for request in requests) > self.room_for(len(requests), moving=moving):
            return None
        free, places = dict(self.free), dict[int, Place]()
        # Largest first: with equal sizes, the common case, this is exact.
        for index in sorted(range(len(requests)), key=lambda index: -requests[index].blocks):
            place = best_fit(free, requests[index], self.labels)
            if place is None:
                return None
            for name in place:
                free[name] -= requests[index].part
            places[index] = place
        return [places[index] for index in range(len(requests))]


def best_fit(free: Mapping[str, int], request: Request, labels: Mapping[str, Mapping[str, str]]) -> Place | None:
    """The node on which a request leaves the least behind, or several that share a label's value (C8).

    Of several, those come first that have room for most parts: an instance needs different nodes, so what would pack the
    fullest ones first could leave all the rest on one node, where no other instance of its kind fits.
    """
    fitting = [(blocks, name) for name, blocks in free.items() if blocks >= request.part]
    if request.nodes == 1:
        return (min(fitting)[1],) if fitting else None
    fitting.sort(key=lambda each: (-(each[0] // request.part), *each))
    domains: dict[str, list[tuple[int, str]]] = {}
    for blocks, name in fitting:
        domain = labels.get(name, {}).get(request.topology_key)
        if domain is not None:
            domains.setdefault(domain, []).append((blocks, name))
    choices = [
        (sum(blocks for blocks, _ in nodes[: request.nodes]), domain, tuple(name for _, name in nodes[: request.nodes]))
        for domain, nodes in domains.items()
        if len(nodes) >= request.nodes
    ]
    return min(choices)[2] if choices else None

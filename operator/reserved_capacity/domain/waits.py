"""Why an instance waits for its next grant, and what would mend it (behaviour.md C4, C6, C7, C9).

Of one plan: whoever waits for the same has the same reason, which is worked out once.
"""

from __future__ import annotations

from collections.abc import Sequence

from .holdings import Demand, Holding, PoolNode, PoolState, Request, Wait, Waiting, blocks_held_by_node, capacity_of
from .placement import Room
from .units import cu_of

Requests = tuple[Request, ...]


class Waits:
    """The pool as it will be written, seen by those who have not got everything."""

    def __init__(self, pool: PoolState, holdings: Sequence[Holding]) -> None:
        self.pool, self.holdings = pool, holdings
        self.capacity = capacity_of(pool.nodes, holdings)
        self.used = blocks_held_by_node(holdings)
        self.kept = self._kept()
        self.idle = self.capacity.idle - self.kept
        self.room = Room(pool, holdings)
        self.released = Room(pool, [holding for holding in holdings if holding.held])
        self._known: dict[Requests, Wait] = {}

    def of(self, demand: Demand, batch: Sequence[Demand] | None) -> Wait:
        """`batch`: what would be granted together; None where that can never reach the minimum."""
        if batch is None:
            need = demand.min_instances * demand.blocks_per_instance
            return Wait(Waiting.BELOW_MINIMUM_INSTANCES, cu_of(need), cu_of(self.idle))
        requests = tuple(each.request for each in batch)
        if requests not in self._known:
            self._known[requests] = self._wait(requests)
        return self._known[requests]

    def _wait(self, requests: Requests) -> Wait:
        need = sum(each.blocks for each in requests)
        have = min(self.idle, self.room.room_for(len(requests)))
        reason = self._why(requests, need)
        remedy = self._mending_move(requests) if reason is Waiting.FRAGMENTED else ""
        if reason is Waiting.WAITING_FOR_COMPUTE_UNITS and self.kept:
            remedy = f"{cu_of(self.kept)} CU more are kept for a rollout or a change set; wait for its end, scale another instance down, or add a commitment"
        return Wait(reason, cu_of(need), cu_of(have), remedy)

    def _why(self, requests: Requests, need: int) -> Waiting:
        """Why these find no place: the first reason that matches, in the order of api.md."""
        idle = self.idle
        soon = idle + self.capacity.releasing
        if need <= self.released.room_for(len(requests)):
            if soon < need <= soon + self._unprovisioned():
                return Waiting.NOT_YET_PROVISIONED
            if idle < need <= soon or self.released.find_all(requests) is not None:
                return Waiting.WAITING_FOR_RELEASE
        if need > min(self.room.room_for(len(requests)), idle + self._idle_on_failed()):
            return Waiting.WAITING_FOR_COMPUTE_UNITS
        return Waiting.FRAGMENTED if sum(self.room.free.values()) >= need else Waiting.NODES_UNHEALTHY

    def _unprovisioned(self) -> int:
        """Blocks that are contracted and will be claimed: what members hold without a claim comes back to them alone."""
        claimed = {node.name: node.blocks for node in self.pool.nodes}
        held = blocks_held_by_node([holding for holding in self.holdings if holding.held])
        left = {node.name for node in self.pool.nodes if node.evacuate}
        lost = sum(max(0, blocks - claimed.get(name, 0)) for name, blocks in held.items() if name not in left)
        return max(0, self.pool.contracted_blocks - sum(claimed.values()) - lost)

    def _kept(self) -> int:
        """Blocks that are idle and promised to the steps of a change set or a rollout."""
        reserved = self.pool.reserved
        healthy = [node for node in self.pool.nodes if not node.failed and node.name in reserved]
        return sum(min(reserved[node.name], self._idle_on(node)) for node in healthy)

    def _idle_on_failed(self) -> int:
        return sum(self._idle_on(node) for node in self.pool.nodes if node.failed)

    def _idle_on(self, node: PoolNode) -> int:
        return max(0, node.blocks - self.used.get(node.name, 0))

    def _mending_move(self, requests: Requests) -> str:
        """The smallest member whose move to another node of the pool would make room in one piece (C9), in words."""
        in_vain: set[tuple[str, int]] = set()
        for holding in sorted(self.holdings, key=lambda holding: (holding.blocks, holding.member)):
            if not holding.held or len(holding.nodes) > 1 or holding.nodes[0] not in self.room.free:
                continue
            node, blocks = holding.nodes[0], holding.blocks
            if (node, blocks) in in_vain:
                continue  # one like it does not help either
            room = Room(self.pool, [other for other in self.holdings if other is not holding])
            if room.place_all(requests) is not None:
                elsewhere = [name for name, free in sorted(room.free.items()) if free >= blocks]
                target = next((name for name in elsewhere if name != node), None)
                if target is not None:
                    return f"moving {holding.instance} ({holding.member}) from {node} to {target} would make room"
            in_vain.add((node, blocks))
        return ""

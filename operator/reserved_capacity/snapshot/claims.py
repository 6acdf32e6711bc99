"""What the plan of claims looks at: what each pool is owed, and which claims outlive their pool."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain.claims import ClaimDemand
from reserved_capacity.domain.holdings import Request, blocks_held_by_node
from reserved_capacity.domain.nodes import InventoryNode, PoolId
from reserved_capacity.domain.units import blocks_of
from reserved_capacity.ports import PODS, STATEFUL_SETS, JsonObject
from reserved_capacity.snapshot.indexes import MEMBERS_BY_NODE
from reserved_capacity.snapshot.nodes import gpus_of, shape_of
from reserved_capacity.snapshot.pools import contracted_cu, holdings_of, lost_nodes, pool_id, rollouts_of
from reserved_capacity.store import PODS_BY_NODE, Store


def claim_demand(store: Store, pool: ComputeUnitPool, wanted: tuple[Request, ...]) -> ClaimDemand:
    """What a pool is owed, by its record. `wanted` is room that its idle claims should be re-arranged for (C9)."""
    accepted = [record.accepted_at for record in pool.status.commitments if record.accepted_at is not None]
    created = pool.metadata.creation_timestamp
    assert created is not None, "every stored object has a creation time"  # noqa: S101
    holdings = holdings_of(pool)
    return ClaimDemand(
        pool=pool_id(pool),
        contracted_blocks=blocks_of(contracted_cu(pool)),
        first_accepted=min(accepted, default=created),
        held=blocks_held_by_node(holdings),
        staying=blocks_held_by_node([holding for holding in holdings if holding.held]),
        lost_nodes=lost_nodes(store, holdings),
        wanted=wanted,
        last_held={node.name: node.blocks for node in pool.status.nodes},
        nodes_at_once=pool.spec.node_replacement.max_unavailable_nodes,
        lent=sum(record.borrowed for record in rollouts_of(pool)),
    )


def occupied(
    store: Store, nodes: Sequence[InventoryNode], unrecorded: frozenset[tuple[str, str]] = frozenset()
) -> dict[tuple[PoolId, str], int]:
    """Claims that outlive their pool, by pool and node: members of it are still there (C7), or the pool is there again
    and has not said yet what it holds (C2; `unrecorded`, by namespace and name)."""
    found: dict[tuple[PoolId, str], int] = {}
    for node in nodes:
        if not node.claims:
            continue
        ours = (*store.by(PODS_BY_NODE, PODS, node.name), *store.by(MEMBERS_BY_NODE, STATEFUL_SETS, node.name))
        here = unrecorded | {
            (obj["metadata"].get("namespace", ""), (obj["metadata"].get("labels") or {}).get(meta.POOL_LABEL))
            for obj in ours
        }
        found |= {
            (claim.pool, node.name): claim.blocks
            for claim in node.claims
            if (claim.pool.namespace, claim.pool.name) in here
        }
    return found


def with_unclaimed_use(
    store: Store, class_: AcceleratorClass, nodes: Sequence[InventoryNode], recorded: Set[tuple[str, str]]
) -> tuple[InventoryNode, ...]:
    """Blocks that run members of a pool which is gone, or has not said yet what it holds (not `recorded`, by namespace
    and name), though their node has lost its claims (it was registered anew): nobody else's, like a foreign pod's."""
    return tuple(
        replace(node, foreign_blocks=node.foreign_blocks + _unclaimed_use(store, class_, node, recorded))
        if node.free_blocks
        else node
        for node in nodes
    )


def _unclaimed_use(store: Store, class_: AcceleratorClass, node: InventoryNode, recorded: Set[tuple[str, str]]) -> int:
    gpus: dict[tuple[str, str], dict[str, int]] = {}
    for pod in store.by(PODS_BY_NODE, PODS, node.name):
        _count(gpus, pod, gpus_of(pod, class_.spec.gpu_resource), recorded)
    for member in store.by(MEMBERS_BY_NODE, STATEFUL_SETS, node.name):
        if member["spec"].get("replicas", 1):  # its pod comes again, if it is not there at the moment
            _count(gpus, member, gpus_of(member["spec"]["template"], class_.spec.gpu_resource), recorded)
    return sum(
        max(0, shape_of(class_).blocks_used_by(sum(members.values())) - _claimed(node, place))
        for place, members in gpus.items()
    )


def _count(
    gpus: dict[tuple[str, str], dict[str, int]], obj: JsonObject, wanted: int, recorded: Set[tuple[str, str]]
) -> None:
    labels = obj["metadata"].get("labels") or {}
    place = (obj["metadata"]["namespace"], labels.get(meta.POOL_LABEL, ""))
    if place not in recorded:
        gpus.setdefault(place, {})[labels.get(meta.MEMBER_LABEL, "")] = wanted


def _claimed(node: InventoryNode, place: tuple[str, str]) -> int:
    return sum(claim.blocks for claim in node.claims if (claim.pool.namespace, claim.pool.name) == place)

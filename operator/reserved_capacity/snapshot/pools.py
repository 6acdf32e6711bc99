"""Pools as the planners see them: their record, and their part of every node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reserved_capacity.api import poolstatus
from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain.changesets import ChangeSetRecord, Step
from reserved_capacity.domain.holdings import Holding, PoolNode, blocks_held_by_node
from reserved_capacity.domain.nodes import InventoryNode, PoolId
from reserved_capacity.domain.repair import LeavingNode, NodeReplacement, coverage
from reserved_capacity.domain.rollout.values import Failure, RolloutRecord
from reserved_capacity.domain.terms import CommitmentRecord, Reduction
from reserved_capacity.domain.units import blocks_of
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    NODES,
    Ref,
)
from reserved_capacity.snapshot.indexes import NODES_BY_POOL, claims_of
from reserved_capacity.snapshot.nodes import inventory_node, labels_of, repair_rules, running_pods
from reserved_capacity.snapshot.parsing import parse_pool
from reserved_capacity.store import (
    FOREIGN_PODS,
    PODS_BY_NODE,
    POOLS_BY_CLASS,
    Store,
)


def pool_id(pool: ComputeUnitPool) -> PoolId:
    return PoolId(pool.namespace, pool.name, pool.metadata.uid)


def replacement_of(pool: ComputeUnitPool) -> NodeReplacement:
    """How the pool leaves nodes that have failed or are being emptied."""
    chosen = pool.spec.node_replacement
    return NodeReplacement(chosen.strategy, chosen.max_unavailable_nodes)


def contracted_cu(pool: ComputeUnitPool) -> int:
    """CU of all accepted commitments that have not ended, by the record."""
    return sum(record.compute_units for record in commitment_records(pool) if not record.ended)


def holdings_of(pool: ComputeUnitPool, instance: str | None = None) -> tuple[Holding, ...]:
    """The allocation record, or one instance's part of it, as the domain sees it."""
    return tuple(_holding(each) for each in pool.status.holdings if instance is None or each.instance == instance)


def holdings_beside(pool: ComputeUnitPool, member: str) -> tuple[Holding, ...]:
    """What the allocation record says of one member, and of all that have blocks where it has some; in its order. A record
    may be of a thousand members, and each of them asks."""
    record = pool.status.holdings
    nodes = {name for each in record if each.member == member for name in each.nodes}
    return tuple(_holding(each) for each in record if each.member == member or not nodes.isdisjoint(each.nodes))


def holdings_on(pool: ComputeUnitPool, node: str) -> tuple[Holding, ...]:
    """The part of the allocation record that is about one node."""
    return tuple(_holding(each) for each in pool.status.holdings if node in each.nodes)


def _holding(recorded: poolstatus.Holding) -> Holding:
    return Holding(
        instance=recorded.instance,
        member=recorded.member,
        blocks=blocks_of(recorded.compute_units),
        nodes=tuple(recorded.nodes),
        since=recorded.since,
        state=recorded.state,
        instance_uid=recorded.instance_uid,
        replaces=recorded.replaces or "",
        version=Version(recorded.snapshot, recorded.profile or "default") if recorded.snapshot else None,
    )


def change_sets_of(pool: ComputeUnitPool) -> tuple[ChangeSetRecord, ...]:
    """What is on record of the pool's change sets, as the domain sees it."""
    return tuple(
        ChangeSetRecord(
            id=each.id,
            phase=each.phase,
            members=tuple(each.members),
            steps=tuple(
                Step(step.action, step.instance, step.member, blocks_of(step.compute_units), step.nodes, step.state)
                for step in each.steps
            ),
            message=each.message or "",
        )
        for each in pool.status.change_sets
    )


def rollouts_of(pool: ComputeUnitPool) -> tuple[RolloutRecord, ...]:
    """What is on record of the rollouts of the pool's instances, as the domain sees it."""
    return tuple(
        RolloutRecord(
            instance=each.instance,
            instance_uid=each.instance_uid,
            id=each.id,
            source=Version(each.from_.snapshot, each.from_.profile),
            target=Version(each.to.snapshot, each.to.profile),
            started_at=each.started_at,
            attempt=each.attempt,
            state=each.state,
            strategy=each.strategy,
            surge=each.surge,
            borrowed=blocks_of(each.borrowed_compute_units),
            why=each.why or "",
            vacated=each.vacated,
            starting=each.starting,
            unready_since=each.unready_since,
            canary_since=each.canary_since,
            canary_passed=each.canary_passed,
            failure=Failure(each.failure.member, each.failure.reason, each.failure.message, each.failure.at)
            if each.failure
            else None,
            ended_at=each.ended_at,
        )
        for each in pool.status.rollouts
    )


def commitment_records(pool: ComputeUnitPool) -> tuple[CommitmentRecord, ...]:
    """What is on record of the pool's commitments, as the domain sees it."""
    ordered = {order.id: order.compute_units for order in pool.spec.commitments}
    return tuple(
        CommitmentRecord(
            id=each.id,
            accepted_at=each.accepted_at,
            compute_units=_size(ordered.get(each.id), each.compute_units),
            state=each.state,
            provisioned_cu=each.provisioned_compute_units,
            fully_provisioned_at=each.fully_provisioned_at,
            first_provisioned_at=each.first_provisioned_at,
            billing_start=each.billing_start,
            term_end=each.term_end,
            renewal_deadline=each.renewal_deadline,
            number=each.number,
            ordered_cu=ordered.get(each.id, each.compute_units or 0),
            reductions=tuple(
                Reduction(amendment.at, amendment.compute_units, amendment.seen_at) for amendment in each.amendments
            ),
        )
        for each in pool.status.commitments
        if each.accepted_at is not None
    )


def _size(ordered: int | None, recorded: int | None) -> int:
    """What is on record; no more than the order, which can shrink before anything is claimed for it."""
    known = [each for each in (ordered, recorded) if each is not None]
    return min(known, default=0)


@dataclass(frozen=True, slots=True)
class PoolPlaces:
    """Where a pool's blocks are: its part of each node, and those nodes' own facts (none for a node that is gone).

    `foreign_pods` are others' pods that hold GPUs on those nodes, as phrases (C11).
    """

    nodes: tuple[PoolNode, ...]
    facts: Mapping[str, InventoryNode]
    foreign_pods: tuple[str, ...]

    @property
    def claimed_blocks(self) -> int:
        return sum(node.blocks for node in self.nodes)


def places_of(
    store: Store, pool: ComputeUnitPool, class_: AcceleratorClass | None, holdings: Sequence[Holding], *, now: datetime
) -> PoolPlaces:
    """The pool's part of every node that it has a claim on, and of nodes that are gone while its members hold blocks.

    A node that is gone counts as failed with the blocks that are held there: it stays provisioned, as unhealthy (C4).
    """
    facts: dict[str, InventoryNode] = {}
    held = blocks_held_by_node(holdings)
    staying = blocks_held_by_node([holding for holding in holdings if holding.held])
    rules, nodes = repair_rules(class_), []
    for node in store.by(NODES_BY_POOL, NODES, (pool.namespace, pool.name)):
        blocks = sum(claim.blocks for claim in claims_of(node) if claim.pool == pool_id(pool))
        if not blocks:
            continue
        fact = inventory_node(store, class_, node, rules, now=now)
        facts[fact.name] = fact
        # A node that lost GPUs under its claims offers only what is left of them.
        excess = max(0, fact.claimed_blocks - fact.blocks)
        there = max(min(held.get(fact.name, 0), blocks), blocks - excess)
        evacuate = fact.failed or fact.cordoned
        nodes.append(
            PoolNode(fact.name, there, fact.usable, failed=fact.failed, evacuate=evacuate, labels=labels_of(node))
        )
    for name in sorted(set(held) - set(facts)):
        if store.get(Ref(NODES, "", name)) is None:
            evacuate = not running_pods(store, name)
            nodes.append(PoolNode(name, held[name], usable=False, failed=True, evacuate=evacuate))
    nodes = _without_replaced(nodes, staying, blocks_of(contracted_cu(pool)))
    foreign = tuple(
        f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']} on {name}"
        for name, fact in sorted(facts.items())
        if fact.foreign_blocks
        for pod in store.by(PODS_BY_NODE, FOREIGN_PODS, name)
    )
    return PoolPlaces(tuple(sorted(nodes, key=lambda node: node.name)), facts, foreign)


def _without_replaced(nodes: Sequence[PoolNode], staying: Mapping[str, int], contracted_blocks: int) -> list[PoolNode]:
    """Take out of the sums what is claimed elsewhere in its place (N2): such blocks are the pool's no more, nor anybody
    else's before the node is fenced."""
    leaving = [
        LeavingNode(node.name, node.blocks, staying.get(node.name, 0), node.failed)
        for node in nodes
        if node.evacuate and (node.failed or staying.get(node.name))
    ]
    covered = coverage(leaving, sum(node.blocks for node in nodes) - contracted_blocks)
    return [
        replace(node, blocks=node.blocks - covered.get(node.name, 0), replaced=covered.get(node.name, 0))
        for node in nodes
    ]


def lost_nodes(store: Store, holdings: Sequence[Holding]) -> frozenset[str]:
    """Nodes that members hold blocks on and that are gone, with all of our pods: these are replaced (N1)."""
    names = blocks_held_by_node(holdings)
    return frozenset(
        name for name in names if store.get(Ref(NODES, "", name)) is None and not running_pods(store, name)
    )


def pools_of_class(store: Store, class_name: str) -> list[ComputeUnitPool]:
    return [parse_pool(store, obj) for obj in store.by(POOLS_BY_CLASS, COMPUTE_UNIT_POOLS, class_name)]

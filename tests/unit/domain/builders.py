"""Short ways to say what a test is about; everything left out is ordinary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reserved_capacity.domain.admission import plan_holdings
from reserved_capacity.domain.claims import ClaimDemand, ClaimPlan
from reserved_capacity.domain.eligibility import InstanceFacts, OfferingFacts, SnapshotFacts
from reserved_capacity.domain.holdings import Demand, Freeze, Holding, HoldingsPlan, HoldingState, PoolNode, PoolState
from reserved_capacity.domain.members import ObservedMember
from reserved_capacity.domain.nodes import Claim, InventoryNode, PoolId

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)

PROD = PoolId("acme", "prod", "uid-prod")
BATCH = PoolId("acme", "batch", "uid-batch")


# --------------------------------------------------------------------------------------------------------------- claims


def inventory_node(
    name: str,
    blocks: int = 8,
    *,
    zone: str = "a",
    claims: Mapping[PoolId, int] | None = None,
    foreign: int = 0,
    ready: bool = True,
    cordoned: bool = False,
    failed: bool = False,
) -> InventoryNode:
    return InventoryNode(
        name=name,
        zone=zone,
        blocks=blocks,
        ready=ready,
        cordoned=cordoned,
        failed=failed,
        claims=tuple(Claim(pool, count) for pool, count in (claims or {}).items()),
        foreign_blocks=foreign,
    )


def owed(
    pool: PoolId = PROD, blocks: int = 6, *, held: Mapping[str, int] | None = None, since: datetime = NOW
) -> ClaimDemand:
    return ClaimDemand(pool, blocks, since, held or {})


def claims_after(nodes: Sequence[InventoryNode], plan: ClaimPlan) -> dict[str, dict[PoolId, int]]:
    """Blocks by node and pool once the plan is carried out; nodes without a claim are left out."""
    return {
        node.name: {claim.pool: claim.blocks for claim in node.claims}
        for node in apply_claims(nodes, plan)
        if node.claims
    }


def apply_claims(nodes: Sequence[InventoryNode], plan: ClaimPlan) -> tuple[InventoryNode, ...]:
    written = {change.node: change.claims for change in plan.changes}
    return tuple(replace(node, claims=written.get(node.name, node.claims)) for node in nodes)


# ------------------------------------------------------------------------------------------------------------- holdings


def held(
    member: str, blocks: int = 3, *nodes: str, since: datetime = NOW, state: HoldingState = HoldingState.HELD
) -> Holding:
    """A holding of the instance that the member's name begins with, on `gpu-1` unless told."""
    return Holding(member.rsplit("-", 1)[0], member, blocks, nodes or ("gpu-1",), since, state)


def releasing(member: str, blocks: int = 3, *nodes: str) -> Holding:
    return held(member, blocks, *nodes, state=HoldingState.RELEASING)


def asks(
    instance: str = "chat",
    desired: int = 2,
    *,
    blocks: int = 3,
    minimum: int = 1,
    offering: str | None = None,
    priority: int = 0,
    age: int = 0,
    freeze: Freeze = Freeze.NOTHING,
) -> Demand:
    """What an instance asks for; `age` in minutes, the older is served first. Each has its own offering unless told."""
    return Demand(
        instance=instance,
        uid=f"uid-{instance}",
        offering=offering or f"model-of-{instance}",
        blocks_per_instance=blocks,
        min_instances=minimum,
        desired=desired,
        priority=priority,
        created_at=NOW - timedelta(minutes=age),
        freeze=freeze,
    )


def part(name: str = "gpu-1", blocks: int = 6, *, usable: bool = True, failed: bool = False) -> PoolNode:
    """The pool's part of one node."""
    return PoolNode(name, blocks, usable=usable and not failed, failed=failed)


def pool(
    *demands: Demand,
    nodes: Sequence[PoolNode] = (part(),),
    holdings: Sequence[Holding] = (),
    contracted: int | None = None,
    gone: Sequence[str] = (),
    taken: Sequence[str] = (),
) -> PoolState:
    """A pool whose contract is what is claimed, unless told."""
    return PoolState(
        contracted_blocks=sum(node.blocks for node in nodes) if contracted is None else contracted,
        nodes=tuple(nodes),
        holdings=tuple(holdings),
        demands=demands,
        gone=frozenset(gone),
        taken=frozenset(taken),
    )


def planned(state: PoolState, *, now: datetime = LATER) -> HoldingsPlan:
    return plan_holdings(state, now=now)


def members(plan: HoldingsPlan, instance: str | None = None) -> list[str]:
    """Members that hold, by name."""
    return [each.member for each in plan.holdings if each.held and instance in (None, each.instance)]


def leaving(plan: HoldingsPlan) -> list[str]:
    return [each.member for each in plan.holdings if not each.held]


# ---------------------------------------------------------------------------------------------------------- eligibility

SNAPSHOT = "gpt-4-turbo-2024-04-09"


def offering_facts(
    name: str = "gpt-4-turbo",
    *,
    compute_units: int = 300,
    minimum: int = 2,
    sold: bool = True,
    nodes: int = 1,
    classes: Sequence[str] = ("h100-8",),
    snapshots: Mapping[str, SnapshotFacts] | None = None,
) -> OfferingFacts:
    return OfferingFacts(
        name=name,
        sold_reserved=sold,
        compute_units_per_instance=compute_units,
        min_instances=minimum,
        nodes_per_instance=nodes,
        topology_key="zone",
        accelerator_classes=frozenset(classes),
        profiles=frozenset({"default", "low-latency"}),
        snapshots={SNAPSHOT: SnapshotFacts()} if snapshots is None else snapshots,
    )


def instance_facts(
    name: str = "chat",
    desired: int = 2,
    *,
    offering: str = "gpt-4-turbo",
    snapshot: str = SNAPSHOT,
    profile: str = "default",
    held: int = 0,
    held_blocks: int | None = None,
    name_taken_by: str = "",
) -> InstanceFacts:
    return InstanceFacts(
        name=name,
        uid=f"uid-{name}",
        offering=offering,
        snapshot=snapshot,
        profile=profile,
        desired=desired,
        priority=0,
        created_at=NOW,
        held=held,
        held_blocks=held_blocks,
        name_taken_by=name_taken_by,
    )


# -------------------------------------------------------------------------------------------------------------- members


def observed_member(
    name: str,
    *,
    owner: str = "uid-chat",
    revision: str = "rev-1",
    replicas: int = 1,
    terminating: bool = False,
) -> ObservedMember:
    return ObservedMember(name, f"uid-{name}", owner, revision, SNAPSHOT, "default", replicas, terminating)

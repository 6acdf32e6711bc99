"""Owns what is asked of the API server itself just before a member is started or stopped, or a claim given back: the
watches may be behind.

Nothing can be written under a precondition on two objects. So a member's StatefulSet is there without pods first, and
then its holding is confirmed: whoever releases the holding from there on sees the StatefulSet (ADR 0008).
"""

from __future__ import annotations

from reserved_capacity.api import meta
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain.claims import NodeClaims
from reserved_capacity.domain.holdings import Holding, blocks_held_by_node, may_run
from reserved_capacity.domain.members import ObservedMember, made_for
from reserved_capacity.domain.nodes import InventoryNode
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, NODES, PODS, STATEFUL_SETS, Conflict, JsonObject, Ref
from reserved_capacity.reconcilers.context import Context
from reserved_capacity.snapshot import MEMBERS_BY_NODE, claims_of, holdings_beside, holdings_on
from reserved_capacity.store import PODS_BY_NODE


async def confirm_held(context: Context, pool: Ref, member: ObservedMember) -> bool:
    """Is the holding on record, and are its blocks the pool's? Another operator may have given them back before it saw
    the holding, or their node came back with fewer. Raises Conflict if the member holds nothing where it is."""
    holdings = await live_holdings(context, pool, member)
    holding = next((each for each in holdings if each.member == member.name and each.held), None)
    if holding is None or not made_for(holding, member):
        raise Conflict(f"{member.name} does not hold its blocks any more")
    held = blocks_held_by_node(holdings)
    for name in holding.nodes:
        node = await context.cluster.get(Ref(NODES, "", name))
        claims = claims_of(node) if node is not None else ()
        claimed = sum(claim.blocks for claim in claims if (claim.pool.namespace, claim.pool.name) == _place(pool))
        if claimed < held[name] and not may_run(
            member.name, name, holdings, await _running(context, pool), claimed_blocks=claimed
        ):
            return False
    return True


async def confirm_not_held(context: Context, pool: Ref, member: ObservedMember) -> None:
    """A member without a holding, or whose holding is being released, has to go; but first make sure that it is so: its name
    may have been given again since."""
    for holding in await live_holdings(context, pool, member):
        if holding.held and holding.member == member.name and made_for(holding, member):
            raise Conflict(f"{member.name} has a holding that was not to be seen here yet")


async def confirm_given_back(context: Context, node: InventoryNode, change: NodeClaims) -> None:
    """Is what a claim is to lose nobody's by the pool's own record? Different streams tell of a node and of its pools, in no
    order: another operator may have claimed and given away what this one thinks is idle, or of a pool that it has not
    heard of. Raises Conflict if so."""
    left = {claim.pool: claim.blocks for claim in change.claims}
    for claim in node.claims:
        if left.get(claim.pool, 0) >= claim.blocks:
            continue
        ref = Ref(COMPUTE_UNIT_POOLS, claim.pool.namespace, claim.pool.name)
        planned_on = context.store.parsed(ref, ComputeUnitPool)
        live = await context.cluster.get(ref)
        if live is None:
            await _confirm_unused(context, ref, node.name)
            continue
        now = context.store.parsed_answer(ref, live, ComputeUnitPool)
        if planned_on is None or _held_on(now, node.name) > _held_on(planned_on, node.name):
            raise Conflict(f"{ref} holds blocks on {node.name} that were not to be seen here yet")


async def _confirm_unused(context: Context, pool: Ref, node: str) -> None:
    """Is nothing left on the node of a pool that is gone (C7)?"""
    selector = f"{meta.POOL_LABEL}={pool.name}"
    for resource, by_node in ((STATEFUL_SETS, MEMBERS_BY_NODE), (PODS, PODS_BY_NODE)):
        listing = await context.cluster.list(resource, namespace=pool.namespace, label_selector=selector)
        there = [obj for obj in listing.items if node in by_node.keys(obj)]
        for obj in there:  # else the next plan would run into it again
            context.store.observe(resource, obj)
        if there:
            raise Conflict(f"{there[0]['metadata']['name']} of {pool}, which is gone, is still on {node}")


def _held_on(pool: ComputeUnitPool, node: str) -> int:
    return blocks_held_by_node(holdings_on(pool, node)).get(node, 0)


async def live_holdings(context: Context, pool: Ref, member: ObservedMember) -> tuple[Holding, ...]:
    """What the pool's record says of a member and its nodes, as the API server has it now. Raises Conflict if nobody has
    written one (yet, or any more)."""
    live = await context.cluster.get(pool)
    parsed = context.store.parsed_answer(pool, live, ComputeUnitPool) if live is not None else None
    if parsed is None or not parsed.status.observed_generation:
        raise Conflict(f"{pool} has no allocation record: it is rebuilt from its members before any of them is touched")
    return holdings_beside(parsed, member.name)


async def _running(context: Context, pool: Ref) -> frozenset[str]:
    """Members of the pool that have pods, or may have them at any moment."""
    selector = f"{meta.POOL_LABEL}={pool.name}"
    members = await context.cluster.list(STATEFUL_SETS, namespace=pool.namespace, label_selector=selector)
    pods = await context.cluster.list(PODS, namespace=pool.namespace, label_selector=selector)
    started = {each["metadata"]["name"] for each in members.items if each["spec"].get("replicas", 1)}
    return frozenset(started | {_member(pod) for pod in pods.items})


def _member(pod: JsonObject) -> str:
    return str((pod["metadata"].get("labels") or {}).get(meta.MEMBER_LABEL, ""))


def _place(pool: Ref) -> tuple[str, str]:
    return (pool.namespace, pool.name)

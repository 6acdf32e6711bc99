"""Reconciles an AcceleratorClass: which nodes give blocks to which pools, and what the class says of itself.

The only place that writes Nodes. All pools of a class are planned together, by one worker at a time (the queue never
runs one key twice at once), and every write names the node's resourceVersion: a second operator loses the race
instead of giving a block away twice (behaviour.md C2).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import (
    AcceleratorClass,
    AcceleratorClassStatus,
    ClassComputeUnits,
    NodeCounts,
)
from reserved_capacity.api.computeunitpool import ComputeUnitPool
from reserved_capacity.domain.claims import NodeClaims, plan_claims
from reserved_capacity.domain.conditions import ConditionValue, condition
from reserved_capacity.domain.nodes import InventoryNode, failure_time
from reserved_capacity.domain.reasons.provider import ClassReady
from reserved_capacity.domain.units import blocks_of, cu_of
from reserved_capacity.ports import ACCELERATOR_CLASSES, NODES, PODS, Conflict, JsonObject, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.confirmation import confirm_given_back
from reserved_capacity.reconcilers.context import Context, condition_list
from reserved_capacity.snapshot import (
    ailing_conditions,
    claims_annotation,
    gpus_of,
    inventory,
    nodes_of_class,
    parse_class,
    pools_of_class,
    repair_rules,
    shape_of,
)
from reserved_capacity.snapshot.claims import claim_demand, occupied, with_unclaimed_use
from reserved_capacity.store import FOREIGN_PODS, NOT_MANAGED_BY
from reserved_capacity.trimming import foreign_gpu_pods

_OUR_TAINT = {"key": meta.CLAIMED_TAINT, "value": meta.CLAIMED_VALUE, "effect": meta.CLAIMED_TAINT_EFFECT}


async def reconcile(context: Context, key: Key) -> datetime | None:
    """Returns when a node of the class fails if nothing changes until then."""
    async with context.domain(key.name):
        class_ = parse_class(context.store, key.name)
        if class_ is None:
            return None
        now = context.clock.now()
        nodes = await _plan_and_write(context, class_, now)
    await _report(context, class_, now, nodes)
    return _next_failure(context, class_, now)


async def _plan_and_write(context: Context, class_: AcceleratorClass, now: datetime) -> Sequence[InventoryNode]:
    """Returns the nodes as they are then."""
    # The very objects that are planned on: what changes while a write is awaited must fail the next precondition.
    seen = {node["metadata"]["name"]: node for node in nodes_of_class(context.store, class_)}
    pools = pools_of_class(context.store, class_.name)
    nodes = _nodes(context, class_, pools, now)
    recorded = _recorded(pools)
    unrecorded = frozenset((pool.namespace, pool.name) for pool in pools if not pool.status.observed_generation)
    demands = [claim_demand(context.store, pool, context.board.wanted(pool.namespace, pool.name)) for pool in recorded]
    plan = plan_claims(nodes, demands, occupied=occupied(context.store, nodes, unrecorded))
    by_name = {node.name: node for node in nodes}
    for change in plan.changes:
        await _write_claims(context, class_, by_name[change.node], seen[change.node], change)
    return _nodes(context, class_, pools, now) if plan.changes else nodes


def _recorded(pools: Sequence[ComputeUnitPool]) -> list[ComputeUnitPool]:
    return [pool for pool in pools if pool.status.observed_generation and not pool.metadata.deletion_timestamp]


def _nodes(
    context: Context, class_: AcceleratorClass, pools: Sequence[ComputeUnitPool], now: datetime
) -> tuple[InventoryNode, ...]:
    recorded = {(pool.namespace, pool.name) for pool in _recorded(pools)}
    return with_unclaimed_use(context.store, class_, inventory(context.store, class_, now=now), recorded)


async def _write_claims(
    context: Context, class_: AcceleratorClass, node: InventoryNode, observed: JsonObject, change: NodeClaims
) -> None:
    if sum(claim.blocks for claim in change.claims) > node.claimed_blocks:
        await _check_foreign_pods(context, class_, node, change)
    await confirm_given_back(context, node, change)
    await context.patch(Ref(NODES, "", change.node), observed, node_patch(observed, change))


async def _check_foreign_pods(
    context: Context, class_: AcceleratorClass, node: InventoryNode, change: NodeClaims
) -> None:
    """C11: look at the node's other pods themselves before a claim grows; the list that was planned on may be old."""
    resource = class_.spec.gpu_resource
    listing = await context.cluster.list(
        PODS, label_selector=NOT_MANAGED_BY, field_selector=f"spec.nodeName={change.node}"
    )
    pods = foreign_gpu_pods(listing, frozenset({resource})).items
    foreign = shape_of(class_).blocks_used_by(sum(gpus_of(pod, resource) for pod in pods))
    if sum(claim.blocks for claim in change.claims) > node.blocks - foreign:
        for pod in pods:  # else the next plan would run into them again, until the periodic LIST finds them
            context.store.observe(FOREIGN_PODS, pod)
        raise Conflict(f"pods that are not ours use {foreign} blocks of node {change.node} by now")


def node_patch(observed: JsonObject, change: NodeClaims) -> dict[str, Any]:
    """The merge patch of our keys of a Node (api.md, Keys), and of nothing else."""
    claimed = bool(change.claims)
    others = [taint for taint in (observed.get("spec") or {}).get("taints") or () if taint["key"] != meta.CLAIMED_TAINT]
    taints = [*others, _OUR_TAINT] if claimed else others
    return {
        "metadata": {
            "annotations": {
                meta.CLAIMS_ANNOTATION: claims_annotation(change.claims) if claimed else None,
                meta.CLUSTER_AUTOSCALER_ANNOTATION: "true" if claimed else None,
                meta.KARPENTER_ANNOTATION: "true" if claimed else None,
            },
            "labels": {meta.CLAIMED_LABEL: meta.CLAIMED_VALUE if claimed else None},
        },
        "spec": {"taints": taints or None},
    }


async def _report(context: Context, class_: AcceleratorClass, now: datetime, nodes: Sequence[InventoryNode]) -> None:
    ref = Ref(ACCELERATOR_CLASSES, "", class_.name)
    observed = context.store.get(ref)
    if observed is None:
        return
    status = AcceleratorClassStatus(
        observed_generation=class_.metadata.generation,
        nodes=NodeCounts(
            total=len(nodes),
            ready=sum(node.ready for node in nodes),
            cordoned=sum(node.cordoned for node in nodes),
            failed=sum(node.failed for node in nodes),
        ),
        compute_units=ClassComputeUnits(
            total=cu_of(sum(node.blocks for node in nodes)),
            claimed=cu_of(sum(node.claimed_blocks for node in nodes)),
            free=cu_of(sum(node.free_blocks for node in nodes if node.usable)),
            unhealthy=cu_of(sum(node.blocks for node in nodes if node.failed)),
        ),
        conditions=condition_list(
            class_.status, (_ready(class_, nodes),), generation=class_.metadata.generation, now=now
        ),
    )
    summary = f"{status.nodes.ready} of {status.nodes.total} nodes ready, {status.compute_units.free} CU free"
    await context.publish(ref, observed, status.model_copy(update={"summary": summary}))


def _ready(class_: AcceleratorClass, nodes: Sequence[InventoryNode]) -> ConditionValue:
    if not nodes:
        selector = ", ".join(f"{key}={value}" for key, value in sorted(class_.spec.node_selector.match_labels.items()))
        return condition("Ready", ClassReady.NO_NODES, f"no Node has the labels {selector}: label the nodes")
    full = blocks_of(class_.spec.compute_units_per_node)
    fewer = [node.name for node in nodes if node.blocks < full]
    if fewer:
        return condition(
            "Ready",
            ClassReady.GPU_COUNT_MISMATCH,
            f"{len(fewer)} of {len(nodes)} nodes have fewer than {class_.spec.gpus_per_node} allocatable "
            f"{class_.spec.gpu_resource} and count for fewer blocks: {', '.join(fewer[:5])}",
        )
    return condition("Ready", ClassReady.READY, f"{len(nodes)} nodes have the GPUs that the class promises")


def _next_failure(context: Context, class_: AcceleratorClass, now: datetime) -> datetime | None:
    rules = repair_rules(class_)
    times = [failure_time(ailing_conditions(node, rules), rules) for node in nodes_of_class(context.store, class_)]
    return min((at for at in times if at is not None and at > now), default=None)

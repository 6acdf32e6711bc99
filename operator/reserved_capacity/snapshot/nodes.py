"""Nodes as capacity: blocks, claims, health, and what others use of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import DEFAULT_REPAIR, AcceleratorClass
from reserved_capacity.domain import nodes as domain_nodes
from reserved_capacity.domain.nodes import InventoryNode, NodeCondition, RepairRule
from reserved_capacity.domain.units import NodeShape
from reserved_capacity.ports import (
    NODES,
    PODS,
    JsonObject,
    Ref,
)
from reserved_capacity.snapshot.indexes import NODES_BY_LABEL, claims_of
from reserved_capacity.snapshot.parsing import timestamp
from reserved_capacity.store import (
    FOREIGN_PODS,
    PODS_BY_NODE,
    Store,
)

ZONE_LABEL = "topology.kubernetes.io/zone"
HOSTNAME_LABEL = "kubernetes.io/hostname"


def shape_of(class_: AcceleratorClass) -> NodeShape:
    return NodeShape(class_.spec.gpus_per_node, class_.spec.compute_units_per_node)


def selects(class_: AcceleratorClass, node: JsonObject) -> bool:
    labels = node["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in class_.spec.node_selector.match_labels.items())


def nodes_of_class(store: Store, class_: AcceleratorClass) -> list[JsonObject]:
    """The Node objects that the class selects, by name."""
    first = next(iter(class_.spec.node_selector.match_labels.items()))
    return [node for node in store.by(NODES_BY_LABEL, NODES, first) if selects(class_, node)]


def inventory(store: Store, class_: AcceleratorClass, *, now: datetime) -> tuple[InventoryNode, ...]:
    """All nodes of a class, as capacity."""
    rules = repair_rules(class_)
    return tuple(inventory_node(store, class_, node, rules, now=now) for node in nodes_of_class(store, class_))


def inventory_node(
    store: Store, class_: AcceleratorClass | None, node: JsonObject, rules: Sequence[RepairRule], *, now: datetime
) -> InventoryNode:
    """One node as capacity, by the repair rules of its class. Without the class (deleted under us) it keeps its claims
    and offers nothing more."""
    name = node["metadata"]["name"]
    claims = claims_of(node)
    claimed = sum(claim.blocks for claim in claims)
    ready = next((each for each in _conditions(node) if each["type"] == "Ready"), None)
    is_ready = ready is not None and ready["status"] == "True"
    ailing = ailing_conditions(node, rules)
    return InventoryNode(
        name=name,
        zone=(node["metadata"].get("labels") or {}).get(ZONE_LABEL, ""),
        blocks=shape_of(class_).blocks_in(allocatable_gpus(class_, node)) if class_ else claimed,
        ready=is_ready,
        cordoned=bool((node.get("spec") or {}).get("unschedulable")),
        failed=bool(ailing)
        and domain_nodes.has_failed(ailing, rules, members_gone=not running_pods(store, name), now=now),
        claims=claims,
        foreign_blocks=_foreign_blocks(store, class_, name) if class_ else 0,
        not_ready_since=None if ready is None or is_ready else timestamp(ready["lastTransitionTime"]),
    )


def conditions_of(node: JsonObject) -> tuple[NodeCondition, ...]:
    return tuple(_condition(each) for each in _conditions(node))


def ailing_conditions(node: JsonObject, rules: Sequence[RepairRule]) -> tuple[NodeCondition, ...]:
    """Those of which some rule says that the node has failed when they last: of most nodes none, and there are many."""
    watched = {(rule.condition_type, rule.status) for rule in rules}
    return tuple(_condition(each) for each in _conditions(node) if (each["type"], each["status"]) in watched)


def _conditions(node: JsonObject) -> list[JsonObject]:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return [each for each in conditions if each.get("lastTransitionTime")]


def _condition(condition: JsonObject) -> NodeCondition:
    return NodeCondition(condition["type"], condition["status"], timestamp(condition["lastTransitionTime"]))


def repair_rules(class_: AcceleratorClass | None) -> tuple[RepairRule, ...]:
    rules = class_.spec.repair if class_ else DEFAULT_REPAIR
    return tuple(RepairRule(rule.condition_type, rule.status, rule.after) for rule in rules)


def _foreign_blocks(store: Store, class_: AcceleratorClass, node: str) -> int:
    pods = store.by(PODS_BY_NODE, FOREIGN_PODS, node)
    return shape_of(class_).blocks_used_by(sum(gpus_of(pod, class_.spec.gpu_resource) for pod in pods))


def allocatable_gpus(class_: AcceleratorClass, node: JsonObject) -> int:
    status = node.get("status") or {}
    return whole((status.get("allocatable") or {}).get(class_.spec.gpu_resource, "0"))


def gpus_of(pod: JsonObject, gpu_resource: str) -> int:
    """GPUs that a pod keeps from others: the larger of its containers' sum and its largest init container."""
    spec = pod["spec"]
    running = sum(_request(container, gpu_resource) for container in spec.get("containers") or ())
    starting = max((_request(container, gpu_resource) for container in spec.get("initContainers") or ()), default=0)
    return max(running, starting)


def _request(container: JsonObject, resource: str) -> int:
    resources = container.get("resources") or {}
    for field in ("requests", "limits"):
        if resource in (resources.get(field) or {}):
            return whole(resources[field][resource])
    return 0


def labels_of(node: JsonObject) -> dict[str, str]:
    return dict(node["metadata"].get("labels") or {})


def hostname_of(store: Store, node: str) -> str:
    """The node's hostname label, which affinity is about; on some clouds it differs from the node's name."""
    stored = store.get(Ref(NODES, "", node))
    return str((labels_of(stored) if stored is not None else {}).get(HOSTNAME_LABEL, node))


def running_pods(store: Store, node: str) -> list[JsonObject]:
    """Members' pods on a node that nobody has begun to delete. What pulls an artifact there is nobody to wait for."""
    pods = store.by(PODS_BY_NODE, PODS, node)
    return [
        pod
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and meta.PREFETCH_LABEL not in (pod["metadata"].get("labels") or {})
    ]


def whole(quantity: str | int) -> int:
    """A Kubernetes quantity of an extended resource, which the API server only takes whole (`8`, at most `1k`)."""
    text = str(quantity)
    return int(text[:-1]) * 1000 if text.endswith("k") else int(text)

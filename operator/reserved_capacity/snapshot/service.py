"""What keeps an instance from serving: its members, their nodes and pods, as the facts by which downtime is attributed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.downtime import MissingMember, NodeHealth, ServiceFacts
from reserved_capacity.domain.holdings import Holding, standing
from reserved_capacity.ports import NODES, JsonObject, Ref
from reserved_capacity.snapshot.instances import pods_of_member
from reserved_capacity.snapshot.nodes import conditions_of, repair_rules
from reserved_capacity.store import Store

_STARTING = (None, "ContainerCreating", "PodInitializing")


def service_facts(
    store: Store,
    instance: ModelInstance,
    class_: AcceleratorClass | None,
    holdings: Sequence[Holding],
    *,
    serving: Set[str],
    served: Set[str],
    short_of_nodes: NodeHealth | None,
) -> ServiceFacts:
    """`serving` members have a ready endpoint now, `served` did since they were last started."""
    held = standing(holdings)
    former = {holding.member: holding for holding in holdings}

    def missing(holding: Holding) -> MissingMember:
        nodes = health_of(store, class_, holding.nodes)
        if nodes is NodeHealth.FINE and holding.replaces in former:
            nodes = health_of(store, class_, former[holding.replaces].nodes)
        pods = pods_of_member(store, instance.namespace, instance.name, holding.member)
        return MissingMember(nodes, any(map(_is_failing, pods)), holding.member in served)

    return ServiceFacts(
        wanted=members_wanted(instance),
        serving=len(serving),
        held=len(held),
        missing=tuple(missing(holding) for holding in held if holding.member not in serving),
        short_of_nodes=short_of_nodes,
    )


def members_wanted(instance: ModelInstance) -> int:
    """As many as the condition Available asks for: min(instances, minAvailable), and one at least."""
    spec = instance.spec
    if spec.suspend or not spec.instances:
        return 0
    minimum = spec.upgrade.min_available
    return max(1, spec.instances if minimum is None else min(spec.instances, minimum))


def health_of(store: Store, class_: AcceleratorClass | None, nodes: Iterable[str]) -> NodeHealth:
    """The worst of some nodes: sick before gone before cordoned."""
    found = {_health_of_node(class_, store.get(Ref(NODES, "", name))) for name in nodes}
    worst = (NodeHealth.SICK, NodeHealth.GONE, NodeHealth.CORDONED)
    return next((health for health in worst if health in found), NodeHealth.FINE)


def _health_of_node(class_: AcceleratorClass | None, node: JsonObject | None) -> NodeHealth:
    if node is None:
        return NodeHealth.GONE
    if (node.get("spec") or {}).get("unschedulable"):
        return NodeHealth.CORDONED
    rules = {(rule.condition_type, rule.status) for rule in repair_rules(class_)}
    conditions = conditions_of(node)
    ready = any(each.type == "Ready" and each.status == "True" for each in conditions)
    ailing = any((each.type, each.status) in rules for each in conditions)
    return NodeHealth.FINE if ready and not ailing else NodeHealth.SICK


def _is_failing(pod: JsonObject) -> bool:
    """It has ended, ends again and again, cannot be started, or finds no place."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = [((each.get("state") or {}).get("waiting") or {}).get("reason") for each in containers]
    restarted = any(each.get("restartCount") for each in status.get("containerStatuses") or ())
    homeless = any(
        each["type"] == "PodScheduled" and each["status"] == "False" for each in status.get("conditions") or ()
    )
    return (
        status.get("phase") == "Failed" or restarted or homeless or any(reason not in _STARTING for reason in waiting)
    )

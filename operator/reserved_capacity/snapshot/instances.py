"""Instances and their members: StatefulSets, pods, and the endpoints that serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import Snapshot
from reserved_capacity.domain.holdings import Holding, HoldingState
from reserved_capacity.domain.lifecycle import LifecycleDates
from reserved_capacity.domain.members import ObservedMember
from reserved_capacity.domain.units import blocks_of
from reserved_capacity.ports import (
    ENDPOINT_SLICES,
    MODEL_INSTANCES,
    PODS,
    STATEFUL_SETS,
    JsonObject,
)
from reserved_capacity.snapshot.nodes import gpus_of, shape_of
from reserved_capacity.snapshot.parsing import parse_instance, timestamp
from reserved_capacity.store import (
    BY_INSTANCE,
    INSTANCES_BY_POOL,
    Store,
)


def instances_of_pool(store: Store, namespace: str, pool: str) -> list[ModelInstance]:
    """The pool's ModelInstances that are not being deleted, by name."""
    found = [parse_instance(store, obj) for obj in store.by(INSTANCES_BY_POOL, MODEL_INSTANCES, (namespace, pool))]
    return [instance for instance in found if instance.metadata.deletion_timestamp is None]


def members_of(store: Store, namespace: str, instance: str) -> tuple[ObservedMember, ...]:
    """The StatefulSets that carry the instance's label, by name."""
    return tuple(observed_member(each) for each in stateful_sets_of(store, namespace, instance))


def observed_member(stateful_set: JsonObject) -> ObservedMember:
    metadata = stateful_set["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    owner: dict[str, Any] = next(
        (owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")), {}
    )
    return ObservedMember(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=owner.get("uid", ""),
        revision=labels.get(meta.REVISION_LABEL, ""),
        snapshot=labels.get(meta.SNAPSHOT_LABEL, ""),
        profile=annotations.get(meta.PROFILE_ANNOTATION, ""),
        replicas=int((stateful_set.get("spec") or {}).get("replicas", 1)),
        terminating=bool(metadata.get("deletionTimestamp")),
        nodes=tuple(filter(None, annotations.get(meta.NODES_ANNOTATION, "").split(","))),
    )


def stateful_sets_of(store: Store, namespace: str, instance: str) -> list[JsonObject]:
    return store.by(BY_INSTANCE, STATEFUL_SETS, (namespace, instance))


def holding_of_stateful_set(stateful_set: JsonObject) -> Holding | None:
    """The holding under which a member was made, read from the member itself; None if it does not say (not ours)."""
    metadata = stateful_set["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    compute_units, nodes = annotations.get(meta.COMPUTE_UNITS_ANNOTATION), annotations.get(meta.NODES_ANNOTATION)
    if not compute_units or not nodes:
        return None
    member = observed_member(stateful_set)
    return Holding(
        instance=labels[meta.INSTANCE_LABEL],
        member=metadata["name"],
        blocks=blocks_of(int(compute_units)),
        nodes=tuple(nodes.split(",")),
        since=timestamp(metadata["creationTimestamp"]),
        state=HoldingState.RELEASING if metadata.get("deletionTimestamp") else HoldingState.HELD,
        instance_uid=member.owner_uid,
        replaces=annotations.get(meta.REPLACES_ANNOTATION, ""),
        version=member.version,
    )


def holding_of_pods(class_: AcceleratorClass, pods: Sequence[JsonObject]) -> Holding | None:
    """What is left of a member whose StatefulSet is gone, read from its pods; None if they have no node."""
    bound = [pod for pod in pods if pod["spec"].get("nodeName")]
    if not bound:
        return None
    labels, gpus = bound[0]["metadata"]["labels"], sum(gpus_of(pod, class_.spec.gpu_resource) for pod in bound)
    return Holding(
        instance=labels[meta.INSTANCE_LABEL],
        member=labels[meta.MEMBER_LABEL],
        blocks=shape_of(class_).blocks_used_by(gpus),
        nodes=tuple(sorted({pod["spec"]["nodeName"] for pod in bound})),
        since=timestamp(bound[0]["metadata"]["creationTimestamp"]),
        state=HoldingState.RELEASING,
    )


def pods_of_member(store: Store, namespace: str, instance: str, member: str) -> list[JsonObject]:
    pods = store.by(BY_INSTANCE, PODS, (namespace, instance))
    return [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(meta.MEMBER_LABEL) == member]


@dataclass(frozen=True, slots=True)
class ServingEndpoint:
    """The pod that answers for a member. `address` is empty where the API server has told none."""

    pod_uid: str
    address: str


def ready_members(store: Store, namespace: str, instance: str) -> frozenset[str]:
    """Members whose endpoint is ready in the EndpointSlices: these serve, whatever their pods say (R2)."""
    return frozenset(serving_endpoints(store, namespace, instance))


def serving_endpoints(store: Store, namespace: str, instance: str) -> dict[str, ServingEndpoint]:
    """The ready endpoints, by member.

    Ordinals are used again (R1), so an endpoint counts only for the very pod that it was made for: one that is left over
    from a member that is gone does not make its namesake serve.
    """
    pods = {
        pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in store.by(BY_INSTANCE, PODS, (namespace, instance))
    }
    ready = {}
    for endpoint_slice in store.by(BY_INSTANCE, ENDPOINT_SLICES, (namespace, instance)):
        for endpoint in endpoint_slice.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            pod = str(target.get("name", ""))
            # A missing `ready` means ready, says the EndpointSlice API.
            is_ready = target.get("kind") == "Pod" and (endpoint.get("conditions") or {}).get("ready", True)
            if is_ready and pod in pods and target.get("uid", pods[pod]) == pods[pod]:
                address = next(iter(endpoint.get("addresses") or ()), "")
                ready[pod.rsplit("-", 1)[0]] = ServingEndpoint(pods[pod], address)
    return ready


def lifecycle_dates(snapshot: Snapshot) -> LifecycleDates:
    return LifecycleDates(snapshot.available_from, snapshot.deprecated_from, snapshot.retires_at)

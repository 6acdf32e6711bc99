"""What is kept of an object that the API server sends: what somebody decides on, and of that each piece once.

An instance with its children is 31 KB of JSON, and three times that as Python objects; ten thousand of them have to fit
into the memory of one process. Whoever needs a field that is not here adds it here; nothing else is ever seen of it.
What is kept may be shared between objects: it is replaced, never altered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from sys import intern
from typing import Any

from reserved_capacity.ports import (
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    JOBS,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    JsonObject,
    Listing,
    Resource,
)

_BOOKKEEPING = frozenset({"managedFields", "generateName", "selfLink"})
_OWNER = ("kind", "name", "uid", "controller")
# Written by `kubectl apply`, as large as the object itself.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def essential(resource: Resource, obj: JsonObject) -> JsonObject:
    """A new object, with all of what the operator looks at."""
    kept: JsonObject = {}
    for key, value in obj.items():
        trim = _metadata if key == "metadata" else _PARTS.get((resource, key), _compact)
        if trim is not None and value is not None:
            kept[intern(key)] = trim(value)
    return kept


def without_bookkeeping(_resource: Resource, obj: JsonObject) -> JsonObject:
    """Everything that people may want to see; what is not altered is not copied."""
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in _BOOKKEEPING}}


def _metadata(metadata: JsonObject) -> JsonObject:
    kept = {intern(key): _compact(value) for key, value in metadata.items() if key not in _BOOKKEEPING}
    if "ownerReferences" in kept:
        kept["ownerReferences"] = [_only(_OWNER)(owner) for owner in kept["ownerReferences"] or ()]
    if _LAST_APPLIED in (kept.get("annotations") or {}):
        del kept["annotations"][_LAST_APPLIED]
    return kept


def _compact(value: Any) -> Any:
    """A copy in which equal strings, keys above all, are one string: the JSON reader makes each of them anew."""
    kind = type(value)
    if kind is str:
        return intern(value)
    if kind is dict:
        return {intern(key): _compact(each) for key, each in value.items()}
    if kind is list:
        return [_compact(each) for each in value]
    return value


@lru_cache(maxsize=1024)
def _read_once(text: str) -> Any:
    return json.loads(text)


def _shared(value: Any) -> Any:
    """The same for everybody who has an equal one: for parts that all members of a model have in common."""
    return _read_once(json.dumps(value))


def _only(fields: tuple[str, ...]) -> Callable[[JsonObject], JsonObject]:
    def only(value: JsonObject) -> JsonObject:
        return {field: _compact(value[field]) for field in fields if field in value}

    return only


def _stateful_set_spec(spec: JsonObject) -> JsonObject:
    kept = {intern(key): _compact(value) for key, value in spec.items() if key != "template"}
    template = spec.get("template")
    if template:
        # The affinity names the member's node; the rest of a pod differs from model to model only.
        pod = {
            intern(key): _compact(value) if key == "affinity" else _shared(value)
            for key, value in (template.get("spec") or {}).items()
        }
        kept["template"] = {**_compact({**template, "spec": None}), "spec": pod}
    return kept


def _pod_spec(spec: JsonObject) -> JsonObject:
    kept = _only(("nodeName",))(spec)
    for part in ("containers", "initContainers"):
        if spec.get(part):
            kept[part] = _shared([_only(("name", "resources"))(container) for container in spec[part]])
    return kept


def _pod_status(status: JsonObject) -> JsonObject:
    """The phase, and of containers that wait, why."""
    waiting = [each for each in status.get("containerStatuses") or () if "waiting" in (each.get("state") or {})]
    kept = [{"name": each["name"], "state": {"waiting": _compact(each["state"]["waiting"])}} for each in waiting]
    return {**_only(("phase",))(status), **({"containerStatuses": kept} if kept else {})}


def _endpoints(endpoints: list[JsonObject]) -> list[JsonObject]:
    target = _only(("kind", "name", "uid"))
    return [
        {
            "conditions": _shared(endpoint.get("conditions") or {}),
            **({"addresses": _compact(endpoint["addresses"][:1])} if endpoint.get("addresses") else {}),
            **({"targetRef": target(endpoint["targetRef"])} if endpoint.get("targetRef") else {}),
        }
        for endpoint in endpoints
    ]


def _node_status(status: JsonObject) -> JsonObject:
    allocatable = {"allocatable": _shared(status["allocatable"])} if status.get("allocatable") else {}
    return {**_conditions(status), **allocatable}


def _conditions(status: JsonObject) -> JsonObject:
    """What is so, and since when."""
    condition = _only(("type", "status", "lastTransitionTime"))
    return {"conditions": [condition(each) for each in status.get("conditions") or ()]}


# None: nothing of it.
_PARTS: dict[tuple[Resource, str], Callable[[Any], Any] | None] = {
    (NODES, "status"): _node_status,
    (PODS, "spec"): _pod_spec,
    (PODS, "status"): _pod_status,
    (STATEFUL_SETS, "spec"): _stateful_set_spec,
    (CONTROLLER_REVISIONS, "data"): _shared,
    (JOBS, "spec"): None,
    (JOBS, "status"): _conditions,
    (SERVICES, "spec"): _only(("ports", "selector", "type")),
    (SERVICES, "status"): None,
    (POD_DISRUPTION_BUDGETS, "status"): None,
    (ENDPOINT_SLICES, "endpoints"): _endpoints,
    (ENDPOINT_SLICES, "ports"): None,
}


def foreign_gpu_pods(listing: Listing, gpu_resources: frozenset[str]) -> Listing:
    """Of a LIST of pods those that hold GPUs: bound, not finished, and with a request for one of `gpu_resources` or
    any resource that calls itself a GPU. Reduced to where they are and what they ask for."""
    return Listing(
        [_reduced(pod) for pod in listing.items if _holds_gpus(pod, gpu_resources)], listing.resource_version
    )


def _holds_gpus(pod: JsonObject, gpu_resources: frozenset[str]) -> bool:
    if not pod["spec"].get("nodeName") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    return any(
        str(quantity) != "0" and (name in gpu_resources or "gpu" in name)
        for container in _containers(pod)
        for name, quantity in container["resources"]["requests"].items()
    )


def _containers(pod: JsonObject) -> list[JsonObject]:
    """Name and requests of every container. For extended resources limits count as requests, as they do to Kubernetes."""
    containers = []
    for container in [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]:
        resources = container.get("resources") or {}
        requests = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        containers.append({"name": container["name"], "resources": {"requests": requests}})
    return containers


def _reduced(pod: JsonObject) -> JsonObject:
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: pod["metadata"][key] for key in kept if key in pod["metadata"]},
        "spec": {"nodeName": pod["spec"]["nodeName"], "containers": _containers(pod)},
    }

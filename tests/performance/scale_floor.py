"""Owns the floor: what a plain client needs for the objects and statuses that the operator was seen to write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from e2e.cluster.lifecycle import Cluster
from tests.performance.plain_client import Conditions, JsonObject, PlainClient, at_once, connected
from tests.performance.scale_meter import Meter, Usage
from tests.performance.scale_world import OURS, Shape, furnish, instance

# Of the member's objects those of proof.md; the ControllerRevision is the operator's own business.
CHILDREN = {
    "StatefulSet": "/apis/apps/v1/{}/statefulsets",
    "Service": "/api/v1/{}/services",
    "PodDisruptionBudget": "/apis/policy/v1/{}/poddisruptionbudgets",
}
_SERVER_SIDE = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")
_OURS_ONLY = "app.kubernetes.io/managed-by%3Dreserved-capacity"


@dataclass(slots=True)
class Model:
    """What the operator wrote: children by kind, statuses by resource, and how many writes until all was reserved."""

    children: dict[str, list[JsonObject]] = field(default_factory=dict)
    statuses: dict[str, list[JsonObject]] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)


async def model_of(client: PlainClient, writes: dict[str, int]) -> Model:
    """Read it from the operator's cluster."""
    model = Model(writes=writes)
    for kind, path in CHILDREN.items():
        listed = await client.items(f"{path.format('').replace('//', '/')}?labelSelector={_OURS_ONLY}")
        model.children[kind] = [{**item, "kind": kind, "apiVersion": _api_version(path)} for item in listed]
    for plural in ("modelinstances", "computeunitpools", "modelofferings", "acceleratorclasses"):
        model.statuses[plural] = await client.items(f"{OURS}/{plural}")
    return model


def _api_version(path: str) -> str:
    return path.split("/{}")[0].removeprefix("/apis/").removeprefix("/api/")


async def run_floor(cluster: Cluster, shape: Shape, model: Model, *, lean: bool) -> Usage:
    """The same objects and, unless lean, as many statuses of each kind as the operator wrote until all was reserved."""
    written = model.writes
    async with connected(cluster) as client:
        await furnish(client, shape)
        children = _children_by_instance(model)
        statuses = {
            plural: {_place(each): each["status"] for each in model.statuses[plural]} for plural in model.statuses
        }
        mine = statuses.pop("modelinstances")
        times = _even(1 if lean else written.get("update modelinstances.reservedcapacity.io/status", 0), shape.places())
        jobs = [
            partial(_floor_instance, client, place, children[place], mine[place], 1 if lean else times[place])
            for place in shape.places()
        ]
        async with Conditions().watched(client) as conditions:
            meter = Meter(cluster)
            async with asyncio.TaskGroup() as group:
                group.create_task(at_once(jobs))
                for plural, places in statuses.items():
                    count = 0 if lean else written.get(f"update {plural}.reservedcapacity.io/status", 0)
                    for place, number in _even(count, list(places)).items():
                        group.create_task(_floor_statuses(client, _path(plural, *place), places[place], number))
            await conditions.reached("CapacityReserved", shape.instances, shape.patience_seconds)
            return meter.used()


def _even(count: int, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """`count` writes spread over the objects."""
    return {place: count // len(places) + (index < count % len(places)) for index, place in enumerate(places)}


def _children_by_instance(model: Model) -> dict[tuple[str, str], list[JsonObject]]:
    found: dict[tuple[str, str], list[JsonObject]] = {}
    for kind, items in model.children.items():
        for item in items:
            labels = item["metadata"]["labels"]
            place = (item["metadata"]["namespace"], labels["reservedcapacity.io/instance"])
            found.setdefault(place, []).append(_as_written(kind, item))
    return found


def _as_written(kind: str, item: JsonObject) -> JsonObject:
    """The object as a client sends it, without what the server added."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in _SERVER_SIDE}
    spec = dict(item["spec"])
    if kind == "Service":
        spec = {key: value for key, value in spec.items() if not key.lower().startswith(("clusterip", "ipfam"))}
    return {"apiVersion": item["apiVersion"], "kind": kind, "metadata": metadata, "spec": spec}


async def _floor_instance(
    client: PlainClient, place: tuple[str, str], children: list[JsonObject], status: JsonObject, times: int
) -> None:
    namespace, name = place
    made = await client.call("POST", f"{OURS}/namespaces/{namespace}/modelinstances", instance(namespace, name))
    for child in children:
        owner = {**child["metadata"]["ownerReferences"][0], "uid": made["metadata"]["uid"]}
        body = {**child, "metadata": {**child["metadata"], "ownerReferences": [owner]}}
        await client.call("POST", CHILDREN[child["kind"]].format(f"namespaces/{namespace}"), body)
    await _floor_statuses(client, _path("modelinstances", namespace, name), status, times)


async def _floor_statuses(client: PlainClient, path: str, status: JsonObject, times: int) -> None:
    obj = await client.call("GET", path) if times else {}
    for number in range(times):
        # Another summary each time: the server does not store what is there already.
        body = {**obj, "status": {**status, "summary": f"{status.get('summary', '')} {number}"}}
        obj = await client.call("PUT", f"{path}/status", body)


def _path(plural: str, namespace: str, name: str) -> str:
    return f"{OURS}/namespaces/{namespace}/{plural}/{name}" if namespace else f"{OURS}/{plural}/{name}"


def _place(obj: JsonObject) -> tuple[str, str]:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])

"""A small cluster as raw objects, and the screens over it; everything left out is ordinary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.text import Text

from reserved_capacity.cli.layout import UNICODE, Page, Signs
from reserved_capacity.cli.world import World
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Listing,
    Resource,
)
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.store import Store
from reserved_capacity.trimming import without_bookkeeping

NOW = datetime(2026, 3, 1, 3, 0, 0, tzinfo=UTC)
SINCE = "2026-03-01T02:46:00Z"
_RESOURCES = {
    resource.kind: resource
    for resource in (
        ACCELERATOR_CLASSES,
        COMPUTE_UNIT_POOLS,
        MODEL_INSTANCES,
        MODEL_OFFERINGS,
        NODES,
        PODS,
        TOKEN_UNIT_RESERVATIONS,
    )
}
NEED_100 = "need 100 CU, have 0 idle in pool prod: scale another instance down, or add a commitment"


def condition(type_: str, status: str, reason: str, message: str = "", since: str = SINCE) -> JsonObject:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
        "observedGeneration": 1,
    }


def waits(reason: str = "WaitingForComputeUnits", message: str = NEED_100, status: str = "False") -> list[JsonObject]:
    """The conditions of an instance that has no capacity."""
    return [
        condition("Accepted", "True", "Accepted", "this spec can be acted on"),
        condition("CapacityReserved", "False", reason, message),
        condition("Available", "False", "NoMember", "0 of 1 instances are serving"),
        condition("Ready", status, reason, message),
    ]


def serves(count: int = 2) -> list[JsonObject]:
    message = f"{count} of {count} instances are serving"
    return [
        condition("Accepted", "True", "Accepted", "this spec can be acted on"),
        condition("CapacityReserved", "True", "Reserved", f"{count} of {count} instances hold their compute units"),
        condition("Available", "True", "Serving", message),
        condition("Ready", "True", "Ready", message),
    ]


def instance(name: str, conditions: Sequence[JsonObject] = (), **more: Any) -> JsonObject:
    """`more`: pool, offering, snapshot, desired, held, available, cu, phase, members, priority, generation, rollout (of the
    status), upgrade (of the spec), updated."""
    held, desired = more.get("held", 0), more.get("desired", 1)
    status = {
        "observedGeneration": 1,
        "phase": more.get("phase", ""),
        "instances": {"desired": desired, "held": held, "available": more.get("available", held)},
        "computeUnits": more.get("cu", 0),
        "members": more.get("members", []),
        "rollout": more.get("rollout", {}),
        "conditions": list(conditions),
    }
    spec = {
        "poolRef": more.get("pool", "prod"),
        "offering": more.get("offering", "gpt-3.5-turbo"),
        "snapshot": more.get("snapshot", "gpt-3.5-turbo-0125"),
        "instances": desired,
        "priority": more.get("priority", 0),
    }
    if "upgrade" in more:
        spec["upgrade"] = more["upgrade"]
    status["instances"]["updated"] = more.get("updated", 0)
    return _object("ModelInstance", name, "acme", spec, status if conditions else {}, more.get("generation", 1))


def member(name: str, phase: str = "Available", node: str = "gpu-1", since: str = SINCE, **more: str) -> JsonObject:
    return {"name": name, "phase": phase, "nodes": [node], "since": since, "snapshot": more.get("snapshot", "")}


def chat(conditions: Sequence[JsonObject] | None = None, **more: Any) -> JsonObject:
    """Two members of 300 CU that serve."""
    given = {
        "offering": "gpt-4-turbo",
        "snapshot": "gpt-4-turbo-2024-04-09",
        "desired": 2,
        "held": 2,
        "cu": 600,
        "phase": "Ready",
        "members": [member("chat-0"), member("chat-1")],
    }
    return instance("chat", serves() if conditions is None else conditions, **(given | more))


OLD, NEW = "gpt-4-turbo-2024-04-09", "gpt-4-turbo-2025-01-15"


def record(state: str = "Running", **more: Any) -> JsonObject:
    """What the pool has on record of chat's rollout 4. `more`: fields of it, as on the wire."""
    given = {
        "instance": "chat",
        "instanceUid": "chat",
        "id": 4,
        "state": state,
        "from": {"snapshot": OLD, "profile": "default"},
        "to": {"snapshot": NEW, "profile": "default"},
        "startedAt": SINCE,
        "strategy": "InPlace",
        "surge": 0,
        "attempt": "a",
    }
    return given | more


def rolling(
    phase: str, reason: str, *, status: str = "Unknown", step: str = "1 of 2 run " + NEW, **more: Any
) -> JsonObject:
    """`chat` in rollout 4: chat-0 is new, chat-1 is old. `more`: blocked_on, why, and what `instance` takes."""
    waits_for = more.pop("blocked_on", "")
    message = "; ".join(filter(None, (step, waits_for)))
    *others, _ = serves()
    conditions = [*others, condition("UpToDate", status, reason, message), condition("Ready", status, reason, message)]
    rollout = {
        "id": 4,
        "phase": phase,
        "strategy": "InPlace",
        "step": step,
        "startedAt": SINCE,
        "why": more.pop("why", ""),
    }
    rollout |= {"blockedOn": waits_for} if waits_for else {}
    given = {
        "snapshot": NEW,
        "phase": "Progressing",
        "rollout": rollout,
        "updated": 1,
        "members": [member("chat-0", snapshot=NEW), member("chat-1", snapshot=OLD)],
    }
    return chat(conditions, **(given | more))


def holding(member_: str, cu: int = 300, node: str = "gpu-1", state: str = "Held") -> JsonObject:
    return {
        "instance": member_.rsplit("-", 1)[0],
        "member": member_,
        "computeUnits": cu,
        "nodes": [node],
        "since": SINCE,
        "state": state,
    }


def pool(name: str = "prod", conditions: Sequence[JsonObject] | None = None, **more: Any) -> JsonObject:
    """600 CU, all of them held by `chat`. `more`: commitments, records, units, nodes, holdings, phase, rollouts."""
    units = {"contracted": 600, "provisioned": 600, "usable": 600, "allocated": 600} | more.get("units", {})
    ordered = {"id": "po-10023-1", "computeUnits": 600, "term": "OneYear", "provisionBy": "2026-03-01"}
    record = {
        "id": "po-10023-1",
        "state": "Active",
        "acceptedAt": "2026-02-01T00:00:00Z",
        "provisionedComputeUnits": 600,
        "billingStart": "2026-02-02T00:00:00Z",
        "termEnd": "2027-02-02T00:00:00Z",
    }
    nodes = more.get("nodes", [{"name": "gpu-1", "blocks": 6, "state": "Held", "holders": ["chat-0", "chat-1"]}])
    spec = {
        "account": "acme",
        "priceBookRef": "usd",
        "acceleratorClass": "h100-8",
        "commitments": more.get("commitments", [ordered]),
    }
    status = {
        "observedGeneration": 1,
        "phase": more.get("phase", "Active"),
        "computeUnits": units,
        "nodesTotal": more.get("nodes_total", len(nodes)),
        "nodes": nodes,
        "holdings": more.get("holdings", [holding("chat-0"), holding("chat-1")]),
        "commitments": more.get("records", [record]),
        "rollouts": more.get("rollouts", []),
        "conditions": list(provisioned() if conditions is None else conditions),
    }
    return _object("ComputeUnitPool", name, "acme", spec, status)


def provisioned() -> list[JsonObject]:
    return [
        condition("Accepted", "True", "Accepted"),
        condition("Provisioned", "True", "Provisioned", "600 CU are claimed on nodes"),
        condition("Healthy", "True", "Healthy"),
        condition("Ready", "True", "Ready", "600 CU are provisioned and healthy"),
    ]


def accelerators(**units: int) -> JsonObject:
    labels = {"gpu": "h100"}
    spec = {
        "nodeSelector": {"matchLabels": labels},
        "gpuResource": "nvidia.com/gpu",
        "gpusPerNode": 8,
        "computeUnitsPerNode": 800,
    }
    status = {
        "observedGeneration": 1,
        "nodes": {"total": 2, "ready": 2, "cordoned": 0, "failed": 0},
        "computeUnits": {"total": 1600, "claimed": 600, "free": 1000, "unhealthy": 0} | units,
        "conditions": [condition("Ready", "True", "Ready", "2 nodes have the GPUs that the class promises")],
    }
    return _object("AcceleratorClass", "h100-8", "", spec, status)


def node(name: str = "gpu-1", *, claims: Mapping[str, int] | None = None, ready: str = "True") -> JsonObject:
    """`claims`: blocks by pool, as `acme/prod`; the pool's uid is its name."""
    held = {"acme/prod": 6} if claims is None else claims
    entries = [{"pool": owner, "uid": owner.partition("/")[2], "blocks": blocks} for owner, blocks in held.items()]
    document = _object("Node", name, "", {}, {})
    document["metadata"]["labels"] = {"gpu": "h100"}
    document["metadata"]["annotations"] = {"reservedcapacity.io/claims": json.dumps(entries)}
    document["status"] = {
        "allocatable": {"nvidia.com/gpu": "8"},
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": SINCE}],
    }
    return document


def offering(name: str = "gpt-3.5-turbo", snapshot: str = "gpt-3.5-turbo-0125", cu: int = 100) -> JsonObject:
    spec = {
        "displayName": name,
        "reserved": {
            "computeUnitsPerInstance": cu,
            "acceleratorClasses": ["h100-8"],
            "serving": {"image": "registry.example/server@sha256:" + "c" * 64},
        },
        "snapshots": [{"name": snapshot, "artifact": "oci://registry.example/m@sha256:" + "a" * 64}],
    }
    status = {
        "observedGeneration": 1,
        "snapshots": [{"name": snapshot, "lifecycle": "Active", "pinnedInstances": 1}],
        "conditions": [condition("Valid", "True", "Valid", "all is there"), condition("Ready", "True", "Ready", "ok")],
    }
    return _object("ModelOffering", name, "", spec, status)


def pod(name: str, instance_: str, member_: str, status: JsonObject) -> JsonObject:
    document = _object("Pod", name, "acme", {"nodeName": "gpu-1"}, status)
    document["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "reserved-capacity",
        "reservedcapacity.io/instance": instance_,
        "reservedcapacity.io/member": member_,
    }
    return document


def tokens(conditions: Sequence[JsonObject], **more: Any) -> JsonObject:
    """`more`: fields of the status."""
    spec = {
        "account": "acme",
        "priceBookRef": "usd",
        "offering": "gpt-4.1",
        "snapshot": "gpt-4.1-2025-04-14",
        "units": {"input": 3, "output": 4},
    }
    status = {"observedGeneration": 1, "conditions": list(conditions)} | more
    return _object("TokenUnitReservation", "gpt-41", "acme", spec, status)


def event(kind: str, name: str, reason: str, note: str, *, seconds_ago: int = 60, type_: str = "Normal") -> JsonObject:
    when = f"{NOW - timedelta(seconds=seconds_ago):%Y-%m-%dT%H:%M:%SZ}"
    document = _object("Event", f"{name}.{reason}", "acme", {}, {})
    return document | {
        "regarding": {"kind": kind, "name": name},
        "reason": reason,
        "note": note,
        "type": type_,
        "eventTime": when,
    }


def world(*objects: JsonObject, unread: Iterable[Resource] = (), **more: Resource) -> World:
    """What a command has read. `more` names the resource of a kind that is not in the table, as `Event=EVENTS`."""
    store = Store(INDEXES, trim=without_bookkeeping)
    resources = _RESOURCES | more
    for kind, resource in resources.items():
        items = [each for each in objects if each["kind"] == kind]
        if resource not in unread:
            store.replace(resource, Listing(items, "1"))
    return World(store, NOW, "https://example", frozenset(unread))


def page(width: int = 80, signs: Signs = UNICODE) -> Page:
    return Page(width, NOW, signs)


def text(lines: Sequence[Text]) -> str:
    """As it stands in a file: no style, nothing at the ends of lines."""
    return "\n".join(line.plain for line in lines) + "\n"


def _object(
    kind: str, name: str, namespace: str, spec: JsonObject, status: JsonObject, generation: int = 1
) -> JsonObject:
    metadata = {
        "name": name,
        "uid": name,
        "resourceVersion": "1",
        "generation": generation,
        "creationTimestamp": "2026-02-01T00:00:00Z",
    }
    if namespace:
        metadata["namespace"] = namespace
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status}

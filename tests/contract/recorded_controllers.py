"""Owns a story of the cluster's own controllers, played on a cluster: after each act the state that it comes to.

Garbage collection, StatefulSets, scheduler, kubelets and EndpointSlices, as far as the operator rests on them. The
states of the real cluster are on record beside the recorded operations (recorded.json).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from reserved_capacity.ports import (
    CONTROLLER_REVISIONS,
    ENDPOINT_SLICES,
    MODEL_INSTANCES,
    NODES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    AlreadyExists,
    Cluster,
    JsonObject,
    Precondition,
    Ref,
    Resource,
)

HOLD = "example.com/hold"
LABEL, MADE = "recorded", "made"
_LOOKED_AT = (MODEL_INSTANCES, STATEFUL_SETS, CONTROLLER_REVISIONS, SERVICES, PODS, ENDPOINT_SLICES)
_PATIENCE_SECONDS = 90.0

State = dict[str, Any]


@dataclass(slots=True)
class Controllers:
    """`settle` gives the cluster's controllers their turn; without it they take it themselves, and are waited for."""

    cluster: Cluster
    run: str
    settle: Callable[[], Awaitable[None]] | None = None
    namespace: str = "default"
    _incarnations: dict[str, list[str]] = field(default_factory=dict)

    async def play(self, expected: Sequence[Sequence[Any]] = ()) -> list[list[Any]]:
        """[act, state], one after the other. Real controllers are given time until the state is the `expected` one."""
        played: list[list[Any]] = []
        for number, act in enumerate(ACTS):
            await act(self)
            words = act.__name__.strip("_").replace("_", " ")
            known = expected[number][1] if number < len(expected) else None
            played.append([words, await self._settled(known)])
        return played

    async def _settled(self, expected: State | None) -> State:
        if self.settle is not None:
            await self.settle()
            return await self.state()
        until = time.monotonic() + (_PATIENCE_SECONDS if expected is not None else 5.0)
        while True:
            state = await self.state()
            if state == expected or time.monotonic() > until:
                return state
            await asyncio.sleep(0.1)

    # ---------------------------------------------------------------------------------------------------------- looking

    async def state(self) -> State:
        found: State = {}
        for resource in _LOOKED_AT:
            # A StatefulSet keeps revisions of its own, with the labels of its pods.
            made = f",{MADE}" if resource == CONTROLLER_REVISIONS else ""
            listing = await self.cluster.list(resource, label_selector=f"{LABEL}={self.run}{made}")
            found |= {self.name_of(resource, obj): self._told(resource, obj) for obj in listing.items}
        return found

    def name_of(self, resource: Resource, obj: JsonObject) -> str:
        name = str(obj["metadata"]["name"]).removeprefix(f"{self.run}-")
        return f"{resource.kind} {name.rsplit('-', 1)[0] if resource == ENDPOINT_SLICES else name}"

    def _told(self, resource: Resource, obj: JsonObject) -> State:
        metadata, status = obj["metadata"], obj.get("status") or {}
        told: State = {"deleted": "deletionTimestamp" in metadata}
        if resource == ENDPOINT_SLICES:
            return told | {"endpoints": [self._endpoint(each) for each in obj.get("endpoints") or ()]}
        incarnations = self._incarnations.setdefault(self.name_of(resource, obj), [])
        if metadata["uid"] not in incarnations:
            incarnations.append(metadata["uid"])
        told["incarnation"] = incarnations.index(metadata["uid"])
        if resource == STATEFUL_SETS:
            counts = {key: status.get(key, 0) for key in ("replicas", "readyReplicas")}
            told |= {"asks for": obj["spec"]["replicas"], **counts}
        if resource == PODS:
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
            told |= {"node": (obj["spec"].get("nodeName") or "").removeprefix(f"{self.run}-"), "ready": ready}
        return told

    def _endpoint(self, endpoint: JsonObject) -> State:
        conditions = endpoint["conditions"]
        told = {key: bool(conditions.get(key)) for key in ("ready", "serving", "terminating")}
        return told | {"pod": endpoint["targetRef"]["name"].removeprefix(f"{self.run}-")}

    # ----------------------------------------------------------------------------------------------------------- acting

    def ref(self, resource: Resource, name: str) -> Ref:
        return Ref(resource, self.namespace if resource.namespaced else "", f"{self.run}-{name}")

    async def get(self, resource: Resource, name: str) -> JsonObject:
        found = await self.cluster.get(self.ref(resource, name))
        assert found is not None, f"{resource.kind} {name} does not exist"
        return found

    async def create(
        self, resource: Resource, name: str, content: JsonObject, *, owners: Sequence[JsonObject] = (), **metadata: Any
    ) -> JsonObject:
        ref = self.ref(resource, name)
        place = {"namespace": ref.namespace} if ref.namespace else {}
        body = {
            "name": ref.name,
            **place,
            "labels": {LABEL: self.run, MADE: "yes", **metadata.pop("labels", {})},
            **metadata,
        }
        if owners:
            body["ownerReferences"] = list(owners)
        return await self.cluster.create(resource, {"metadata": body, **content})

    async def patch(self, resource: Resource, name: str, merge: JsonObject) -> None:
        """Controllers write as well: on whatever version there is by now."""
        seen = await self.get(resource, name)
        await self.cluster.patch(self.ref(resource, name), Precondition(seen["metadata"]["uid"], None), merge)

    async def delete(self, resource: Resource, name: str) -> None:
        seen = await self.get(resource, name)
        await self.cluster.delete(self.ref(resource, name), Precondition(seen["metadata"]["uid"], None))

    async def node(self, name: str) -> None:
        await self.create(
            NODES, name, _node(f"{self.run}-{name}"), labels=_node_labels(f"{self.run}-{name}"), annotations=_FAKE
        )
        until = time.monotonic() + _PATIENCE_SECONDS
        while not _is_ready(await self.get(NODES, name)):
            assert time.monotonic() < until, f"node {name} does not become ready"
            await asyncio.sleep(0.1)

    async def stateful_set(self, name: str, *, owners: Sequence[JsonObject] = ()) -> JsonObject:
        """One member without pods, pinned to node n."""
        labels = {LABEL: self.run, "app": f"{self.run}-{name}"}
        container = {"name": "c", "image": "example.com/c", "ports": [{"name": "http", "containerPort": 80}]}
        pod = {"nodeSelector": {"kubernetes.io/hostname": f"{self.run}-n"}, "containers": [container]}
        spec = {
            "replicas": 0,
            "serviceName": f"{self.run}-{name}",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        return await self.create(STATEFUL_SETS, name, {"spec": spec}, owners=owners)


_FAKE = {"kwok.x-k8s.io/node": "fake"}


def _node(name: str) -> JsonObject:
    resources = {"cpu": "8", "memory": "8Gi", "pods": "20"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T10:00:00Z", "reason": "KubeletReady"}
    return {"spec": {}, "status": {"capacity": resources, "allocatable": resources, "conditions": [ready]}}


def _node_labels(name: str) -> dict[str, str]:
    return {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}


def _is_ready(node: JsonObject) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    taints = (node.get("spec") or {}).get("taints") or ()
    return not taints and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _owner(obj: JsonObject, *, blocks: bool = False, uid: str = "") -> JsonObject:
    blocking = {"blockOwnerDeletion": True} if blocks else {}
    metadata = obj["metadata"]
    kind = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": metadata["name"]}
    return {**kind, "uid": uid or metadata["uid"], **blocking}


_INSTANCE = {"spec": {"poolRef": "p", "offering": "o", "snapshot": "s", "instances": 1}}
_REVISION = {"revision": 1, "data": {}}


async def _an_instance_has_children(on: Controllers) -> None:
    owner = _owner(await on.create(MODEL_INSTANCES, "o", _INSTANCE))
    await on.stateful_set("s", owners=[owner])
    await on.create(CONTROLLER_REVISIONS, "r", _REVISION, owners=[owner])
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    await on.create(SERVICES, "v", {"spec": {"ports": ports, "selector": {"app": f"{on.run}-t"}}})


async def _the_instance_is_deleted(on: Controllers) -> None:
    await on.delete(MODEL_INSTANCES, "o")


async def _a_namesake_does_not_own_what_the_former_did(on: Controllers) -> None:
    made = await on.create(MODEL_INSTANCES, "o", _INSTANCE)
    former = _owner(made, uid="11111111-1111-4111-8111-111111111111")
    await on.create(CONTROLLER_REVISIONS, "former", _REVISION, owners=[former])
    await on.create(CONTROLLER_REVISIONS, "shared", _REVISION, owners=[former, _owner(made)])


async def _a_member_is_deleted_that_something_blocks(on: Controllers) -> None:
    owner = await on.stateful_set("b")
    blocking = _owner(owner, blocks=True)
    await on.create(CONTROLLER_REVISIONS, "blocks", _REVISION, owners=[blocking], finalizers=[HOLD])
    await on.delete(STATEFUL_SETS, "b")


async def _what_blocks_it_goes(on: Controllers) -> None:
    await on.patch(CONTROLLER_REVISIONS, "blocks", {"metadata": {"finalizers": None}})


async def _a_member_is_deleted_that_nothing_blocks(on: Controllers) -> None:
    owner = await on.stateful_set("b")
    await on.create(CONTROLLER_REVISIONS, "held", _REVISION, owners=[_owner(owner)], finalizers=[HOLD])
    await on.delete(STATEFUL_SETS, "b")


async def _what_was_left_of_it_goes(on: Controllers) -> None:
    await on.patch(CONTROLLER_REVISIONS, "held", {"metadata": {"finalizers": None}})


async def _a_member_is_announced(on: Controllers) -> None:
    await on.node("n")
    await on.stateful_set("t")


async def _it_gets_its_pod(on: Controllers) -> None:
    await on.patch(STATEFUL_SETS, "t", {"spec": {"replicas": 1}})


async def _the_pod_is_deleted_and_comes_again(on: Controllers) -> None:
    await on.delete(PODS, "t-0")


async def _the_pod_is_deleted_on_a_cordoned_node(on: Controllers) -> None:
    await on.patch(NODES, "n", {"spec": {"unschedulable": True}})
    await on.delete(PODS, "t-0")


async def _the_node_is_uncordoned(on: Controllers) -> None:
    await on.patch(NODES, "n", {"spec": {"unschedulable": None}})


async def _the_member_is_suspended(on: Controllers) -> None:
    await on.patch(STATEFUL_SETS, "t", {"spec": {"replicas": 0}})


async def _the_member_is_resumed(on: Controllers) -> None:
    await on.patch(STATEFUL_SETS, "t", {"spec": {"replicas": 1}})


async def _the_member_is_deleted_and_its_pod_is_held(on: Controllers) -> None:
    await on.patch(PODS, "t-0", {"metadata": {"finalizers": [HOLD]}})
    await on.delete(STATEFUL_SETS, "t")


async def _its_name_is_not_free_yet(on: Controllers) -> None:
    try:
        await on.stateful_set("t")
    except AlreadyExists:
        return
    raise AssertionError("a member could be made under the name of one that is not gone")


async def _the_pod_is_let_go(on: Controllers) -> None:
    await on.patch(PODS, "t-0", {"metadata": {"finalizers": None}})


async def _all_is_cleaned_up(on: Controllers) -> None:
    await on.delete(MODEL_INSTANCES, "o")
    await on.delete(SERVICES, "v")
    await on.delete(NODES, "n")


ACTS: tuple[Any, ...] = (
    _an_instance_has_children,
    _the_instance_is_deleted,
    _a_namesake_does_not_own_what_the_former_did,
    _a_member_is_deleted_that_something_blocks,
    _what_blocks_it_goes,
    _a_member_is_deleted_that_nothing_blocks,
    _what_was_left_of_it_goes,
    _a_member_is_announced,
    _it_gets_its_pod,
    _the_pod_is_deleted_and_comes_again,
    _the_pod_is_deleted_on_a_cordoned_node,
    _the_node_is_uncordoned,
    _the_member_is_suspended,
    _the_member_is_resumed,
    _the_member_is_deleted_and_its_pod_is_held,
    _its_name_is_not_free_yet,
    _the_pod_is_let_go,
    _all_is_cleaned_up,
)

"""A customer with a class of nodes of its own, so that many stories run side by side on one cluster without meeting.

The namespace, the pool's class and the nodes carry the customer's name. GPT-4 Turbo needs 300 CU and two instances,
GPT-3.5 Turbo 100 CU and one: the figures of the samples, under names that do not collide with them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from e2e.api import (
    CLASSES,
    INSTANCES,
    LEASES,
    NAMESPACES,
    NODES,
    OFFERINGS,
    PODS,
    POOLS,
    STATEFUL_SETS,
    Api,
    Json,
    Refused,
    body_of,
)
from e2e.cluster import nodes
from e2e.history import History
from e2e.waiting import PATIENCE_SECONDS

CLAIMS = "reservedcapacity.io/claims"
PREFETCH_LABEL = "reservedcapacity.io/prefetch"
INSTANCE_LABEL, MEMBER_LABEL = "reservedcapacity.io/instance", "reservedcapacity.io/member"
TURBO, SMALL = "e2e-gpt-4-turbo", "e2e-gpt-3-5-turbo"
POOL = "prod"
_IMAGE = "vllm/vllm-openai@sha256:" + "a" * 64
_OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


def offerings(classes: Sequence[str]) -> list[Json]:
    """The two models, sold on these classes."""
    return [_offering(TURBO, 300, 2, classes), _offering(SMALL, 100, 1, classes)]


def _offering(name: str, units: int, minimum: int, classes: Sequence[str]) -> Json:
    digest = "b" * 64
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "ModelOffering",
        "metadata": {"name": name},
        "spec": {
            "displayName": name,
            "reserved": {
                "sold": True,
                "computeUnitsPerInstance": units,
                "minInstances": minimum,
                "acceleratorClasses": list(classes),
                "serving": {"image": _IMAGE, "port": 8000, "readinessPath": "/health"},
            },
            "snapshots": [
                {
                    "name": f"{name}-1",
                    "artifact": f"oci://registry.example/{name}@sha256:{digest}",
                    "availableFrom": "2024-01-01",
                }
            ],
        },
    }


@dataclass(slots=True)
class Customer:
    """`name` is also its namespace; no dashes, as node names begin with it."""

    name: str
    api: Api
    history: History
    compute_units: int = 800
    repair_after: str = "5s"
    patience: float = PATIENCE_SECONDS
    _made: list[str] = field(default_factory=list)
    _kubelets: dict[str, str] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        return f"{self.name}-h100"

    # ----------------------------------------------------------------------------------------------------- what it does

    async def provide(self, nodes_count: int = 2) -> None:
        """The provider's part: a class, and nodes of eight GPUs."""
        repair = [
            {"conditionType": "Ready", "status": each, "after": self.repair_after} for each in ("False", "Unknown")
        ]
        spec = {
            "nodeSelector": {"matchLabels": {"nvidia.com/gpu.product": self._product}},
            "gpuResource": "nvidia.com/gpu",
            "gpusPerNode": 8,
            "computeUnitsPerNode": 800,
            "repair": repair,
        }
        await self.api.apply(CLASSES, body_of("AcceleratorClass", self.class_name, spec))
        await self.add_nodes(nodes_count)

    async def add_nodes(self, count: int) -> list[str]:
        added = [f"{self.name}-{len(self._made) + number}" for number in range(count)]
        for name in added:
            await self.api.apply(NODES, nodes.gpu_node(name, self.name, product=self._product))
        self._made += added
        return added

    async def buy(self, pool: str = POOL, compute_units: int = 0) -> None:
        """An order, by default the customer's usual one."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        await self.api.apply(NAMESPACES, namespace)
        commitment = {
            "id": f"po-{self.name}-{pool}",
            "computeUnits": compute_units or self.compute_units,
            "term": "OneYear",
            "payment": "Monthly",
            "provisionBy": "2026-03-01",
        }
        spec = {
            "account": self.name,
            "priceBookRef": "usd",
            "acceleratorClass": self.class_name,
            "commitments": [commitment],
        }
        await self.api.apply(POOLS, body_of("ComputeUnitPool", pool, spec, self.name))

    async def serve(self, name: str, offering: str, instances: int, change_set: tuple[str, int] | None = None) -> None:
        spec: dict[str, Any] = {
            "poolRef": POOL,
            "offering": offering,
            "snapshot": f"{offering}-1",
            "instances": instances,
        }
        if change_set is not None:
            spec["changeSet"] = {"id": change_set[0], "members": change_set[1]}
        await self.api.apply(INSTANCES, body_of("ModelInstance", name, spec, self.name))

    async def edit(self, name: str, **spec: Any) -> None:
        """Merge into the spec of an instance."""
        await self.api.patch(INSTANCES, self.name, name, {"spec": spec})

    async def lose_node(self, node: str) -> None:
        """The machine dies: nobody answers for it any more, and nobody confirms that its pods have ended."""
        # KWOK plays a node for as long as it holds the node's Lease.
        lease = await self.api.get(LEASES, "kube-node-lease", node)
        self._kubelets.setdefault(node, lease["spec"]["holderIdentity"])
        await self._hand_lease(node, "nobody")
        await self._set_ready(NODES, "", node, "False")

    async def find_node(self, node: str, *, answers: bool) -> None:
        """It was only out of reach, and its pods are as they were. Unless it `answers`, nobody knows whether those that
        were to end have."""
        await self._hand_lease(node, self._kubelets[node] if answers else "nobody")
        await self._set_ready(NODES, "", node, "True")
        for pod in self.pods_on(node):
            await self._set_ready(PODS, self.name, pod["metadata"]["name"], "True")

    async def fence(self, node: str) -> None:
        """Somebody has made sure that the machine is off, and says so: its pods are forgotten."""
        for _ in range(20):
            found = await self.api.get(NODES, "", node)
            taints = [*found["spec"].get("taints", ()), _OUT_OF_SERVICE]
            version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            try:
                await self.api.patch(NODES, "", node, {"metadata": version, "spec": {"taints": taints}})
            except Refused as error:
                if error.code != 409:
                    raise
            else:
                break
        await self.end_pods(node)

    async def end_pods(self, node: str) -> None:
        """What a kubelet, or whoever knows that there is none, says: the pods there that were to end have ended."""
        for pod in self.pods_on(node):
            if _ends(pod):
                await self.api.delete(PODS, self.name, pod["metadata"]["name"], force=True)

    async def _hand_lease(self, node: str, holder: str) -> None:
        lease = {"holderIdentity": holder, "leaseDurationSeconds": 3600, "renewTime": f"{_now()[:-1]}.000000Z"}
        await self.api.patch(LEASES, "kube-node-lease", node, {"spec": lease})

    async def _set_ready(self, collection: str, namespace: str, name: str, status: str) -> None:
        condition = {"type": "Ready", "status": status, "lastTransitionTime": _now(), "reason": "E2e", "message": ""}
        await self.api.patch(collection, namespace, name, {"status": {"conditions": [condition]}}, "status")

    async def leave(self) -> None:
        """Everything of it goes."""
        await self.api.delete(NAMESPACES, "", self.name)
        for pod in self.history.of(PODS, self.name):
            await self.api.delete(PODS, self.name, pod["metadata"]["name"], force=True)
        left = (PODS, INSTANCES, POOLS)
        await self.history.until(
            lambda: not any(self.history.of(collection, self.name) for collection in left),
            f"the namespace {self.name} is empty",
            self.patience,
            lambda: {collection: len(self.history.of(collection, self.name)) for collection in left},
        )
        for name in self._made:
            await self.api.delete(NODES, "", name)
        await self.api.delete(CLASSES, "", self.class_name)

    @property
    def _product(self) -> str:
        return f"H100-{self.name}"

    # ------------------------------------------------------------------------------------------------- what it sees now

    async def sees(self, name: str, status: str, reason: str, type_: str = "Ready") -> str:
        """Wait until the condition of an instance, of its newest generation, says so; its message."""

        def says() -> Json | None:
            found = self.condition(name, type_)
            return found if (found.get("status"), found.get("reason")) == (status, reason) else None

        what = f"{self.name}/{name}: {type_}={status}/{reason}"
        found = await self.history.until(says, what, self.patience, lambda: self.condition(name, type_))
        assert found is not None
        return str(found["message"])

    def condition(self, name: str, type_: str) -> Json:
        obj = self.history.get(INSTANCES, self.name, name) or {"metadata": {"generation": 0}}
        found = [each for each in (obj.get("status") or {}).get("conditions", ()) if each["type"] == type_]
        return next((each for each in found if each["observedGeneration"] == obj["metadata"]["generation"]), {})

    async def settled(self, **instances: int) -> None:
        """Wait until these instances serve in these numbers, and nothing else of the pool is held or runs."""
        for name in instances:
            await self.sees(name, "True", "Ready")
        wanted = {name: count for name, count in instances.items() if count}
        await self.history.until(
            lambda: self.members() == wanted == self.running(),
            f"{self.name}: {wanted} hold and run",
            self.patience,
            lambda: (self.members(), self.running(), self.pool().get("changeSets")),
        )

    def pool(self, name: str = POOL) -> Json:
        """The status of a pool."""
        obj = self.history.get(POOLS, self.name, name)
        status: Json = (obj or {}).get("status") or {}
        return status

    def class_status(self) -> Json:
        obj = self.history.get(CLASSES, "", self.class_name) or {}
        return obj.get("status") or {"nodes": {"ready": 0}}

    def summary(self, name: str) -> str:
        obj = self.history.get(INSTANCES, self.name, name) or {}
        return str((obj.get("status") or {}).get("summary", ""))

    def held_on(self) -> set[str]:
        """Nodes on which something is held that is to stay."""
        held = [each for each in self.pool().get("holdings", ()) if each["state"] == "Held"]
        return {node for each in held for node in each["nodes"]}

    def members(self) -> dict[str, int]:
        """How many members each instance has a holding for."""
        return counted(each["instance"] for each in self.pool().get("holdings", ()))

    def running(self) -> dict[str, int]:
        """How many pods that are to stay each instance has ready, of those that have as many StatefulSets that are."""
        ready = [each for each in self._of_members() if is_ready(each)]
        sets = [each for each in self.history.of(STATEFUL_SETS, self.name) if not _ends(each)]
        serve, meant = (counted(each["metadata"]["labels"][INSTANCE_LABEL] for each in objs) for objs in (ready, sets))
        return {name: count for name, count in serve.items() if meant.get(name) == count}

    def pods(self) -> dict[str, str]:
        """Of members, name to uid."""
        return {each["metadata"]["name"]: each["metadata"]["uid"] for each in self._of_members()}

    def _of_members(self) -> list[Json]:
        """Without the pods that pull an artifact."""
        return [each for each in self.history.of(PODS, self.name) if not pulls(each)]

    def pods_on(self, node: str) -> list[Json]:
        return [each for each in self.history.of(PODS, self.name) if each["spec"].get("nodeName") == node]

    def nodes(self) -> list[Json]:
        return [each for each in self.history.of(NODES) if each["metadata"]["name"].startswith(f"{self.name}-")]

    def claims(self) -> dict[str, int]:
        """Blocks claimed on each of its nodes."""
        return {each["metadata"]["name"]: sum(claims_of(each).values()) for each in self.nodes()}

    def end_state(self) -> Json:
        """What there is, without what may differ between two runs that end alike: names of nodes and members, times."""
        units = {key: value for key, value in self.pool().get("computeUnits", {}).items() if key != "surge"}
        holdings = [(each["instance"], each["computeUnits"], each["state"]) for each in self.pool().get("holdings", ())]
        conditions = {
            each["metadata"]["name"]: sorted(
                (one["type"], one["status"], one["reason"]) for one in (each.get("status") or {}).get("conditions", ())
            )
            for each in self.history.of(INSTANCES, self.name)
        }
        sets = [
            (each["metadata"]["labels"][INSTANCE_LABEL], each["spec"]["replicas"], each["status"].get("readyReplicas"))
            for each in self.history.of(STATEFUL_SETS, self.name)
        ]
        return {
            "computeUnits": units,
            "holdings": sorted(holdings),
            "conditions": conditions,
            "statefulSets": sorted(sets),
            "claims": sorted(blocks for blocks in self.claims().values() if blocks),
            "changeSets": sorted((each["id"], each["phase"]) for each in self.pool().get("changeSets", ())),
            "pods": len(self.pods()),
        }


async def prepare_offerings(api: Api, customers: Iterable[Customer]) -> None:
    for offering in offerings([each.class_name for each in customers]):
        await api.apply(OFFERINGS, offering)


async def remove_offerings(api: Api, history: History) -> None:
    """Not before nothing pins them, which their status says as soon as an operator has seen it."""
    for name in (TURBO, SMALL):

        def unused(name: str = name) -> bool:
            obj = history.get(OFFERINGS, "", name) or {}
            return not (obj.get("status") or {}).get("pinnedTotal")

        await history.until(unused, f"nothing pins {name}")
        await api.delete(OFFERINGS, "", name)


def is_ready(pod: Json) -> bool:
    """It serves, and nobody has told it to end: of a node that nobody answers for it may say so for ever."""
    conditions = (pod.get("status") or {}).get("conditions", ())
    return not _ends(pod) and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _ends(obj: Json) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def claims_of(node: Json) -> dict[str, int]:
    """Blocks of the node by the uid of the pool that has claimed them."""
    listed = json.loads((node["metadata"].get("annotations") or {}).get(CLAIMS, "[]"))
    return {each["uid"]: each["blocks"] for each in listed}


def pulls(obj: Json) -> bool:
    """Is it what brings an artifact to a node? It asks for no GPU, and is nobody's member."""
    return PREFETCH_LABEL in obj["metadata"].get("labels", {})


async def all_of(*stories: Any) -> list[Any]:
    """Run them side by side, to the end of each: one that fails must not hide how the others ended."""
    ends = await asyncio.gather(*stories, return_exceptions=True)
    failed = [each for each in ends if isinstance(each, BaseException)]
    if failed:
        raise BaseExceptionGroup(f"{len(failed)} of {len(ends)} stories failed", failed)
    return ends


def counted(names: Iterable[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for name in names:
        counted[name] = counted.get(name, 0) + 1
    return counted


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

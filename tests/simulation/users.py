"""Owns what people, machines and other controllers do to the cluster at random: within what the API server lets them.

To add an action: a method that takes nothing and says whether it found something to act on, and its weight in ACTIONS.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from reserved_capacity.api import meta
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    PRICE_BOOKS,
    STATEFUL_SETS,
    JsonObject,
    Ref,
    Resource,
)
from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import ref_of
from tests.integration import world as catalogue
from tests.simulation import ends, upgrades

NAMESPACE = "acme"
GPUS = 4  # of a node; one block is one GPU
OFFERINGS: dict[str, tuple[int, int]] = {"small": (100, 1), "pair": (100, 2), "mid": (200, 1), "big": (300, 2)}
INSTANCES = ("a", "b", "c", "d", "e", "f")
POOLS = ("p", "q", "r")
_SIZES = (200, 300, 400, 600, 800)
_STAMP = "%Y-%m-%dT%H:%M:%SZ"


def pool_body(name: str, order: str, cu: int) -> JsonObject:
    body = catalogue.pool(name, cu=cu, commitment=order, namespace=NAMESPACE)
    body["spec"]["commitments"][0]["term"] = "ThreeMonths"
    return body


def accelerator_class() -> JsonObject:
    body = catalogue.accelerator_class()
    body["spec"] |= {"gpusPerNode": GPUS, "computeUnitsPerNode": GPUS * 100}
    return body


def price_book() -> JsonObject:
    body = catalogue.price_book()
    body["spec"]["computeUnits"].append({**body["spec"]["computeUnits"][0], "term": "ThreeMonths"})
    return body


@dataclass(slots=True)
class Users:
    """`wait(delta)` lets time pass. `enabled` are the actions of this run (a random part: some faults hide others)."""

    cluster: FakeCluster
    chance: random.Random
    wait: Callable[[timedelta], None]
    favourites: tuple[str, ...] = ()
    enabled: list[str] = field(init=False)
    orders: int = 0
    nodes_made: int = 0
    sets: int = 0
    arriving: list[tuple[Ref, JsonObject]] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [name for name in ACTIONS if name not in _ALWAYS and self.chance.random() < 0.6]
        self.enabled = [*_ALWAYS, *names, *(4 * self.favourites)]

    def seed(self, *, roomy: bool = False) -> None:
        """The catalogue, 2 to 5 nodes, 1 to 3 pools, and the first few instances; or more of these, in fewer pools."""
        chance, create = self.chance, self.cluster.user_create
        create(ACCELERATOR_CLASSES, accelerator_class())
        create(PRICE_BOOKS, price_book())
        for name, (cu, minimum) in OFFERINGS.items():
            create(MODEL_OFFERINGS, upgrades.offering(name, cu, minimum))
        for _ in range(chance.randint(4, 5) if roomy else chance.randint(2, 4)):
            self.add_node()
        for _ in range(chance.randint(1, 2) if roomy else chance.randint(1, 3)):
            self.make_pool(sizes=(600, 800) if roomy else _SIZES)
        for _ in range(6 if roomy else chance.randint(1, 4)):
            self.make_instance()

    def act(self) -> str:
        """One action that finds something to act on; its name."""
        for _ in range(10):
            name = self.chance.choices(self.enabled, [_WEIGHTS[each] for each in self.enabled])[0]
            if _ELSEWHERE[name](self) if name in _ELSEWHERE else getattr(self, name)():
                return name
        return "nothing"

    # ------------------------------------------------------------------------------------------------------- instances

    def make_instance(self) -> bool:
        name = self.chance.choice(INSTANCES)
        if self.cluster.stored(Ref(MODEL_INSTANCES, NAMESPACE, name)) is not None:
            return False
        model = self.chance.choice([*OFFERINGS])
        pools = [obj["metadata"]["name"] for obj in self.cluster.all_stored(COMPUTE_UNIT_POOLS)] or ["p"]
        body = catalogue.instance(
            name,
            model,
            self.chance.choice((0, 1, 1, 2, 2, 3)),
            pool_ref=self.chance.choice(pools),
            priority=self.chance.choice((0, 0, 0, 5)),
        )
        self.cluster.user_create(MODEL_INSTANCES, body)
        return True

    def scale(self) -> bool:
        return self._edit_instance({"instances": self.chance.choice((0, 0, 1, 2, 2, 3, 4))})

    def suspend(self) -> bool:
        return self._edit_instance({"suspend": self.chance.random() < 0.5})

    def delete_instance(self) -> bool:
        if (obj := self.any_of(MODEL_INSTANCES)) is None:
            return False
        self.cluster.user_delete(ref_of(MODEL_INSTANCES, obj), foreground=self.chance.random() < 0.2)
        return True

    def make_anew(self) -> bool:
        """Deleted and created again at once, with another size and another offering perhaps."""
        if (obj := self.any_of(MODEL_INSTANCES)) is None or obj["metadata"].get("finalizers"):
            return False
        self.cluster.user_delete(ref_of(MODEL_INSTANCES, obj))
        spec = {**obj["spec"], "instances": self.chance.randint(0, 3)}
        if self.chance.random() < 0.4:
            model = self.chance.choice([*OFFERINGS])
            spec |= {"offering": model, "snapshot": f"{model}-1", "profile": "default"}
        metadata = {"name": obj["metadata"]["name"], "namespace": NAMESPACE}
        self.cluster.user_create(MODEL_INSTANCES, {"metadata": metadata, "spec": spec})
        return True

    def change_set(self) -> bool:
        """Two or three instances of a pool are to move together; they are edited one after the other, or never all."""
        if self.arriving and self.chance.random() < 0.95:
            ref, spec = self.arriving.pop()
            if self.cluster.stored(ref) is not None:
                self.cluster.user_patch(ref, {"spec": spec})
            return True
        if (first := self.any_of(MODEL_INSTANCES)) is None:
            return False
        beside = [
            obj
            for obj in self.cluster.all_stored(MODEL_INSTANCES)
            if obj["spec"]["poolRef"] == first["spec"]["poolRef"] and obj is not first
        ]
        if not beside:
            return False
        self.sets += 1
        crew = [first, *self.chance.sample(beside, min(len(beside), self.chance.choice((1, 1, 2))))]
        id_ = {"changeSet": {"id": f"set-{self.sets}", "members": len(crew)}}
        counts = [0, *(self.chance.randint(1, 3) for _ in crew[1:])]  # mostly something that may well fit
        if self.chance.random() < 0.3:
            counts = [self.chance.choice((0, 1, 2, 3)) for _ in crew]
        self.arriving = [
            (ref_of(MODEL_INSTANCES, obj), {**id_, "instances": count}) for obj, count in zip(crew, counts, strict=True)
        ]
        return self.change_set()

    def leave_change_set(self) -> bool:
        return self._edit_instance({"changeSet": None})

    def _edit_instance(self, spec: JsonObject) -> bool:
        if (obj := self.any_of(MODEL_INSTANCES)) is None:
            return False
        self.cluster.user_patch(ref_of(MODEL_INSTANCES, obj), {"spec": spec})
        return True

    # ----------------------------------------------------------------------------------------------------------- pools

    def make_pool(self, sizes: Sequence[int] = _SIZES) -> bool:
        name = self.chance.choice(POOLS)
        if self.cluster.stored(Ref(COMPUTE_UNIT_POOLS, NAMESPACE, name)) is not None:
            return False
        self.orders += 1
        body = pool_body(name, f"order-{self.orders}", self.chance.choice(sizes))
        self.cluster.user_create(COMPUTE_UNIT_POOLS, body)
        return True

    def order_more(self) -> bool:
        if (obj := self.any_of(COMPUTE_UNIT_POOLS)) is None or len(obj["spec"]["commitments"]) > 2:
            return False
        self.orders += 1
        more = pool_body("x", f"order-{self.orders}", self.chance.choice((100, 200, 300)))["spec"]["commitments"]
        commitments = [*obj["spec"]["commitments"], *more]
        self.cluster.user_patch(ref_of(COMPUTE_UNIT_POOLS, obj), {"spec": {"commitments": commitments}})
        return True

    def delete_pool(self) -> bool:
        """As a namespace's teardown may (M9)."""
        if (obj := self.any_of(COMPUTE_UNIT_POOLS)) is None:
            return False
        self.cluster.user_delete(ref_of(COMPUTE_UNIT_POOLS, obj))
        return True

    def make_pool_anew(self) -> bool:
        """Lost and applied again: the same order, or for others a new one."""
        if (obj := self.any_of(COMPUTE_UNIT_POOLS)) is None:
            return False
        self.cluster.user_delete(ref_of(COMPUTE_UNIT_POOLS, obj))
        metadata = {"name": obj["metadata"]["name"], "namespace": NAMESPACE}
        self.cluster.user_create(COMPUTE_UNIT_POOLS, {"metadata": metadata, "spec": obj["spec"]})
        return True

    def lose_pool_status(self) -> bool:
        """As a backup tool does that restores objects without their status."""
        if (obj := self.any_of(COMPUTE_UNIT_POOLS)) is None or not obj.get("status"):
            return False
        self.cluster.user_patch(ref_of(COMPUTE_UNIT_POOLS, obj), {"status": None}, status=True)
        return True

    # ------------------------------------------------------------------------------------------------------- catalogue

    def edit_offering(self) -> bool:
        digest = "sha256:" + self.chance.choice("abcd") * 64
        ref = Ref(MODEL_OFFERINGS, "", self.chance.choice([*OFFERINGS]))
        if self.cluster.stored(ref) is None:
            return False
        self.cluster.user_patch(ref, {"spec": {"reserved": {"serving": {"image": f"server@{digest}"}}}})
        return True

    # ----------------------------------------------------------------------------------------------------------- nodes

    def add_node(self) -> bool:
        if len(self.cluster.all_stored(NODES)) >= 5:
            return False
        self.nodes_made += 1
        self._make_node(f"n{self.nodes_made}")
        return True

    def delete_node(self) -> bool:
        if (node := self.any_of(NODES)) is None:
            return False
        self.cluster.user_delete(ref_of(NODES, node))
        return True

    def make_node_anew(self) -> bool:
        """Re-registered by its kubelet: the same machine and pods, without our annotation."""
        if (node := self.any_of(NODES)) is None:
            return False
        self.cluster.user_delete(ref_of(NODES, node))
        self._make_node(node["metadata"]["name"])
        return True

    def cordon(self) -> bool:
        if (node := self.any_of(NODES)) is None:
            return False
        cordoned = bool((node.get("spec") or {}).get("unschedulable"))
        self.cluster.user_patch(ref_of(NODES, node), {"spec": {"unschedulable": None if cordoned else True}})
        return True

    def flap(self) -> bool:
        if (node := self.any_of(NODES)) is None:
            return False
        ready = node["status"]["conditions"][0]["status"] == "True"
        self.set_ready(node, ready="Unknown" if ready else "True")
        return True

    def set_ready(self, node: JsonObject, *, ready: str) -> None:
        since = self.cluster.now().strftime(_STAMP)
        conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": since}]
        self.cluster.user_patch(ref_of(NODES, node), {"status": {"conditions": conditions}}, status=True)

    def lose_gpus(self) -> bool:
        if (node := self.any_of(NODES)) is None:
            return False
        allocatable = {"nvidia.com/gpu": str(self.chance.choice((0, GPUS - 1, GPUS, GPUS)))}
        self.cluster.user_patch(ref_of(NODES, node), {"status": {"allocatable": allocatable}}, status=True)
        return True

    def _make_node(self, name: str) -> None:
        zone = self.chance.choice(("z1", "z1", "z2"))
        self.cluster.user_create(NODES, catalogue.node(name, gpus=GPUS, zone=zone, at=self.cluster.now()))

    # ------------------------------------------------------------------------------------------------------------ pods

    def evict_pod(self) -> bool:
        if (pod := self.any_of(PODS)) is None:
            return False
        self.cluster.user_delete(ref_of(PODS, pod))
        return True

    def crash_pod(self) -> bool:
        """It is not ready until its kubelet says so again."""
        if (pod := self.any_of(PODS)) is None:
            return False
        conditions = [{"type": "Ready", "status": "False"}]
        self.cluster.user_patch(ref_of(PODS, pod), {"status": {"conditions": conditions}}, status=True)
        return True

    def delete_member(self) -> bool:
        """`kubectl delete statefulset`, of somebody who should not."""
        if (obj := self.any_of(STATEFUL_SETS)) is None:
            return False
        self.cluster.user_delete(ref_of(STATEFUL_SETS, obj), foreground=self.chance.random() < 0.5)
        return True

    def foreign_pod(self) -> bool:
        """Comes where no claim keeps it off and GPUs are free, as the scheduler would have it; or goes."""
        name = f"foreign-{self.chance.randrange(2)}"
        ref = Ref(PODS, "other", name)
        if self.cluster.stored(ref) is not None:
            self.cluster.remove(ref)
            return True
        free = [node for node in self.cluster.all_stored(NODES) if not (node.get("spec") or {}).get("taints")]
        used = {(pod.get("spec") or {}).get("nodeName") for pod in self.cluster.all_stored(PODS)}
        free = [node for node in free if node["metadata"]["name"] not in used]
        if not free:
            return False
        gpus = {"nvidia.com/gpu": str(self.chance.randint(1, 2))}
        spec: dict[str, Any] = {
            "nodeName": self.chance.choice(free)["metadata"]["name"],
            "containers": [{"name": "main", "resources": {"requests": gpus}}],
        }
        body = {"metadata": {"name": name, "namespace": "other"}, "spec": spec, "status": {"phase": "Running"}}
        self.cluster.user_create(PODS, body)
        return True

    # ------------------------------------------------------------------------------------------------------------ time

    def wait_long(self) -> bool:
        hours = self.chance.choice((0.05, 0.3, 1, 14, 26, 24 * 40, 24 * 100))
        self.wait(timedelta(hours=hours))
        return True

    # -------------------------------------------------------------------------------------------------------- the rest

    def any_of(self, resource: Resource) -> JsonObject | None:
        """One of ours, that is not on its way out."""
        found: Sequence[JsonObject] = [
            obj
            for obj in self.cluster.all_stored(resource)
            if not obj["metadata"].get("deletionTimestamp")
            and (resource != PODS or meta.MEMBER_LABEL in obj["metadata"].get("labels", {}))
        ]
        return self.chance.choice(found) if found else None


_ALWAYS = ("make_instance", "scale", "delete_instance", "change_version")
ACTIONS: dict[str, float] = {
    "make_instance": 5,
    "scale": 8,
    "delete_instance": 3,
    "suspend": 1,
    **upgrades.WEIGHTS,
    "make_anew": 2,
    "change_set": 8,
    "leave_change_set": 0.5,
    "make_pool": 2,
    "order_more": 1,
    "delete_pool": 0.7,
    "make_pool_anew": 0.7,
    "lose_pool_status": 0.5,
    "edit_offering": 1,
    "add_node": 1.5,
    "delete_node": 1,
    "make_node_anew": 1,
    "cordon": 1.5,
    "flap": 2,
    "lose_gpus": 1,
    "evict_pod": 1,
    "crash_pod": 1,
    "delete_member": 0.5,
    "foreign_pod": 1.5,
    "wait_long": 1.5,
}
_ELSEWHERE: Mapping[str, Callable[[Users], bool]] = {**ends.ENDS, **upgrades.UPGRADES}
_WEIGHTS = {**ACTIONS, **ends.WEIGHTS}

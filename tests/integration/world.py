"""Owns a small world in one process: the production loop, store and reconcilers over the fake API server.

Nothing here waits: the queue's clock is a number that `settle` moves on, so back-offs cost no time and every run of a
test takes the same steps.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from reserved_capacity import reconcilers
from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.api import meta
from reserved_capacity.loop import Loop
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    PRICE_BOOKS,
    Counters,
    GatewayCounters,
    JsonObject,
    Ref,
    Resource,
    TokenCounters,
)
from reserved_capacity.queue import WorkQueue
from reserved_capacity.reconcilers import routes
from reserved_capacity.reconcilers.billing.board import Billing
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.store import Store
from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import FakeControllers
from tests.fakes.ledger import FakeLedger
from tests.fakes.sink import FakeSink

NOW = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
H100 = {"nvidia.com/gpu.product": "H100"}


@dataclass(slots=True)
class Clock:
    """`ahead` of real time, as the development clock can be."""

    moment: datetime = NOW
    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return self.moment

    def recorded(self, api_timestamp: datetime) -> datetime:
        return api_timestamp + self.ahead

    def forward(self, **delta: float) -> None:
        self.moment += timedelta(**delta)


@dataclass(slots=True)
class Operator:
    """One operator process: its own store and loop, over the shared cluster."""

    cluster: FakeCluster
    clock: Clock
    seed: int = 0
    billing: Billing | None = None
    counters: TokenCounters | None = None
    gateways: GatewayCounters | None = None
    time: float = 0.0
    store: Store = field(init=False)
    loop: Loop = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(INDEXES)
        queue = WorkQueue(lambda: self.time, jitter=random.Random(self.seed))
        remembering = RememberingCluster(self.cluster, self.store)
        self.loop = Loop(
            cluster=remembering,
            store=self.store,
            clock=self.clock,
            route=routes.keys_for,
            reconcilers=reconcilers.build(
                remembering,
                self.store,
                self.clock,
                queue.add,
                self.billing,
                counters=Counters(servers=self.counters, gateways=self.gateways),
            ),
            crowds=reconcilers.CROWDS,
            queue=queue,
            standing=reconcilers.STANDING,
        )
        self.cluster.attach(self.store)
        self.loop.open()

    async def turn(self) -> bool:
        """Reconcile one key that is due; False if none is."""
        self.loop.enqueue_due()
        key = self.loop.queue.take()
        if key is None:
            return False
        try:
            await self.loop.reconcile(key)
        finally:
            self.loop.queue.done(key)
        return True

    async def run(self, turns: int = 2000) -> int:
        """Reconcile until nothing is due any more; how many turns it took."""
        for taken in range(turns):
            if not await self.turn():
                return taken
        raise AssertionError(f"still busy after {turns} turns: the loop does not settle")

    def wait_for_retries(self, horizon: float = 120.0) -> bool:
        """Move the queue's clock to the next key that waits, if one does within `horizon` seconds."""
        due = self.loop.queue.next_due_in()
        if due is None or due > horizon:
            return False
        self.time += due
        return True


@dataclass(slots=True)
class World:
    """A cluster with GPU nodes, the seed's catalogue, one pool of 600 CU, and one operator (more on demand).

    `ledger` None: operators keep no books. Each operator reads them with a memory of its own.
    """

    clock: Clock = field(default_factory=Clock)
    ledger: FakeLedger | None = None
    sink: FakeSink | None = None
    counters: TokenCounters | None = None
    gateways: GatewayCounters | None = None
    cluster: FakeCluster = field(init=False)
    controllers: FakeControllers = field(init=False)
    operators: list[Operator] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(now=self.clock.now)
        self.controllers = FakeControllers(self.cluster)

    def start_operator(self, seed: int = 0) -> Operator:
        billing = None
        if self.ledger is not None:
            name = "http://billing.test" if self.sink is not None else None
            billing = Billing(self.ledger, self.sink, name, owner=f"operator-{len(self.operators)}-{seed}")
        operator = Operator(self.cluster, self.clock, seed, billing, self.counters, self.gateways)
        self.operators.append(operator)
        return operator

    def kill_operators(self) -> None:
        """SIGKILL: their memory is gone; the cluster stays as it is."""
        self.cluster.disconnect()
        self.operators.clear()

    async def settle(self, rounds: int = 200) -> None:
        """Until neither the operators nor the cluster's own controllers have anything to do."""
        for _ in range(rounds):
            turns = 0
            for operator in self.operators:
                turns += await operator.run()
            moved = await self.controllers.step()
            if not turns and not moved and not any(operator.wait_for_retries() for operator in self.operators):
                return
        raise AssertionError("the world does not settle")

    # ------------------------------------------------------------------------------------------------------- contents

    def seed(self, nodes: Iterable[str] = ("gpu-0", "gpu-1")) -> None:
        for name in nodes:
            self.add_node(name)
        self.cluster.user_create(ACCELERATOR_CLASSES, accelerator_class())
        self.cluster.user_create(PRICE_BOOKS, price_book())
        self.cluster.user_create(MODEL_OFFERINGS, offering("gpt-4-turbo", cu=300, minimum=2))
        self.cluster.user_create(MODEL_OFFERINGS, offering("gpt-3.5-turbo", cu=100))
        self.cluster.user_create(COMPUTE_UNIT_POOLS, pool())

    def add_node(self, name: str, *, gpus: int = 8, zone: str = "z1") -> None:
        self.cluster.user_create(NODES, node(name, gpus=gpus, zone=zone, at=self.clock.now()))

    def apply_instance(self, name: str, model: str, instances: int, **spec: Any) -> None:
        self.cluster.user_create(MODEL_INSTANCES, instance(name, model, instances, **spec))

    def scale(self, name: str, instances: int) -> None:
        self.edit_instance(name, {"instances": instances})

    def edit_instance(self, name: str, spec: JsonObject) -> None:
        self.cluster.user_patch(Ref(MODEL_INSTANCES, "acme", name), {"spec": spec})

    def delete_instance(self, name: str) -> None:
        self.cluster.user_delete(Ref(MODEL_INSTANCES, "acme", name))

    # ------------------------------------------------------------------------------------------------------ looking

    def get(self, resource: Resource, name: str, namespace: str = "") -> JsonObject:
        found = self.cluster.peek(Ref(resource, namespace, name))
        assert found is not None, f"{resource.kind} {name} does not exist"
        return found

    def get_instance(self, name: str) -> JsonObject:
        return self.get(MODEL_INSTANCES, name, "acme")

    def pool_status(self, name: str = "prod") -> JsonObject:
        return dict(self.get(COMPUTE_UNIT_POOLS, name, "acme")["status"])

    def condition(self, resource: Resource, name: str, type_: str, namespace: str = "acme") -> tuple[str, str, str]:
        """(status, reason, message) of a condition."""
        conditions = self.get(resource, name, namespace if resource.namespaced else "")["status"]["conditions"]
        found = next(each for each in conditions if each["type"] == type_)
        return (found["status"], found["reason"], found["message"])

    def instance_condition(self, name: str, type_: str) -> tuple[str, str, str]:
        return self.condition(MODEL_INSTANCES, name, type_)

    def holdings(self, state: str = "Held") -> dict[str, list[str]]:
        """Member to nodes, of holdings in that state."""
        return {
            holding["member"]: list(holding["nodes"])
            for holding in self.pool_status().get("holdings", [])
            if holding["state"] == state
        }

    def pods(self) -> dict[str, str]:
        """Members' pods, name to uid."""
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.member_pods()}

    def member_pods(self) -> list[JsonObject]:
        return [pod for pod in self.cluster.objects(PODS) if meta.MEMBER_LABEL in (pod["metadata"].get("labels") or {})]

    def writes(self) -> list[str]:
        """The writes so far, in words; clear `cluster.writes` to begin anew."""
        return [str(write) for write in self.cluster.writes]


def run(scenario: Callable[[], Any]) -> Any:
    return asyncio.run(scenario())


def accelerator_class(name: str = "h100-8") -> JsonObject:
    return {
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": dict(H100)},
            "gpuResource": "nvidia.com/gpu",
            "gpusPerNode": 8,
            "computeUnitsPerNode": 800,
        },
    }


def price_book() -> JsonObject:
    entry = {"term": "OneYear", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "220.00"}
    return {"metadata": {"name": "usd"}, "spec": {"currency": "USD", "computeUnits": [entry]}}


def offering(name: str, *, cu: int, minimum: int = 1) -> JsonObject:
    return {
        "metadata": {"name": name},
        "spec": {
            "displayName": name,
            "reserved": {
                "computeUnitsPerInstance": cu,
                "minInstances": minimum,
                "acceleratorClasses": ["h100-8"],
                "serving": {"image": f"server@{DIGEST}", "args": ["--model", "$(MODEL_PATH)"]},
            },
            "snapshots": [{"name": f"{name}-1", "artifact": f"oci://models/{name}@{DIGEST}"}],
        },
    }


def pool(name: str = "prod", *, cu: int = 600, commitment: str = "po-1", namespace: str = "acme") -> JsonObject:
    order = {"id": commitment, "computeUnits": cu, "term": "OneYear", "provisionBy": "2026-03-01"}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"account": "acme", "priceBookRef": "usd", "acceleratorClass": "h100-8", "commitments": [order]},
    }


def instance(name: str, model: str, instances: int, *, pool_ref: str = "prod", **spec: Any) -> JsonObject:
    return {
        "metadata": {"name": name, "namespace": "acme"},
        "spec": {"poolRef": pool_ref, "offering": model, "snapshot": f"{model}-1", "instances": instances, **spec},
    }


def node(name: str, *, gpus: int = 8, zone: str = "z1", at: datetime = NOW) -> JsonObject:
    since = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {**H100, "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus)},
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
        },
    }

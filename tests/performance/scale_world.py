"""Owns the world of the scale benchmark: a control plane of its own, nodes, pools with room, and what a user applies."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from e2e.cluster import lifecycle, nodes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.state import ClusterDir
from tests.performance.plain_client import JsonObject, PlainClient, at_once

CHECKOUT = Path(__file__).parents[2]
OURS = "/apis/reservedcapacity.io/v1alpha1"
OFFERING, SNAPSHOT, CU = "gpt-3.5-turbo", "gpt-3.5-turbo-0125", 100
MEMBERS_PER_POOL = 1_000  # as many as a pool may have
# New nodes keep the controllers, the scheduler and KWOK busy for a while, which is not to be anybody's disadvantage.
SETTLING_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Shape:
    nodes: int
    pools: int
    instances: int

    @classmethod
    def of(cls, nodes: int, pools: int, instances: int) -> Shape:
        """With as many pools as are needed at least."""
        return cls(nodes, max(pools, -(-instances // MEMBERS_PER_POOL)), instances)

    def places(self) -> list[tuple[str, str]]:
        """Namespace and name of every instance, one pool after the other."""
        return [(f"team-{index * self.pools // self.instances}", f"chat-{index:05}") for index in range(self.instances)]

    @property
    def cu_per_pool(self) -> int:
        return -(-self.instances // self.pools) * CU

    @property
    def patience_seconds(self) -> float:
        """For anything that all instances have to reach; on a busy machine it takes four times what it takes alone."""
        return max(600.0, 0.5 * self.instances)


@contextmanager
def fresh_cluster() -> Iterator[Cluster]:
    """A control plane of its own with the CRDs, policies, catalogue and prices; gone afterwards, whatever happens."""
    os.environ["E2E_CLUSTER"] = "local"
    os.environ["E2E_NODE_LEASE_SECONDS"] = "1200"  # no node is to be lost, and signs of life are not what is measured
    state = ClusterDir(Path(tempfile.mkdtemp(prefix="rc-bench-")))
    try:
        cluster = lifecycle.up(state)
        cluster.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "manifests/install"))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        samples = CHECKOUT / "manifests/samples"
        for name in ("accelerator-class.yaml", "prices.yaml", f"catalogue/{OFFERING}.yaml"):
            cluster.kubectl("apply", "--server-side", "-f", str(samples / name))
        yield cluster
    finally:
        lifecycle.down(state, purge=True)


async def furnish(client: PlainClient, shape: Shape) -> None:
    """Nodes, and a namespace with a pool for each customer."""
    made = nodes.gpu_nodes(shape.nodes, "z1")
    await at_once(partial(client.call, "POST", "/api/v1/nodes", node) for node in made)
    for index in range(shape.pools):
        namespace = f"team-{index}"
        metadata = {"name": namespace}
        await client.call("POST", "/api/v1/namespaces", {"metadata": metadata})
        await client.call("POST", f"{OURS}/namespaces/{namespace}/computeunitpools", _pool(shape, namespace))
    await until(lambda: _nodes_ready(client, shape), "all nodes are Ready", shape, pause_seconds=15.0)
    await client.items(f"{OURS}/modelinstances")  # from now on the API server has them in its cache
    await asyncio.sleep(SETTLING_SECONDS)


async def _nodes_ready(client: PlainClient, shape: Shape) -> bool:
    listed = await client.items("/api/v1/nodes")
    return len([node for node in listed if _condition(node, "Ready")]) == shape.nodes


def _pool(shape: Shape, namespace: str) -> JsonObject:
    today = datetime.now(UTC).date().isoformat()
    order = {"id": f"po-{namespace}", "computeUnits": shape.cu_per_pool, "term": "OneYear", "provisionBy": today}
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "ComputeUnitPool",
        "metadata": {"name": "prod", "namespace": namespace},
        "spec": {
            "account": namespace,
            "priceBookRef": "usd",
            "acceleratorClass": "h100-8",
            "commitments": [order],
        },
    }


def instance(namespace: str, name: str) -> JsonObject:
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "ModelInstance",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"poolRef": "prod", "offering": OFFERING, "snapshot": SNAPSHOT, "instances": 1},
    }


async def apply(client: PlainClient, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Make all instances, as many at once as the client does; when each was sent."""
    applied: dict[tuple[str, str], float] = {}

    async def create(place: tuple[str, str]) -> None:
        applied[place] = time.monotonic()
        await client.call("POST", f"{OURS}/namespaces/{place[0]}/modelinstances", instance(*place))

    await at_once(partial(create, place) for place in places)
    return applied


async def pools_provisioned(client: PlainClient, shape: Shape) -> bool:
    pools = await client.items(f"{OURS}/computeunitpools")
    return all((pool.get("status") or {}).get("computeUnits", {}).get("idle") == shape.cu_per_pool for pool in pools)


async def until(check: Callable[[], Awaitable[bool]], what: str, shape: Shape, *, pause_seconds: float = 0.5) -> None:
    deadline = time.monotonic() + shape.patience_seconds
    while not await check():
        assert time.monotonic() < deadline, f"not within {shape.patience_seconds:.0f} s: {what}"
        await asyncio.sleep(pause_seconds)


def _condition(obj: JsonObject, type_: str) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(each["type"] == type_ and each["status"] == "True" for each in conditions)

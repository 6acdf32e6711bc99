"""N ModelInstances from `apply` to `CapacityReserved=True`, against the floor: a plain client doing the same writes.

    python -m tests.performance.bench_scale --json out.json

Each run has a fresh control plane of its own, started the same way and stopped at its end, so that neither finds the
other's objects in etcd, in the watch caches or in the controllers; one runs at a time, since they share the cores. The
floor comes second, because it repeats what the operator is seen to have written: the same objects (taken from the
operator's cluster) and as many statuses. The lean floor writes one status for each instance and nothing else, so that an
operator that writes too much cannot hide it in its own floor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from e2e.cluster import audit, lifecycle, nodes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.state import ClusterDir
from e2e.operator import USER
from tests.performance.plain_client import Conditions, JsonObject, PlainClient, at_once, connected
from tests.performance.processes import (
    OperatorUnderTest,
    control_plane_cpu_seconds,
    cpu_seconds,
    machine_cpu_seconds,
    peak_rss_mib,
)

CHECKOUT = Path(__file__).parents[2]
OURS = "/apis/reservedcapacity.io/v1alpha1"
OFFERING, SNAPSHOT, CU = "gpt-3.5-turbo", "gpt-3.5-turbo-0125", 100
PATIENCE_SECONDS = 600.0
QUIET_SECONDS = 5.0
STEADY_SECONDS = 60.0
# New nodes keep the controllers, the scheduler and KWOK busy for a while, which is not to be anybody's disadvantage.
SETTLING_SECONDS = 20.0
# Of the member's objects those of proof.md; the ControllerRevision is the operator's own business.
CHILDREN = {
    "StatefulSet": "/apis/apps/v1/{}/statefulsets",
    "Service": "/api/v1/{}/services",
    "PodDisruptionBudget": "/apis/policy/v1/{}/poddisruptionbudgets",
}
_SERVER_SIDE = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


@dataclass(frozen=True, slots=True)
class Shape:
    nodes: int
    pools: int
    instances: int

    def places(self) -> list[tuple[str, str]]:
        """Namespace and name of every instance, one pool after the other."""
        return [(f"team-{index * self.pools // self.instances}", f"chat-{index:05}") for index in range(self.instances)]

    @property
    def cu_per_pool(self) -> int:
        return -(-self.instances // self.pools) * CU


@dataclass(slots=True)
class Usage:
    """CPU seconds of everybody in a window, and how long it was."""

    seconds: float
    client: float
    operator: float
    control_plane: float
    others: float


class Meter:
    def __init__(self, cluster: Cluster, operator: OperatorUnderTest | None = None) -> None:
        self._cluster, self._operator = cluster, operator
        self._from = self._read()

    def used(self) -> Usage:
        """Since the meter was made."""
        seconds, client, operator, plane, machine = (
            now - before for now, before in zip(self._read(), self._from, strict=True)
        )
        return Usage(seconds, client, operator, plane, max(0.0, machine - client - operator - plane))

    def _read(self) -> tuple[float, ...]:
        return (
            time.monotonic(),
            cpu_seconds(os.getpid()),
            cpu_seconds(self._operator.pid) if self._operator else 0.0,
            control_plane_cpu_seconds(self._cluster),
            machine_cpu_seconds(),
        )


@dataclass(slots=True)
class OperatorRun:
    shape: Shape
    provisioned_seconds: float = 0.0
    reserved: Usage | None = None
    settled: Usage | None = None
    steady: Usage | None = None
    latencies: list[float] = field(default_factory=list)
    single_latencies: list[float] = field(default_factory=list)
    rss_idle_mib: float = 0.0
    rss_peak_mib: float = 0.0
    reads: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    errors: int = 0
    writes_until_reserved: dict[str, int] = field(default_factory=dict)
    writes_until_settled: dict[str, int] = field(default_factory=dict)
    steady_writes: dict[str, int] = field(default_factory=dict)
    reconciles: dict[str, int] = field(default_factory=dict)
    children: dict[str, list[JsonObject]] = field(default_factory=dict)
    statuses: dict[str, list[JsonObject]] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------------- the world


@contextmanager
def fresh_cluster(shape: Shape) -> Iterator[Cluster]:
    """A control plane of its own with the CRDs, policies, catalogue and nodes; gone afterwards, whatever happens."""
    os.environ["E2E_CLUSTER"] = "local"
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
    await _until(lambda: _nodes_ready(client, shape), "all nodes are Ready")
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


def _instance(namespace: str, name: str) -> JsonObject:
    return {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "ModelInstance",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"poolRef": "prod", "offering": OFFERING, "snapshot": SNAPSHOT, "instances": 1},
    }


def _condition(obj: JsonObject, type_: str) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(each["type"] == type_ and each["status"] == "True" for each in conditions)


async def _until(check: Callable[[], Awaitable[bool]], what: str, pause_seconds: float = 0.5) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await check():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
        await asyncio.sleep(pause_seconds)


# ---------------------------------------------------------------------------------------------------------- the operator


async def run_operator(cluster: Cluster, shape: Shape, python: Sequence[str], *, steady_seconds: float) -> OperatorRun:
    run = OperatorRun(shape)
    async with connected(cluster) as client:
        await furnish(client, shape)
        started = time.monotonic()
        operator = OperatorUnderTest.start(cluster, python)
        try:
            await _until(lambda: _pools_provisioned(client, shape), "the pools have their blocks")
            run.provisioned_seconds = time.monotonic() - started
            await _quiet(cluster)
            run.rss_idle_mib = peak_rss_mib(operator.pid)
            await _measure(cluster, client, operator, run)
            steady, since = Meter(cluster, operator), datetime.now(UTC)
            await asyncio.sleep(steady_seconds)
            run.steady, run.steady_writes = steady.used(), dict(_writes(cluster, since))
            run.single_latencies = await _single_latencies(client, shape)
            run.rss_peak_mib = peak_rss_mib(operator.pid)
            run.errors = sum(each["level"] in ("error", "critical") for each in operator.records())
        finally:
            operator.stop()
    shutil.rmtree(operator.directory)  # not after a failure: there is the log
    return run


async def _pools_provisioned(client: PlainClient, shape: Shape) -> bool:
    pools = await client.items(f"{OURS}/computeunitpools")
    return all((pool.get("status") or {}).get("computeUnits", {}).get("idle") == shape.cu_per_pool for pool in pools)


async def _measure(cluster: Cluster, client: PlainClient, operator: OperatorUnderTest, run: OperatorRun) -> None:
    places, before = run.shape.places(), _reconciles(operator)
    async with Conditions().watched(client) as conditions:
        since, meter = datetime.now(UTC), Meter(cluster, operator)
        applied = await _apply(client, places)
        await conditions.reached("CapacityReserved", len(places), PATIENCE_SECONDS)
        run.reserved, until = meter.used(), datetime.now(UTC)
        run.latencies = [conditions.at["CapacityReserved"][place] - applied[place] for place in places]
        await conditions.reached("Ready", len(places), PATIENCE_SECONDS)
    await _quiet(cluster)
    run.settled = meter.used()
    run.reconciles = dict(_reconciles(operator) - before)
    events = list(audit.events(_log(cluster), USER, since))
    run.reads = dict(Counter(f"{each.verb} {each.resource}" for each in events if each.verb in ("get", "list")))
    run.refused = dict(Counter(f"{each.verb} {each.resource} {each.code}" for each in events if each.code >= 400))
    run.writes_until_settled = dict(_writes(cluster, since))
    run.writes_until_reserved = dict(_writes(cluster, since, until))
    for kind, path in CHILDREN.items():
        listed = await client.items(f"{path.format('').replace('//', '/')}?labelSelector={_OURS_ONLY}")
        run.children[kind] = [{**item, "kind": kind, "apiVersion": _api_version(path)} for item in listed]
    for plural in ("modelinstances", "computeunitpools", "modelofferings", "acceleratorclasses"):
        run.statuses[plural] = await client.items(f"{OURS}/{plural}")


_OURS_ONLY = "app.kubernetes.io/managed-by%3Dreserved-capacity"


def _api_version(path: str) -> str:
    return path.split("/{}")[0].removeprefix("/apis/").removeprefix("/api/")


async def _apply(client: PlainClient, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    applied: dict[tuple[str, str], float] = {}

    async def create(place: tuple[str, str]) -> None:
        applied[place] = time.monotonic()
        await client.call("POST", f"{OURS}/namespaces/{place[0]}/modelinstances", _instance(*place))

    await at_once(partial(create, place) for place in places)
    return applied


async def _single_latencies(client: PlainClient, shape: Shape) -> list[float]:
    """How long one change waits when nothing else happens: an instance is scaled to none and back, again and again."""
    namespace, name = shape.places()[0]
    path = f"{OURS}/namespaces/{namespace}/modelinstances/{name}"
    found = []
    for _ in range(10):
        await client.call("PATCH", path, {"spec": {"instances": 0}})
        await _until(lambda: _held(client, path, 0), "the instance let go")
        await asyncio.sleep(1.0)
        began = time.monotonic()
        await client.call("PATCH", path, {"spec": {"instances": 1}})
        await _until(lambda: _held(client, path, 1), "the instance has its blocks", pause_seconds=0.005)
        found.append(time.monotonic() - began)
    return found


async def _held(client: PlainClient, path: str, count: int) -> bool:
    status = (await client.call("GET", path)).get("status") or {}
    return bool(status.get("instances", {}).get("held") == count and status.get("computeUnits") == count * CU)


def _log(cluster: Cluster) -> Path:
    assert cluster.audit_log is not None, "only the built control plane has an audit log"
    return cluster.audit_log


def _writes(cluster: Cluster, since: datetime, until: datetime | None = None) -> Counter[str]:
    """The operator's writes but for the Lease, by verb and resource."""
    return Counter(
        f"{event.verb} {event.resource}"
        for event in audit.events(_log(cluster), USER, since)
        if event.is_write and not event.resource.startswith("leases") and (until is None or event.at < until)
    )


async def _quiet(cluster: Cluster) -> None:
    """Wait until the operator has written nothing for a while."""

    async def quiet() -> bool:
        return not _writes(cluster, datetime.now(UTC) - timedelta(seconds=QUIET_SECONDS))

    await asyncio.sleep(QUIET_SECONDS)
    await _until(quiet, "the operator has settled")


def _reconciles(operator: OperatorUnderTest) -> Counter[str]:
    """Turns so far by reconciler and outcome, from the operator's own metrics."""
    port = next(
        each["port"] for each in operator.records() if each.get("event") == "listening" and each["what"] == "metrics"
    )
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    turns: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("reservedcapacity_reconcile_seconds_count"):
            labels = dict(each.split("=") for each in line[line.index("{") + 1 : line.index("}")].split(","))
            turns[f"{labels['reconciler']} {labels['outcome']}".replace('"', "")] = int(float(line.split()[-1]))
    return turns


# ------------------------------------------------------------------------------------------------------------- the floor


async def run_floor(cluster: Cluster, model: OperatorRun, *, lean: bool) -> Usage:
    """The same objects and, unless lean, as many statuses of each kind as the operator wrote until all was reserved."""
    shape, written = model.shape, model.writes_until_reserved
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
            await conditions.reached("CapacityReserved", shape.instances, PATIENCE_SECONDS)
            return meter.used()


def _even(count: int, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """`count` writes spread over the objects."""
    return {place: count // len(places) + (index < count % len(places)) for index, place in enumerate(places)}


def _children_by_instance(model: OperatorRun) -> dict[tuple[str, str], list[JsonObject]]:
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
    made = await client.call("POST", f"{OURS}/namespaces/{namespace}/modelinstances", _instance(namespace, name))
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


# ------------------------------------------------------------------------------------------------------------ the report


def figures(run: OperatorRun, floors: dict[str, Usage]) -> JsonObject:
    """Everything that was measured, as plain data."""
    assert run.reserved is not None
    assert run.settled is not None
    assert run.steady is not None
    count = run.shape.instances
    latencies = sorted(run.latencies)
    return {
        "shape": asdict(run.shape),
        "provisioned_seconds": run.provisioned_seconds,
        "until_reserved": asdict(run.reserved),
        "until_settled": asdict(run.settled),
        "steady": asdict(run.steady),
        "floors": {name: asdict(usage) for name, usage in floors.items()},
        "ratio_to": {name: run.reserved.seconds / usage.seconds for name, usage in floors.items()},
        "cpu_ratio_to": {name: _ours(run.reserved) / _ours(usage) for name, usage in floors.items()},
        "operator_cpu_ms_per_object": {
            "until_reserved": 1000 * run.reserved.operator / count,
            "until_settled": 1000 * run.settled.operator / count,
        },
        "latency_seconds": {
            "p50": latencies[count // 2],
            "p99": latencies[count * 99 // 100],
            "single_p50": statistics.median(run.single_latencies),
            "single_max": max(run.single_latencies),
        },
        "rss_mib": {"idle": run.rss_idle_mib, "peak": run.rss_peak_mib},
        "writes_per_object": {
            "until_reserved": sum(run.writes_until_reserved.values()) / count,
            "until_settled": sum(run.writes_until_settled.values()) / count,
        },
        "writes_until_reserved": run.writes_until_reserved,
        "writes_until_settled": run.writes_until_settled,
        "reads": run.reads,
        "refused": run.refused,
        "errors_logged": run.errors,
        "steady_writes": run.steady_writes,
        "reconciles": run.reconciles,
    }


def _ours(usage: Usage) -> float:
    """CPU seconds of the operator or the client, and of the control plane: no neighbour lengthens them much."""
    return usage.operator + usage.client + usage.control_plane


def table(found: JsonObject) -> str:
    shape, reserved = found["shape"], found["until_reserved"]
    cpu, latency = found["operator_cpu_ms_per_object"], found["latency_seconds"]
    rows: list[tuple[str, str]] = [
        ("shape", "{instances} instances, {pools} pools, {nodes} nodes".format(**shape)),
        ("start to all pools provisioned", f"{found['provisioned_seconds']:.1f} s"),
        ("apply to all CapacityReserved", _usage(reserved)),
        *((f"{name} floor", _usage(usage)) for name, usage in found["floors"].items()),
        *((f"ratio to the {name} floor", f"{ratio:.2f}") for name, ratio in found["ratio_to"].items()),
        *((f"ratio of CPU to the {name} floor", f"{ratio:.2f}") for name, ratio in found["cpu_ratio_to"].items()),
        ("latency of an instance, p50 / p99", f"{latency['p50']:.2f} / {latency['p99']:.2f} s"),
        ("alone, p50 / max", f"{1000 * latency['single_p50']:.0f} / {1000 * latency['single_max']:.0f} ms"),
        ("operator CPU per object, reserved / settled", "{until_reserved:.1f} / {until_settled:.1f} ms".format(**cpu)),
        ("RSS before / peak", "{idle:.0f} / {peak:.0f} MiB".format(**found["rss_mib"])),
        (
            "writes per object, reserved / settled",
            "{until_reserved:.2f} / {until_settled:.2f}".format(**found["writes_per_object"]),
        ),
        ("steady state", f"{_usage(found['steady'])}, writes {found['steady_writes'] or 0}"),
        *(
            (f"  {what}", f"{number / shape['instances']:.2f}")
            for what, number in _sorted(found["writes_until_settled"])
        ),
        *((f"  {what}", f"{number / shape['instances']:.2f}") for what, number in _sorted(found["reads"])),
        *(
            (f"  reconciles {what}", f"{number / shape['instances']:.2f}")
            for what, number in _sorted(found["reconciles"])
        ),
        ("errors in the operator's log", str(found["errors_logged"])),
        *((f"  refused {what}", str(number)) for what, number in _sorted(found["refused"])),
    ]
    return "\n".join(f"{name:<60} {value}" for name, value in rows)


def _sorted(counted: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counted.items(), key=lambda item: -item[1])


def _usage(usage: JsonObject) -> str:
    return (
        "{seconds:.1f} s (CPU: operator {operator:.1f}, client {client:.1f}, control plane {control_plane:.1f}, "
        "others {others:.1f})"
    ).format(**usage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--pools", type=int, default=10)
    parser.add_argument("--instances", type=int, nargs="+", default=[100, 1000], help="one run for each number")
    parser.add_argument("--floors", nargs="*", choices=("same", "lean"), default=["same", "lean"])
    parser.add_argument("--steady-seconds", type=float, default=STEADY_SECONDS)
    parser.add_argument("--python", default="", help="arguments of the operator's interpreter, to profile it")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clusters are stopped then, too
    results = []
    for instances in given.instances:
        shape = Shape(given.nodes, given.pools, instances)
        with fresh_cluster(shape) as cluster:
            run = asyncio.run(run_operator(cluster, shape, given.python.split(), steady_seconds=given.steady_seconds))
        floors = {}
        for name in given.floors:
            with fresh_cluster(shape) as cluster:
                floors[name] = asyncio.run(run_floor(cluster, run, lean=name == "lean"))
        results.append(figures(run, floors))
        sys.stdout.write(table(results[-1]) + "\n\n")
        sys.stdout.flush()
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

"""N ModelInstances from `apply` to `CapacityReserved=True`, against the floor: a plain client doing the same writes.

    python -m tests.performance.bench_scale --json out.json
    python -m tests.performance.bench_scale --instances 10000 --nodes 5000 --floors      # by hand: half an hour or more

Each run has a fresh control plane of its own, started the same way and stopped at its end, so that neither finds the
other's objects in etcd, in the watch caches or in the controllers; one runs at a time, since they share the cores. The
floor comes second, because it repeats what the operator is seen to have written: the same objects (taken from the
operator's cluster) and as many statuses. The lean floor writes one status for each instance and nothing else, so that an
operator that writes too much cannot hide it in its own floor.

At the end the operator is stopped, one instance is told to let go, and the operator is started again: the cold start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from e2e.cluster.lifecycle import Cluster
from tests.performance import scale_report as report
from tests.performance.plain_client import Conditions, PlainClient, connected
from tests.performance.processes import OperatorUnderTest, cpu_seconds, peak_rss_mib, rss_mib
from tests.performance.scale_floor import Model, model_of, run_floor
from tests.performance.scale_meter import Meter, Requests, moment, progress, turns
from tests.performance.scale_report import ColdStart, OperatorRun
from tests.performance.scale_world import CU, OURS, Shape, apply, fresh_cluster, furnish, pools_provisioned, until

STEADY_SECONDS = 60.0


async def run_operator(
    cluster: Cluster, shape: Shape, python: Sequence[str], *, steady_seconds: float, floors: bool
) -> tuple[OperatorRun, Model]:
    run, requests = OperatorRun(shape), Requests(cluster)
    async with connected(cluster) as client:
        await furnish(client, shape)
        operator = OperatorUnderTest.start(cluster, python)
        try:
            await _provision(client, operator, run, requests)
            await _measure(cluster, client, operator, run, requests)
            await _steady(cluster, operator, run, requests, steady_seconds)
            model = await model_of(client, run.writes_until_reserved) if floors else Model()
            run.single_latencies = await _single_latencies(client, shape)
            run.rss_peak_mib = peak_rss_mib(operator.pid)
            run.errors = sum(each["level"] in ("error", "critical") for each in operator.records())
        finally:
            operator.stop()
        shutil.rmtree(operator.directory)  # not after a failure: there is the log
        await _cold_start(cluster, client, run, requests, python)
    return run, model


async def _provision(client: PlainClient, operator: OperatorUnderTest, run: OperatorRun, requests: Requests) -> None:
    started = time.monotonic()
    async with progress("claims", operator, lambda: f"{requests.writes(operator.started)['patch nodes']} nodes"):
        await until(lambda: pools_provisioned(client, run.shape), "the pools have their blocks", run.shape)
    run.provisioned_seconds = time.monotonic() - started
    await requests.quiet()
    run.rss_idle_mib = rss_mib(operator.pid)
    report.say(report.provisioned(run))


async def _measure(
    cluster: Cluster, client: PlainClient, operator: OperatorUnderTest, run: OperatorRun, requests: Requests
) -> None:
    places, before, patience = run.shape.places(), turns(operator), run.shape.patience_seconds
    async with Conditions().watched(client) as conditions, progress("instances", operator, lambda: conditions):
        since, meter = datetime.now(UTC), Meter(cluster, operator)
        applied = await apply(client, places)
        await conditions.reached("CapacityReserved", len(places), patience)
        run.reserved, at = meter.used(), datetime.now(UTC)
        run.latencies = sorted(conditions.at["CapacityReserved"][place] - applied[place] for place in places)
        report.say(report.reserved(run))
        await conditions.reached("Ready", len(places), patience)
    await requests.quiet()
    run.settled, run.rss_settled_mib = meter.used(), rss_mib(operator.pid)
    run.reconciles = dict(turns(operator) - before)
    events = list(requests.since(since))
    run.reads = dict(Counter(f"{each.verb} {each.resource}" for each in events if each.verb in ("get", "list")))
    run.refused = dict(Counter(f"{each.verb} {each.resource} {each.code}" for each in events if each.code >= 400))
    run.writes_until_settled = dict(requests.writes(since))
    run.writes_until_reserved = dict(requests.writes(since, at))
    report.say(report.settled(run))


async def _steady(
    cluster: Cluster, operator: OperatorUnderTest, run: OperatorRun, requests: Requests, seconds: float
) -> None:
    meter, since = Meter(cluster, operator), datetime.now(UTC)
    await asyncio.sleep(seconds)
    run.steady, run.steady_writes = meter.used(), dict(requests.writes(since))
    report.say(report.steady(run))


async def _single_latencies(client: PlainClient, shape: Shape) -> list[float]:
    """How long one change waits when nothing else happens: an instance is scaled to none and back, again and again."""
    path = _first_instance(shape)
    found = []
    for _ in range(10):
        await client.call("PATCH", path, {"spec": {"instances": 0}})
        await until(lambda: _held(client, path, 0), "the instance let go", shape)
        await asyncio.sleep(1.0)
        began = time.monotonic()
        await client.call("PATCH", path, {"spec": {"instances": 1}})
        await until(lambda: _held(client, path, 1), "the instance has its blocks", shape, pause_seconds=0.005)
        found.append(time.monotonic() - began)
    return found


async def _cold_start(
    cluster: Cluster, client: PlainClient, run: OperatorRun, requests: Requests, python: Sequence[str]
) -> None:
    """The operator starts anew over everything, with one thing to decide: an instance shall let go of its blocks."""
    await client.call("PATCH", _first_instance(run.shape), {"spec": {"instances": 0}})
    operator = OperatorUnderTest.start(cluster, python)

    async def decided() -> bool:
        return requests.first_write(operator.started) is not None

    async def looked_at_all() -> bool:
        return turns(operator)["instance ok"] >= run.shape.instances

    try:
        async with progress("cold start", operator, lambda: f"{turns(operator).total()} turns"):
            await until(decided, "the first decision", run.shape)
            cpu, rss = cpu_seconds(operator.pid), peak_rss_mib(operator.pid)
            await until(looked_at_all, "every instance has been looked at", run.shape, pause_seconds=2.0)
        await requests.quiet()
        first, synced = requests.first_write(operator.started), moment(operator, "synced")
        assert first is not None
        assert synced is not None
        run.cold_start = ColdStart(
            synced_seconds=(synced - operator.started).total_seconds(),
            decided_seconds=(first - operator.started).total_seconds(),
            decided_cpu_seconds=cpu,
            decided_rss_mib=rss,
            done_cpu_seconds=cpu_seconds(operator.pid),
            done_rss_mib=rss_mib(operator.pid),
            peak_rss_mib=peak_rss_mib(operator.pid),
            writes=dict(requests.writes(operator.started)),
        )
        report.say(report.cold_start(run))
    finally:
        operator.stop()
    shutil.rmtree(operator.directory)


def _first_instance(shape: Shape) -> str:
    namespace, name = shape.places()[0]
    return f"{OURS}/namespaces/{namespace}/modelinstances/{name}"


async def _held(client: PlainClient, path: str, count: int) -> bool:
    status = (await client.call("GET", path)).get("status") or {}
    return bool(status.get("instances", {}).get("held") == count and status.get("computeUnits") == count * CU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--pools", type=int, default=10, help="at least; a pool has no more than 1,000 members")
    parser.add_argument("--instances", type=int, nargs="+", default=[100, 1000], help="one run for each number")
    parser.add_argument("--floors", nargs="*", choices=("same", "lean"), default=["same", "lean"])
    parser.add_argument("--steady-seconds", type=float, default=STEADY_SECONDS)
    parser.add_argument("--python", default="", help="arguments of the operator's interpreter, to profile it")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the clusters are stopped then, too
    results = []
    for instances in given.instances:
        shape = Shape.of(given.nodes, given.pools, instances)
        with fresh_cluster() as cluster:
            run, model = asyncio.run(
                run_operator(
                    cluster,
                    shape,
                    given.python.split(),
                    steady_seconds=given.steady_seconds,
                    floors=bool(given.floors),
                )
            )
        floors = {}
        for name in given.floors:
            with fresh_cluster() as cluster:
                floors[name] = asyncio.run(run_floor(cluster, shape, model, lean=name == "lean"))
        results.append(report.figures(run, floors))
        report.say("\n" + report.table(results[-1]) + "\n")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

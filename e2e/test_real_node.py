"""Real traffic: a model is served by a real kubelet on real containers, and its customer streams from it without a break.

The operator comes from the chart and its own image, and runs on a node like everybody else. Nothing here is played: the
server is llama.cpp, its snapshots are image volumes by digest, and a request goes through the Service.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.cluster.lifecycle import Cluster
from e2e.node import nodes
from e2e.node.image.catalogue import NEW, OLD
from e2e.node.nodes import Plan
from e2e.node.packages import NotFetched
from e2e.tools.binaries import HELM
from e2e.tools.helm import Helm
from e2e.tools.install import Installation
from e2e.traffic import Market, Traffic

pytestmark = pytest.mark.cluster

NODES = (Plan("system"), Plan("gpu-a", gpus=2), Plan("gpu-b", gpus=2))
REQUESTS = 2000


@pytest.fixture(scope="module")
def allowed(cluster: Cluster) -> Cluster:
    """The cluster, where the machine allows real nodes."""
    if against := nodes.objection(cluster):
        pytest.skip(f"no real node: {against}")
    return cluster


def test_of_a_node_nothing_is_left_when_what_it_is_for_fails(allowed: Cluster) -> None:
    # Before the others: two sets of nodes at a time would share their account and their way to the API server.
    def traces() -> dict[str, set[str]]:
        """What a node could leave on this machine."""
        return {
            "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
            "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
            "groups": {str(path) for path in Path("/sys/fs/cgroup").glob("*/reserved-capacity-*")},
            "directories": {str(path) for path in Path(tempfile.gettempdir()).glob("rc-nodes-*")},
        }

    before, ours, root = traces(), [], ""
    with contextlib.suppress(ZeroDivisionError), nodes.started(allowed, [Plan("lonely")]) as running:
        root = str(running.state.root)
        ours = _processes_with(root)
        raise ZeroDivisionError
    assert len(ours) >= 3, "the network, the node and what runs on it"
    assert _processes_with(root) == []
    assert traces() == before
    assert allowed.kubectl("get", "node", "lonely", check=False).returncode != 0


@pytest.fixture(scope="module")
def market(allowed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Two nodes with two GPUs each and one for the others; the operator of the chart; a model for sale."""
    cluster = allowed
    helm = Helm(HELM.binary(), tmp_path_factory.mktemp("helm"), cluster.kubeconfig)
    Installation(cluster, helm, tmp_path_factory.mktemp("before")).purge()
    with ExitStack() as stack:
        try:
            running = stack.enter_context(nodes.started(cluster, NODES))
        except NotFetched as error:
            pytest.skip(f"no real node: {error}")
        market = Market(cluster, running, helm, tmp_path_factory.mktemp("market"))
        stack.callback(market.close)
        market.open()
        yield market


@pytest.fixture(scope="module")
def traffic(market: Market) -> Iterator[Traffic]:
    """The customer's client, which asks from the first moment of these tests to the last."""
    market.buy(300)
    market.serve(OLD.name, instances=2)
    market.sees("Ready", "True", "Ready")
    client = Traffic(market)
    client.start(workers=6)
    yield client
    client.stop()


def test_the_operator_of_the_chart_serves_a_model_on_real_nodes(market: Market, traffic: Traffic) -> None:
    assert market.snapshots() == {OLD.name}
    assert market.endpoint() == f"http://{market.instance}.{market.namespace}.svc:8000/v1"
    traffic.until_answered(200)
    assert traffic.failed() == []
    assert {each["snapshot"] for each in traffic.answers()} == {OLD.name}


def test_a_surge_moves_every_member_and_no_request_fails(market: Market, traffic: Traffic) -> None:
    assert market.snapshots() == {OLD.name}
    _move_under_load(market, traffic, NEW.name)
    # S3: the kubelet had mounted the new artifact and the server's image, and the Job was over, before any member ended.
    pulled, ended = market.happened("Job", "Completed"), market.happened("Pod", "Killing")
    assert pulled[0] <= ended[0], (pulled, ended)
    report = market.status()["upgradeReport"]
    assert (report["from"], report["to"], report["result"]) == (OLD.name, NEW.name, "Done")
    # The new model is a third of the old one: the operator has read that off the servers' own counters.
    assert float(report["throughputRatio"]) > 1, report
    assert report["unavailableSeconds"] == 0, report
    print(f"throughput per compute unit: {report['throughputRatio']} times the old one's")


def test_the_way_back_under_the_same_load_fails_no_request_either(market: Market, traffic: Traffic) -> None:
    assert market.snapshots() == {NEW.name}
    _move_under_load(market, traffic, OLD.name)


def _processes_with(word: str) -> list[str]:
    """Those that name it in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word in path.read_text(errors="replace"):
                found.append(path.parent.name)
    return found


def _move_under_load(market: Market, traffic: Traffic, snapshot: str) -> None:
    """From before the first member is touched until after the last one's pod is gone."""
    began = time.time()
    traffic.until_answered(100, began)
    market.serve(snapshot, instances=2)
    market.sees("UpToDate", "True", "UpToDate")
    market.sees("Ready", "True", "Ready")
    market.until_pods_are(2)
    traffic.until_answered(REQUESTS, began)
    traffic.until_answered(100, time.time())
    assert traffic.failed(began) == []
    print(f"{len(traffic.answers(began))} requests answered in {time.time() - began:.0f} s, none failed")
    answered = {each["snapshot"] for each in traffic.answers(time.time() - 1)}
    assert answered <= {snapshot}
    assert market.snapshots() == {snapshot}

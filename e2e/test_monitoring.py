"""What a scrape of the real operator says, and what a real Prometheus with our rules makes of it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from e2e.cluster import nodes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.teardown import remove_namespaces
from e2e.operator import OperatorProcess
from e2e.prometheus import serving
from e2e.test_main_job import CHECKOUT, CUSTOMER, get, says
from e2e.waiting import until
from tests.unit.monitoring import prometheus
from tests.unit.monitoring.prometheus import Prometheus

KINDS = "acceleratorclasses,modelofferings,pricebooks,computeunitpools,modelinstances,tokenunitreservations"
Series = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def tools() -> Prometheus:
    return prometheus.find()


@pytest.fixture(scope="module")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The main job of the samples: a pool of 600 CU, `chat` serving on all of it, and `fast`, which waits."""
    cluster.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "manifests/install"))
    process = OperatorProcess(cluster, tmp_path_factory.mktemp("monitoring"))
    process.start()
    # Offerings stay from one file to the next: some are edited with `kubectl patch`, and those of a class that is gone are
    # what an alert is for.
    catalogue = ("delete", "acceleratorclasses,modelofferings,pricebooks", "--all")
    until(lambda: cluster.kubectl(*catalogue, check=False).returncode == 0, "nothing of others is left")
    nodes.apply(cluster.kubectl, nodes.gpu_nodes(2, "z1"))
    samples = ("apply", "--server-side", "--force-conflicts", "-k", str(CHECKOUT / "manifests/samples"))
    until(
        lambda: cluster.kubectl(*samples, check=False).returncode == 0,
        lambda: f"the samples are taken: {cluster.kubectl(*samples, check=False).stderr}",
    )
    says(cluster, "chat", "Ready", "True", "Ready")
    cluster.kubectl("apply", "--server-side", "-f", str(CUSTOMER / "fast.yaml"))
    says(cluster, "fast", "CapacityReserved", "False", "WaitingForComputeUnits")
    yield process
    if not process.is_running():
        process.start()
    remove_namespaces(cluster.kubectl, "acme")
    until(lambda: cluster.kubectl(*catalogue, check=False).returncode == 0, "the operator sees that nothing is in use")
    process.end()
    cluster.kubectl("delete", "nodes", "--all")


def metrics_port(operator: OperatorProcess) -> int:
    """Of the process that runs now: the log is of all that ran."""
    listening = [
        each for each in operator.records("info") if each["event"] == "listening" and each["what"] == "metrics"
    ]
    return int(str(listening[-1]["port"]))


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def scrape(operator: OperatorProcess) -> str:
    return fetch(metrics_port(operator), "/metrics")


def series(text: str, name: str, *labels: str) -> Series:
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"reservedcapacity_{name}"
    }


def shown(operator: OperatorProcess) -> dict[str, Series]:
    """What one scrape says of our objects."""
    text = scrape(operator)
    return {
        "pools": series(text, "pool_compute_units", "namespace", "pool", "state"),
        "overdue": series(text, "pool_overdue_compute_units", "namespace", "pool"),
        "classes": series(text, "class_compute_units", "class", "state"),
        "members": series(text, "instance_members", "namespace", "instance", "state"),
        "info": series(text, "instance_info", "namespace", "instance", "pool", "offering"),
        "conditions": series(text, "condition", "kind", "namespace", "name", "type", "status", "reason"),
    }


def written(cluster: Cluster) -> dict[str, Series]:
    """The same, from the objects themselves."""
    found: dict[str, Series] = {
        "pools": {},
        "overdue": {("acme", "prod"): 0},
        "classes": {},
        "members": {},
        "info": {},
        "conditions": {},
    }
    for obj in get(cluster, KINDS, "-A")["items"]:
        kind, name, status = obj["kind"], obj["metadata"]["name"], obj.get("status", {})
        namespace = obj["metadata"].get("namespace", "")
        for each in status.get("conditions", []):
            found["conditions"][kind, namespace, name, each["type"], each["status"], each["reason"]] = 1
        match kind:
            case "ComputeUnitPool":
                units = {state: value for state, value in status["computeUnits"].items() if state != "surge"}
                found["pools"] |= {(namespace, name, state): value for state, value in units.items()}
            case "AcceleratorClass":
                found["classes"] |= {(name, state): value for state, value in status["computeUnits"].items()}
            case "ModelInstance":
                found["members"] |= {(namespace, name, state): value for state, value in status["instances"].items()}
                found["info"][namespace, name, obj["spec"]["poolRef"], obj["spec"]["offering"]] = 1
    return found


def test_a_scrape_says_what_the_statuses_say(operator: OperatorProcess) -> None:
    until(lambda: shown(operator) == written(operator.cluster), "the scrape and the statuses agree")
    seen = shown(operator)
    assert seen["pools"]["acme", "prod", "allocated"] == 600
    assert seen["classes"]["h100-8", "claimed"] == 600
    assert seen["members"]["acme", "chat", "available"] == 2
    assert seen["members"]["acme", "fast", "held"] == 0
    assert ("ModelInstance", "acme", "fast", "Ready", "False", "WaitingForComputeUnits") in seen["conditions"]
    assert len(seen["conditions"]) > 20


def test_what_is_deleted_is_gone_from_the_next_scrape_on(operator: OperatorProcess) -> None:
    cluster = operator.cluster
    extra = json.loads(cluster.kubectl("get", "mi", "fast", "-n", "acme", "-o", "json").stdout)
    extra = {key: extra[key] for key in ("apiVersion", "kind", "spec")} | {
        "metadata": {"name": "extra", "namespace": "acme"}
    }
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(extra))
    until(lambda: 'name="extra"' in scrape(operator), "it is there")
    cluster.kubectl("delete", "mi", "extra", "-n", "acme")
    until(lambda: '"extra"' not in scrape(operator), "it is gone")


def test_a_scrape_is_as_prometheus_wants_it_and_shows_the_work_that_was_done(
    operator: OperatorProcess, tools: Prometheus
) -> None:
    text = scrape(operator)
    assert tools.check("check", "metrics", given=text) == (0, "")
    assert series(text, "leader") == {(): 1}
    ages = series(text, "watch_age_seconds", "kind")
    assert len(ages) > 10
    assert max(ages.values()) < 90
    writes = series(text, "api_writes_total", "verb", "kind", "code")
    assert writes["create", "StatefulSet", "201"] == 2
    assert not [code for _, _, code in writes if not code.startswith(("2", "409", "404"))]
    turns = series(text, "reconcile_seconds_count", "reconciler", "outcome")
    assert turns["pool", "ok"] > 0
    assert not [key for key in turns if key[1] == "error"]


@dataclass(frozen=True)
class Server:
    """A Prometheus with our rules, whose alerts wait for nothing."""

    port: int

    def alerts(self) -> dict[str, dict[str, Any]]:
        """The firing ones by name; of several of one name any."""
        found = self._data("/api/v1/alerts").get("alerts", ())
        return {each["labels"]["alertname"]: each for each in found if each["state"] == "firing"}

    def raises(self, *names: str) -> None:
        """Wait until these alerts fire and no others. A scrape that was slow or came too early passes, and is told of if
        it does not."""
        until(lambda: self.alerts().keys() == set(names), lambda: f"{sorted(names)} fire: {self._told()}")

    def _told(self) -> str:
        """For whoever has to find out why."""
        alerts = {name: each["annotations"]["description"] for name, each in self.alerts().items()}
        targets = [
            {key: each[key] for key in ("health", "lastError", "lastScrape", "lastScrapeDuration")}
            for each in self._data("/api/v1/targets").get("activeTargets", ())
        ]
        leads = self._data("/api/v1/query?query=reservedcapacity_leader").get("result")
        return f"firing: {alerts}; scraped: {targets}; leader: {leads}"

    def _data(self, path: str) -> dict[str, Any]:
        """Nothing where it does not answer in time."""
        try:
            data: dict[str, Any] = json.loads(fetch(self.port, path))["data"]
        except OSError:
            return {}
        return data


@pytest.fixture
def server(operator: OperatorProcess, tools: Prometheus, tmp_path: Path) -> Iterator[Server]:
    """As the page tells how to scrape: honor_labels."""
    rule = yaml.safe_load((CHECKOUT / "manifests/monitoring/alerts.yaml").read_text())
    for group in rule["spec"]["groups"]:
        for each in group["rules"]:
            each["for"] = "0s"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    scraped = {
        "job_name": "reserved-capacity",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{metrics_port(operator)}"]}],
    }
    # A scrape may take as long as the interval, and longer than a second on a machine with other work: one that fails is an
    # operator that is down, to whom the alerts wait for nothing.
    times = {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "1s"}
    config = {"global": times, "rule_files": ["rules.yaml"], "scrape_configs": [scraped]}
    with serving(tools.prometheus, tmp_path, config) as url:
        yield Server(int(url.rpartition(":")[2]))


def test_a_real_prometheus_raises_what_is_wrong_and_nothing_else(operator: OperatorProcess, server: Server) -> None:
    server.raises("ReservedCapacityInstanceWaiting")
    waiting = server.alerts()["ReservedCapacityInstanceWaiting"]
    assert waiting["labels"] == {
        "alertname": "ReservedCapacityInstanceWaiting",
        "severity": "warning",
        "namespace": "acme",
        "instance": "fast",
        "pool": "prod",
    }
    assert waiting["annotations"]["description"] == (
        "Need 1 instances, have 0 with compute units (WaitingForComputeUnits); pool prod has 0 CU idle. Next: `kubectl "
        "reserved why mi/fast -n acme`."
    )
    operator.stop()
    server.raises("ReservedCapacityOperatorDown")

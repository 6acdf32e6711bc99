"""What a reservation says of its use, by the whole way: server, Envoy, Prometheus, operator, status (T3; ADR 0052)."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e import prometheus
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.ports import free_port
from e2e.gateway.asking import Customer, have_time
from e2e.gateway.bootstrap import Offering
from e2e.gateway.install import programs
from e2e.gateway.running import ENVOY, Gateway
from e2e.operator import NAMESPACE, OperatorProcess, service_account_kubeconfig
from e2e.test_main_job import CHECKOUT, capacity
from e2e.test_tokens import PLUGIN, TOKENS, effective, sold, status
from e2e.waiting import until
from tests.unit.monitoring import prometheus as tools

__all__ = ["capacity", "sold"]

GPT = "gpt-4.1"
BASE = {"inputTokensPerMinute": 600, "outputTokensPerMinute": 200}
ENTITLED_AN_HOUR = {"input": 3 * 10 * 60, "output": 4 * 5 * 60}
"""Units so small that four digits of a ratio tell every token."""


@dataclass(frozen=True)
class Stage:
    cluster: Cluster
    gateway: Gateway
    operator: OperatorProcess
    prometheus_url: str

    def scraped(self) -> int:
        """Tokens of all directions that Prometheus has heard of."""
        return self.heard_of('sum(envoy_reserved_capacity_tokens{direction=~"input|output"})')

    def heard_of(self, what: str) -> int:
        query = urllib.parse.urlencode({"query": what})
        with urllib.request.urlopen(f"{self.prometheus_url}/api/v1/query?{query}", timeout=5) as answer:  # noqa: S310 - our own Prometheus
            found = json.load(answer)["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    def server_counters(self) -> dict[str, int]:
        return self.gateway.counted_by_server(self.gateway.offerings[0].port)

    def usage(self) -> dict[str, Any]:
        found: dict[str, Any] = status(self.cluster).get("usage", {})
        return found

    def used(self) -> dict[str, int]:
        """Tokens, from the ratios in the status."""
        usage = self.usage()
        return {
            direction: round(float(usage.get(f"{direction}Utilization", 0)) * an_hour)
            for direction, an_hour in ENTITLED_AN_HOUR.items()
        }


@pytest.fixture
def stage(sold: Cluster, tmp_path: Path) -> Iterator[Stage]:
    for part in ("install", "gateway"):
        sold.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "manifests" / part))
    small = [
        {"op": "replace", "path": "/spec/tokenUnits/baseRateLimits", "value": [{"account": "*", **BASE}]},
        {"op": "replace", "path": "/spec/tokenUnits/input/tokensPerMinute", "value": 10},
        {"op": "replace", "path": "/spec/tokenUnits/output/tokensPerMinute", "value": 5},
    ]
    sold.kubectl("patch", "modeloffering", GPT, "--type=json", "-p", json.dumps(small))
    sold.kubectl("apply", "--server-side", "-k", str(TOKENS))
    rights = service_account_kubeconfig(sold, tmp_path / "kubeconfig", NAMESPACE, "reserved-capacity-gateway")
    gateway = Gateway(programs(), tmp_path / "gateway", (Offering(GPT, free_port()),), ("acme",), rights, NAMESPACE)
    targets = tmp_path / "envoy.json"
    scraped = {
        "job_name": "envoy",
        "metrics_path": "/stats/prometheus",
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
    }
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scraped]}
    with prometheus.serving(tools.find().prometheus, tmp_path, config) as url:
        operator = OperatorProcess(sold, tmp_path, [f"--prometheus-url={url}"])
        operator.start()
        try:
            until(lambda: status(sold) and effective(sold) == (630, 220), "the units count")
            gateway.start()
            targets.write_text(json.dumps([{"targets": [f"127.0.0.1:{gateway.ports['admin']}"]}]))
            stage = Stage(sold, gateway, operator, url)
            # By which it is told from the one that comes after it; Envoy says it with its first flush, after five seconds.
            until(lambda: stage.heard_of("envoy_server_uptime") > 0, "Prometheus knows how long Envoy has been up")
            yield stage
        finally:
            gateway.stop()
            operator.end()
            sold.kubectl("delete", "-k", str(CHECKOUT / "manifests/gateway"), "--ignore-not-found")


def test_t3_use_in_the_status_is_what_the_server_counted_though_envoy_was_killed(stage: Stage) -> None:
    """One `kill -9` of Envoy and two counters that begin with their first request, all within a minute."""
    before, customer = stage.server_counters(), Customer(stage.gateway.ports["gateway"], GPT, "acme")
    have_time(45)
    began = datetime.now(UTC)
    answers = [customer.ask(stream=stream) for stream in (False, True)]
    first = sum(each.input_tokens + each.output_tokens for each in answers)
    until(lambda: stage.scraped() == first, "Prometheus has it: what nobody scraped is gone with its Envoy")
    stage.gateway.kill(ENVOY)
    stage.gateway.start_part(ENVOY)
    answers.append(customer.ask(tokens=5))
    # A counter that has passed its old value before anybody looks shows no reset, and nobody can tell what was lost.
    alone = answers[-1].input_tokens + answers[-1].output_tokens
    until(lambda: stage.scraped() == alone, "Prometheus has seen that Envoy began anew")
    while answers[-1].served:
        answers.append(customer.ask())
    after = stage.server_counters()
    counted = {direction: after[direction] - before[direction] for direction in after}
    assert counted == {
        "input": sum(each.input_tokens for each in answers),
        "output": sum(each.output_tokens for each in answers),
    }

    # Counters are asked for one after the other, and a scrape may come between: the next look, a minute later, has all of it.
    requests = (sum(each.spilled for each in answers), 1)
    until(
        lambda: (
            stage.used() == counted
            and (stage.usage()["spilledRequests"], stage.usage()["rejectedRequests"]) == requests
        ),
        lambda: f"the status says {counted} and {requests}, but {stage.usage()} {stage.scraped()}",
        240,
    )
    usage = stage.usage()
    assert usage["window"] == "1h"
    assert usage["peakMinute"] == began.strftime("%Y-%m-%dT%H:%M:00Z")
    environment = {**os.environ, "KUBECONFIG": str(stage.cluster.kubeconfig)}
    shown = subprocess.run(
        [str(PLUGIN), "status", "-n", "acme"], env=environment, capture_output=True, text=True, check=True
    )
    assert "used of these units, last 1h" in shown.stdout
    assert "1 answered with 429" in shown.stdout
    assert stage.operator.records("error", "critical") == []

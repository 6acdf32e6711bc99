"""Token units on the real Envoy Gateway: its control plane answers for the operator's policy, and translates it into what a
real Envoy and the rate-limit service hold customers to, with real token counts (behaviour.md T3, ADR 0053, 0073)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.lifecycle import Cluster
from e2e.cluster.ports import free_port
from e2e.envoygateway.documents import GATEWAY, NAMESPACE, SYSTEM, before_it_starts, documents
from e2e.envoygateway.running import CONTROL_PLANE, EnvoyGateway, alone
from e2e.gateway.asking import Customer, in_one_minute
from e2e.gateway.bootstrap import Offering
from e2e.gateway.install import programs
from e2e.gateway.running import ENVOY
from e2e.operator import OperatorProcess
from e2e.test_gateway import ask_until_refused, used
from e2e.test_main_job import capacity, condition, get
from e2e.test_tokens import TOKENS, effective, offset, says, sold
from e2e.tools import envoy_gateway
from e2e.waiting import until

__all__ = ["capacity", "offset", "sold"]

GPT = "gpt-4.1"
POLICY = "limits-gpt-4.1"
ROUTE = f"reservedcapacity.io/http-route={NAMESPACE}/{GPT}"
SMALL = {
    "baseRateLimits": [{"account": "*", "inputTokensPerMinute": 400, "outputTokensPerMinute": 400}],
    "input": {"tokensPerMinute": 300},
    "output": {"tokensPerMinute": 500},
}
"""In place of the price list's: three units and the base are 1,300 tokens, which a small model has soon counted."""


@pytest.fixture
def installed(sold: Cluster) -> Iterator[Cluster]:
    """The CRDs, served."""
    sold.kubectl("apply", "--server-side", "-f", "-", input=envoy_gateway.crds())
    kinds = (envoy_gateway.CRD, "httproutes", "envoypatchpolicies")
    until(
        lambda: all(sold.kubectl("get", each, "-A", check=False).returncode == 0 for each in kinds), "they are served"
    )
    applied(sold, before_it_starts())
    yield sold
    # Envoy Gateway holds on to its class while there is a Gateway of it; now nobody is there to let go.
    sold.kubectl(
        "patch", "gatewayclass", GATEWAY, "--type=merge", "-p", '{"metadata": {"finalizers": null}}', check=False
    )
    sold.kubectl("delete", "namespace", NAMESPACE, SYSTEM, "--ignore-not-found", "--timeout=60s")
    sold.kubectl("delete", "--ignore-not-found", "--timeout=60s", "-f", "-", input=envoy_gateway.crds())


def applied(cluster: Cluster, documents: list[dict[str, Any]]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": documents}
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))


@pytest.fixture
def gateway(installed: Cluster, tmp_path: Path) -> Iterator[EnvoyGateway]:
    offering = Offering(GPT, free_port())
    with alone():
        running = EnvoyGateway(
            cluster=installed,
            programs=programs(),
            directory=tmp_path / "gateway",
            offerings=(offering,),
            accounts=("acme", "beta"),
            kubeconfig=installed.kubeconfig,
            namespace="",
        )
        try:
            running.start()
            applied(installed, documents(GPT, running.ports, offering.port, running.accounts))
            running.start_part(ENVOY)
            yield running
        finally:
            running.stop()


@pytest.fixture
def operator(installed: Cluster, tmp_path: Path, offset: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(installed, tmp_path, ["--development", f"--clock-offset-file={offset}"])
    process.start()
    yield process
    process.end()


def test_t3_the_real_envoy_gateway_accepts_the_policy_and_holds_customers_to_base_and_units(
    installed: Cluster, gateway: EnvoyGateway, operator: OperatorProcess
) -> None:
    installed.kubectl("patch", "modeloffering", GPT, "--type=merge", "-p", json.dumps({"spec": {"tokenUnits": SMALL}}))
    installed.kubectl("apply", "--server-side", "-k", str(TOKENS))
    a_route_that_has_another_policy_is_told(installed)
    assert "accepted by eg" in says(installed, "LimitPublished", "True", "AcceptedByGateway")
    until(lambda: effective(installed) == (1_300, 2_400), "the units are bought")
    until(lambda: sold_numbers(gateway) >= {399, 1_299, 2_399}, "the rate-limit service has the numbers that were sold")

    acme = Customer(gateway.ports["gateway"], GPT, "acme")
    until(lambda: acme.ask(tokens=1).served, "the way to the server is there")
    a_minute_holds_what_was_bought(gateway)
    a_refusal_is_told_with_the_words_of_the_gateway(installed, gateway, acme)
    assert operator.records("error", "critical") == []


@in_one_minute(25)
def a_minute_holds_what_was_bought(gateway: EnvoyGateway) -> None:
    acme, beta = (Customer(gateway.ports["gateway"], GPT, account) for account in gateway.accounts)
    with_units, without = (ask_until_refused(each, "x" * 60, 5) for each in (acme, beta))
    most = max(each.input_tokens for each in with_units)
    assert 1_300 - most <= used(with_units)[0] < 1_300 + 2 * most, "less by what was asked before"
    assert 400 <= used(without)[0] < 400 + 2 * most
    for refused in (with_units[-1], without[-1]):
        assert refused.status == 429
        assert 0 < int(refused.headers["x-ratelimit-reset"]) <= 60
    nobody_gets_in_without_a_key_or_as_somebody_else(gateway)


def a_route_that_has_another_policy_is_told(cluster: Cluster) -> None:
    """Of two the older one counts."""
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": GPT}
    spec = {"targetRefs": [target], "timeout": {"http": {"requestTimeout": "60s"}}}
    kind, name = "BackendTrafficPolicy", "before"
    metadata = {"name": name, "namespace": NAMESPACE}
    applied(
        cluster, [{"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}]
    )
    until(lambda: get(cluster, kind, name, "-n", NAMESPACE).get("status"), "it is in force")
    cluster.kubectl("annotate", "modeloffering", GPT, ROUTE)
    is_refused(cluster, "eg: Conflicted:")
    cluster.kubectl("delete", kind, name, "-n", NAMESPACE)


def is_refused(cluster: Cluster, words: str) -> None:
    def told() -> tuple[str, str, str]:
        return condition(cluster, "tur", "gpt-41", "LimitPublished")

    def is_told() -> bool:
        status, reason, message = told()
        return (status, reason) == ("False", "GatewayRejected") and words in message

    until(is_told, lambda: f"refused with {words!r}, but {told()}")


def sold_numbers(gateway: EnvoyGateway) -> set[int]:
    """The limits that the rate-limit service goes by: each is one less than what may be used (ADR 0050)."""
    lines = gateway.page(gateway.ports["debug"], "/rlconfig").splitlines()
    return {int(line.partition("requests_per_unit=")[2].split(",")[0]) for line in lines if "requests_per_unit" in line}


def nobody_gets_in_without_a_key_or_as_somebody_else(gateway: EnvoyGateway) -> None:
    beta = Customer(gateway.ports["gateway"], GPT, "beta")
    assert beta.send({}, Authorization="Bearer wrong").status == 401
    assert beta.ask().status == 429, "its own minute is used up"
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
    assert beta.send(body, **{"X-Reserved-Capacity-Account": "carol"}).status == 429, (
        "and stays so under another's name"
    )


def a_refusal_is_told_with_the_words_of_the_gateway(cluster: Cluster, gateway: EnvoyGateway, acme: Customer) -> None:
    """Somebody takes the rate limits out of Envoy Gateway's own configuration, and puts them back."""
    gateway.kill(CONTROL_PLANE)
    gateway.start_control_plane(rate_limit=False)
    is_refused(cluster, "enable Ratelimit in the EnvoyGateway config")
    until(lambda: acme.ask(tokens=1).status == 500, "Envoy Gateway answers for a route whose policy it refuses")
    gateway.kill(CONTROL_PLANE)
    gateway.start_control_plane()
    says(cluster, "LimitPublished", "True", "AcceptedByGateway")
    until(lambda: acme.ask(tokens=1).status in (200, 429), "the route is back")

"""Limits as a BackendTrafficPolicy on a real API server with Envoy Gateway's own CRD (behaviour.md T3, ADR 0053).

Envoy Gateway itself does not run here: the test says what it would. With the real one: `test_envoy_gateway`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import audit
from e2e.cluster.lifecycle import Cluster
from e2e.operator import USER, OperatorProcess
from e2e.test_main_job import capacity, get
from e2e.test_tokens import TOKENS, entitled, offset, says, sold
from e2e.tools import envoy_gateway, rights
from e2e.waiting import until
from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import AccountLimit, ActiveUnits, Enforcement, Overflow
from reserved_capacity.domain.tokens.lots import ReservationName
from reserved_capacity.gateway.policy import MAX_RULES, Route, policy_spec

__all__ = ["capacity", "offset", "sold"]

ROUTE = "reservedcapacity.io/http-route"
POLICY = "limits-gpt-4.1"


@pytest.fixture
def gateway(sold: Cluster) -> Iterator[Cluster]:
    """The CRD, and the namespace of the route."""
    sold.kubectl("apply", "--server-side", "-f", "-", input=envoy_gateway.crd())
    until(lambda: sold.kubectl("get", envoy_gateway.CRD, "-A", check=False).returncode == 0, "the kind is served")
    sold.kubectl("create", "namespace", "models")
    yield sold
    sold.kubectl("delete", "namespace", "models", "--timeout=60s")
    sold.kubectl("delete", "crd", envoy_gateway.CRD, "--ignore-not-found", "--timeout=60s")


@pytest.fixture
def operator(gateway: Cluster, tmp_path: Path, offset: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(gateway, tmp_path, ["--development", f"--clock-offset-file={offset}"])
    process.start()
    yield process
    process.end()


def policies(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(cluster, "backendtrafficpolicies", "-A")["items"]
    return found


def held(cluster: Cluster) -> dict[str, list[int]]:
    """What the policy holds, by the account that its rules name."""
    found: dict[str, list[int]] = {}
    for policy in policies(cluster):
        for rule in policy["spec"]["rateLimit"]["global"]["rules"]:
            (header, *_) = rule["clientSelectors"][0]["headers"]
            account = header["value"] if header["type"] == "Exact" else header["type"]
            found.setdefault(account, []).append(rule["limit"]["requests"])
    return found


def answer(cluster: Cluster, status: str, reason: str, message: str) -> int:
    """Envoy Gateway says this of the policy as it is now; its generation."""
    generation = int(get(cluster, "backendtrafficpolicy", POLICY, "-n", "models")["metadata"]["generation"])
    told = {
        "type": "Accepted",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    ancestor = {
        "ancestorRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "models", "name": "eg"},
        "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
        "conditions": [told],
    }
    merge = json.dumps({"status": {"ancestors": [ancestor]}})
    cluster.kubectl(
        "patch", "backendtrafficpolicy", POLICY, "-n", "models", "--subresource=status", "--type=merge", "-p", merge
    )
    return generation


def test_t3_the_policy_is_written_refused_accepted_and_taken_away_and_every_right_to_it_is_used(
    gateway: Cluster, operator: OperatorProcess
) -> None:
    began = datetime.now(UTC)
    gateway.kubectl("annotate", "modeloffering", "gpt-4.1", f"{ROUTE}=models/gpt-41")
    until(lambda: policies(gateway), "the policy is there before anything is bought")
    assert held(gateway) == {"RegularExpression": [0], "Distinct": [499_999, 99_999]}

    gateway.kubectl("apply", "--server-side", "-k", str(TOKENS))
    until(lambda: held(gateway).get("acme") == [589_999, 109_999], "it has the units")
    says(gateway, "LimitPublished", "Unknown", "Publishing")
    assert entitled(gateway) == (0, 0)

    refused = answer(gateway, "False", "Invalid", "the rate limit is not configured")
    message = says(gateway, "LimitPublished", "False", "GatewayRejected")
    assert "eg: Invalid: the rate limit is not configured" in message
    accepted = answer(gateway, "True", "Accepted", "Policy has been accepted.")
    says(gateway, "LimitPublished", "True", "AcceptedByGateway")
    assert refused == accepted, "what the API server fills in is no difference: it was not written again"
    until(lambda: entitled(gateway) == (90_000, 10_000), "it counts")

    gateway.kubectl("annotate", "modeloffering", "gpt-4.1", f"{ROUTE}-")
    until(lambda: not policies(gateway), "without a route there is no policy")
    says(gateway, "LimitPublished", "True", "Published")
    every_right_is_used(gateway, began)
    without_envoy_gateway_a_route_is_no_fault(gateway, began)
    assert operator.records("error", "critical") == []


def every_right_is_used(cluster: Cluster, began: datetime) -> None:
    if cluster.audit_log is None:
        pytest.skip("this cluster has no audit log to read")
    log = cluster.audit_log
    granted = {
        right
        for right in rights.granted(get(cluster, "clusterrole", "reserved-capacity-operator")["rules"])
        if right.resource == envoy_gateway.CRD
    }

    def unused() -> set[rights.Right]:
        return granted - rights.used(log, USER, began).used

    until(lambda: not unused(), lambda: f"every verb is used, but not {sorted(map(str, unused()))}")
    assert rights.used(log, USER, began).refused == ()


def without_envoy_gateway_a_route_is_no_fault(cluster: Cluster, began: datetime) -> None:
    log = cluster.audit_log
    assert log is not None
    cluster.kubectl("delete", "crd", envoy_gateway.CRD, "--timeout=60s")
    cluster.kubectl("annotate", "modeloffering", "gpt-4.1", f"{ROUTE}=models/gpt-41")
    looked = ("list", envoy_gateway.CRD, 404)
    until(
        lambda: any((each.verb, each.resource, each.code) == looked for each in audit.events(log, USER, began)),
        "it was looked for",
    )
    says(cluster, "LimitPublished", "True", "Published")


def test_the_largest_policy_is_one_that_the_crd_takes(gateway: Cluster) -> None:
    def limit(number: int) -> AccountLimit:
        name = ReservationName("acme", f"r-{number}")
        enforcement = Enforcement.SHADOW if number % 2 else Enforcement.ENFORCE
        units = ActiveUnits(f"a-{number}", name, "s", TokenRate(2**40, 1), Overflow.SPILL, enforcement)
        return AccountLimit(units.account, TokenRate(), (units,))

    everybody = AccountLimit("*", TokenRate(500_000, 100_000))
    spec = policy_spec(Route("models", "gpt-41", "chat"), [everybody, *map(limit, range(126))])
    assert len(spec["rateLimit"]["global"]["rules"]) == MAX_RULES - 1
    body = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "largest", "namespace": "models"},
        "spec": spec,
    }
    done = gateway.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", input=yaml.safe_dump(body)
    )
    assert json.loads(done.stdout)["spec"] == spec, "nothing is filled in"

"""Nodes on a real control plane: one is lost, one is drained with and without a spare (behaviour.md N1-N3)."""

from __future__ import annotations

import json

import pytest

from e2e.cluster import nodes
from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess
from e2e.test_main_job import capacity, claims, get, holdings, operator, pod_uids, says, serving, until

__all__ = ["capacity", "operator"]

# Nobody waits ten minutes in a test: a node counts as failed when it has been unreachable for five seconds.
IMPATIENT = [{"conditionType": "Ready", "status": status, "after": "5s"} for status in ("False", "Unknown")]


@pytest.fixture
def impatient(capacity: Cluster) -> Cluster:
    patch = json.dumps({"spec": {"repair": IMPATIENT}})
    capacity.kubectl("patch", "acceleratorclass", "h100-8", "--type=merge", "-p", patch)
    return capacity


def taken(cluster: Cluster) -> str:
    return next(name for name, blocks in claims(cluster).items() if blocks)


def test_a_lost_node_is_replaced_and_its_blocks_are_not_used_before_it_is_fenced(
    impatient: Cluster, operator: OperatorProcess
) -> None:
    before = serving(impatient, operator)
    lost = taken(impatient)
    impatient.kubectl("delete", "node", lost)
    # The pod garbage collector waits 40 s before it deletes pods of a node that is gone; only then has it failed.
    until(lambda: all(lost not in blocks for blocks in held_on(impatient).values()), "members leave the lost node", 120)
    says(impatient, "chat", "Ready", "True", "Ready")
    assert not set(before.values()) & set(pod_uids(impatient).values())
    assert [sum(blocks) for blocks in claims(impatient).values()] == [6]
    assert operator.records("error", "critical") == []


def held_on(cluster: Cluster) -> dict[str, list[str]]:
    listed = get(cluster, "cup", "prod", "-n", "acme")["status"].get("holdings", [])
    return {holding["member"]: holding["nodes"] for holding in listed}


def test_drain_says_why_it_waits_on_a_full_pool_and_ends_with_a_spare(
    capacity: Cluster, operator: OperatorProcess
) -> None:
    serving(capacity, operator)
    full = taken(capacity)
    spare = next(name for name in claims(capacity) if name != full)
    capacity.kubectl("delete", "node", spare)
    drain = ("drain", full, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=5s")
    assert capacity.kubectl(*drain, check=False).returncode != 0
    summary = until(
        lambda: text if "has to leave" in (text := summary_of(capacity)) else "", "the instance says why it waits"
    )
    assert f"has to leave {full} and cannot: need 300 CU on another node, have 0 spare" in summary
    assert len(pod_uids(capacity)) == 2

    nodes.apply(capacity.kubectl, nodes.gpu_nodes(3, "z1"))
    capacity.kubectl("drain", full, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
    says(capacity, "chat", "Ready", "True", "Ready")
    assert set(holdings(capacity).values()) == {"Held"}
    until(lambda: not claims(capacity)[full], "the drained node is claimed no more")


def summary_of(cluster: Cluster) -> str:
    return str(get(cluster, "mi", "chat", "-n", "acme")["status"].get("summary", ""))

"""A Node object that goes, on a real control plane (behaviour.md N1, N2); what else befalls nodes: test_capacity_promises.py."""

from __future__ import annotations

import json

import pytest

from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess
from e2e.test_main_job import capacity, claims, get, operator, pod_uids, says, serving
from e2e.waiting import until

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
    until(lambda: all(lost not in blocks for blocks in held_on(impatient).values()), "members leave the lost node", 180)
    says(impatient, "chat", "Ready", "True", "Ready")
    assert not set(before.values()) & set(pod_uids(impatient).values())
    assert [sum(blocks) for blocks in claims(impatient).values()] == [6]
    assert operator.records("error", "critical") == []


def held_on(cluster: Cluster) -> dict[str, list[str]]:
    listed = get(cluster, "cup", "prod", "-n", "acme")["status"].get("holdings", [])
    return {holding["member"]: holding["nodes"] for holding in listed}

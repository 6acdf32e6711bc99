"""The main job on a real API server, with the operator as its own process under its own account (issue 3's "must show")."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import audit, nodes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.teardown import remove_namespaces
from e2e.operator import USER, OperatorProcess
from e2e.waiting import until

CHECKOUT = Path(__file__).parent.parent
CUSTOMER = CHECKOUT / "manifests/samples/customer"
QUIET_SECONDS = 40


@pytest.fixture
def capacity(cluster: Cluster) -> Iterator[Cluster]:
    """Our CRDs, policies and samples, and two nodes of 8 GPUs; everything of it is gone afterwards."""
    cluster.kubectl("apply", "--server-side", "-k", str(CHECKOUT / "manifests/install"))
    nodes.apply(cluster.kubectl, nodes.gpu_nodes(2, "z1"))
    # An offering that was pinned when its operator was stopped cannot be deleted: it is there from the test before.
    samples = ("apply", "--server-side", "--force-conflicts", "-k", str(CHECKOUT / "manifests/samples"))
    until(lambda: cluster.kubectl(*samples, check=False).returncode == 0, "the samples are taken")
    yield cluster
    remove_namespaces(cluster.kubectl, "acme")
    cluster.kubectl("delete", "-k", str(CHECKOUT / "manifests/samples"), "--ignore-not-found", check=False)
    cluster.kubectl("delete", "nodes", "--all")


@pytest.fixture
def operator(capacity: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(capacity, tmp_path)
    process.start()
    yield process
    process.end()


def get(cluster: Cluster, *what: str) -> Any:
    return json.loads(cluster.kubectl("get", *what, "-o", "json").stdout)


def condition(cluster: Cluster, kind: str, name: str, type_: str) -> tuple[str, str, str]:
    status = get(cluster, kind, name, "-n", "acme").get("status", {})
    found = [each for each in status.get("conditions", []) if each["type"] == type_]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")


def says(cluster: Cluster, name: str, type_: str, status: str, reason: str) -> str:
    """Wait until an instance's condition says so; its message."""
    seen = until(
        lambda: found if (found := condition(cluster, "mi", name, type_))[:2] == (status, reason) else None,
        lambda: f"{name}: {type_}={status}/{reason}, but {condition(cluster, 'mi', name, type_)}",
    )
    return str(seen[2])


def pod_uids(cluster: Cluster) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in get(cluster, "pods", "-n", "acme")["items"]}


def claims(cluster: Cluster) -> dict[str, list[int]]:
    return {
        node["metadata"]["name"]: [
            claim["blocks"]
            for claim in json.loads(node["metadata"].get("annotations", {}).get("reservedcapacity.io/claims", "[]"))
        ]
        for node in get(cluster, "nodes")["items"]
    }


def holdings(cluster: Cluster) -> dict[str, str]:
    listed = get(cluster, "cup", "prod", "-n", "acme")["status"].get("holdings", [])
    return {holding["member"]: holding["state"] for holding in listed}


def writes_besides_the_lease(cluster: Cluster, since: datetime) -> dict[tuple[str, str, str], int]:
    assert cluster.audit_log is not None
    counted = audit.count_writes(cluster.audit_log, USER, since)
    return {key: count for key, count in counted.items() if not key[2].startswith("leases")}


def until_writes_end(cluster: Cluster, seconds: float = 5) -> None:
    """Wait until there was no write for so long, so that what is written later is written without a reason."""
    since = datetime.now(UTC)

    def ended() -> bool:
        nonlocal since
        if writes_besides_the_lease(cluster, since):
            since = datetime.now(UTC)
        return (datetime.now(UTC) - since).total_seconds() > seconds

    until(ended, lambda: f"nothing is written: {writes_besides_the_lease(cluster, since)}")


def serving(cluster: Cluster, operator: OperatorProcess) -> dict[str, str]:
    """Wait until two instances serve; their pods."""
    says(cluster, "chat", "Ready", "True", "Ready")
    assert operator.is_running()
    return pod_uids(cluster)


def test_a_pool_is_bought_gets_nodes_and_serves_and_who_waits_says_why(
    capacity: Cluster, operator: OperatorProcess
) -> None:
    before = serving(capacity, operator)
    assert sorted(claims(capacity).values()) == [[], [6]]
    assert holdings(capacity) == {"chat-0": "Held", "chat-1": "Held"}

    capacity.kubectl("apply", "--server-side", "-f", str(CUSTOMER / "fast.yaml"))
    message = says(capacity, "fast", "CapacityReserved", "False", "WaitingForComputeUnits")
    assert "need 100 CU, have 0" in message

    capacity.kubectl("scale", "mi", "chat", "-n", "acme", "--replicas=3")
    says(capacity, "chat", "Ready", "False", "ExceedsPool")
    capacity.kubectl("scale", "mi", "chat", "-n", "acme", "--replicas=1")
    says(capacity, "chat", "Ready", "False", "BelowMinimumInstances")
    assert pod_uids(capacity) == before

    capacity.kubectl("scale", "mi", "chat", "-n", "acme", "--replicas=0")
    says(capacity, "fast", "Ready", "True", "Ready")
    assert holdings(capacity) == {"fast-0": "Held"}
    assert operator.records("error", "critical") == []


def test_nothing_of_ours_or_kopfs_is_in_a_users_spec_annotations_or_finalizers(
    capacity: Cluster, operator: OperatorProcess
) -> None:
    serving(capacity, operator)
    kinds = "acceleratorclasses,modelofferings,pricebooks,computeunitpools,modelinstances"

    def listed() -> list[Any]:
        found = capacity.kubectl("get", kinds, "-A", "-o", "json", "--show-managed-fields")
        items: list[Any] = json.loads(found.stdout)["items"]
        return items

    until(lambda: all("status" in item for item in listed()), "the operator has looked at everything")
    assert len(listed()) > 15
    for item in listed():
        metadata = item["metadata"]
        ours = [fields for fields in metadata["managedFields"] if fields["manager"] == "reserved-capacity"]
        assert ours, f"{metadata['name']} has no status of ours"
        assert all(set(fields["fieldsV1"]) == {"f:status"} for fields in ours)
        assert not metadata.get("finalizers")
        assert not any("kopf" in key for key in metadata.get("annotations", {}))


def test_killed_at_any_moment_and_two_at_once_it_settles_gives_nothing_away_twice_and_is_silent(
    capacity: Cluster, tmp_path: Path
) -> None:
    two = [OperatorProcess(capacity, tmp_path, ["--leader-elect=false"], name) for name in ("one", "two")]
    try:
        for process in two:
            process.start()
        for pause in (0.9, 1.3, 1.7, 2.1, 2.5):
            # At this moment one starts, plans, or writes: whatever it is, it is cut off.
            time.sleep(pause)
            two[0].kill()
            assert all(sum(blocks) <= 8 for blocks in claims(capacity).values())
            two[0].start()
        before = serving(capacity, two[1])

        taken = next(name for name, blocks in claims(capacity).items() if blocks)
        capacity.kubectl("delete", "node", taken)
        nodes.apply(capacity.kubectl, nodes.gpu_nodes(2, "z1"))
        until(lambda: claims(capacity).get(taken) == [6], "the node that came back carries its claim again")
        says(capacity, "chat", "Ready", "True", "Ready")
        assert pod_uids(capacity) == before

        until_writes_end(capacity)
        quiet = datetime.now(UTC)
        time.sleep(QUIET_SECONDS)
        assert writes_besides_the_lease(capacity, quiet) == {}
    finally:
        for process in two:
            process.end()


def test_editing_the_offering_and_restarting_the_operator_change_no_pod(
    capacity: Cluster, operator: OperatorProcess
) -> None:
    before = serving(capacity, operator)
    image = {"spec": {"reserved": {"serving": {"image": "vllm/vllm-openai@sha256:" + "b" * 64}}}}
    capacity.kubectl("patch", "modelofferings", "gpt-4-turbo", "--type=merge", "-p", json.dumps(image))
    assert operator.stop() == 0
    operator.start()
    generation = get(capacity, "modelofferings", "gpt-4-turbo")["metadata"]["generation"]
    until(
        lambda: get(capacity, "modelofferings", "gpt-4-turbo")["status"]["observedGeneration"] == generation,
        "the edit is seen",
    )
    assert pod_uids(capacity) == before


def test_a_deleted_namespace_goes_away_with_a_running_pool_and_its_blocks_are_free_again(
    capacity: Cluster, operator: OperatorProcess
) -> None:
    serving(capacity, operator)
    refused = capacity.kubectl("delete", "cup", "prod", "-n", "acme", check=False)
    assert refused.returncode != 0
    assert "po-10023-1" in refused.stderr
    remove_namespaces(capacity.kubectl, "acme")
    until(lambda: not any(claims(capacity).values()), "the claims are released")


def test_a_running_pool_is_guarded_while_the_operator_is_stopped(capacity: Cluster, operator: OperatorProcess) -> None:
    serving(capacity, operator)
    pinned = ("get", "modeloffering", "gpt-4-turbo", "-o", "jsonpath={.status.referencedBy.instances}")
    until(lambda: capacity.kubectl(*pinned).stdout == "1", "the offering knows who uses it")
    operator.stop()
    for refused in (
        ("delete", "cup", "prod", "-n", "acme"),
        (
            "patch",
            "cup",
            "prod",
            "-n",
            "acme",
            "--type=json",
            "-p",
            '[{"op":"replace","path":"/spec/commitments/0/term","value":"ThreeMonths"}]',
        ),
        ("delete", "crd", "computeunitpools.reservedcapacity.io"),
        ("delete", "modelofferings", "gpt-4-turbo"),
    ):
        answer = capacity.kubectl(*refused, check=False)
        assert answer.returncode != 0, f"{refused} was let through"

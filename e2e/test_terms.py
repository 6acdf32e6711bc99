"""The end of a term on a real control plane, by the development clock: announced, drained, given back (behaviour.md M8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess
from e2e.test_main_job import CUSTOMER, capacity, claims, condition, get, holdings, pod_uids, says
from e2e.waiting import until

__all__ = ["capacity"]

GROWTH: dict[str, Any] = {"id": "po-10023-2", "computeUnits": 100, "term": "ThreeMonths", "provisionBy": "2026-03-01"}


@pytest.fixture
def offset(tmp_path: Path) -> Path:
    path = tmp_path / "offset"
    path.write_text("0")
    return path


@pytest.fixture
def operator(capacity: Cluster, tmp_path: Path, offset: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(capacity, tmp_path, ["--development", f"--clock-offset-file={offset}"])
    process.start()
    yield process
    process.end()


def pool(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = get(cluster, "cup", "prod", "-n", "acme")["status"]
    return found


def record(cluster: Cluster, id_: str) -> dict[str, Any]:
    return next((each for each in pool(cluster).get("commitments", []) if each["id"] == id_), {})


def made(cluster: Cluster, name: str) -> datetime:
    """To the second: who comes within the same one is ordered by its UID."""
    return datetime.fromisoformat(get(cluster, "mi", name, "-n", "acme")["metadata"]["creationTimestamp"])


def end_of(cluster: Cluster, id_: str) -> datetime:
    text = until(lambda: record(cluster, id_).get("termEnd"), f"the term of {id_} has begun")
    return datetime.fromisoformat(text)


def jump(offset: Path, moment: datetime) -> None:
    offset.write_text(str((moment - datetime.now(UTC)).total_seconds()))


def claimed(cluster: Cluster) -> int:
    return sum(sum(blocks) for blocks in claims(cluster).values())


def notices(cluster: Cluster) -> list[str]:
    events = get(cluster, "events.events.k8s.io", "-n", "acme")["items"]
    return [event["note"] for event in events if event["reason"] == "CommitmentEnds"]


def test_m8_of_two_commitments_one_ends_and_its_capacity_goes_back_then_the_other(
    capacity: Cluster, operator: OperatorProcess, offset: Path
) -> None:
    grow = json.dumps([{"op": "add", "path": "/spec/commitments/-", "value": GROWTH}])
    capacity.kubectl("patch", "cup", "prod", "-n", "acme", "--type=json", "-p", grow)
    until(lambda: datetime.now(UTC) > made(capacity, "chat") + timedelta(seconds=1), "chat is the older one (C5)")
    capacity.kubectl("apply", "--server-side", "-f", str(CUSTOMER / "fast.yaml"))
    for name in ("chat", "fast"):
        says(capacity, name, "Ready", "True", "Ready")
    chat = {name: uid for name, uid in pod_uids(capacity).items() if name.startswith("chat")}

    end = end_of(capacity, GROWTH["id"])
    jump(offset, end - timedelta(days=20))
    plan = until(lambda: pool(capacity).get("expiryPlan"), "the plan is there 30 days ahead")
    assert plan["stops"] == [{"instance": "fast", "instances": 1}]
    assert condition(capacity, "cup", "prod", "CommitmentSecure")[:2] == ("False", "ExpiresSoon")
    assert condition(capacity, "cup", "prod", "Ready")[0] == "True"
    until(lambda: any("po-10023-2 ends within 30 days" in note for note in notices(capacity)), "an Event tells it")

    jump(offset, end - timedelta(minutes=30))
    until(lambda: "fast-0" not in holdings(capacity), "it is drained before the end")
    assert {name: uid for name, uid in pod_uids(capacity).items() if not name.startswith("fast")} == chat
    assert (pool(capacity)["computeUnits"]["contracted"], claimed(capacity)) == (700, 7)
    message = says(capacity, "fast", "CapacityReserved", "False", "WaitingForComputeUnits")
    assert "commitment po-10023-2 ends at" in message

    jump(offset, end + timedelta(minutes=5))
    until(
        lambda: record(capacity, GROWTH["id"])["state"] == "Expired" and claimed(capacity) == 6, "the block goes back"
    )
    assert pod_uids(capacity) == chat

    last = end_of(capacity, "po-10023-1")
    jump(offset, last + timedelta(minutes=5))
    until(lambda: not pod_uids(capacity) and not claimed(capacity), "at the end all of it stops")
    says(capacity, "chat", "Ready", "False", "ExceedsPool")
    until(
        lambda: not any(pool(capacity)["computeUnits"].values()), lambda: f"no compute unit is left: {pool(capacity)}"
    )
    capacity.kubectl("delete", "cup", "prod", "-n", "acme")
    assert operator.records("error", "critical") == []

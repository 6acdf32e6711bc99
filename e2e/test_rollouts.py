"""Rollouts on a real control plane: blocked in a full pool, in place, and with room (behaviour.md S2, S5, C6)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess
from e2e.test_main_job import capacity, get, operator, pod_uids, says, serving

__all__ = ["capacity", "operator"]

OLD, NEW = "gpt-4-turbo-2024-04-09", "gpt-4-turbo-2025-01-15"
IN_PLACE = {"minAvailable": 1, "acceptBelowMinimum": True}


def edit(cluster: Cluster, **spec: Any) -> None:
    cluster.kubectl("patch", "mi", "chat", "-n", "acme", "--type=merge", "-p", json.dumps({"spec": spec}))


def snapshots(cluster: Cluster) -> set[str]:
    pods = get(cluster, "pods", "-n", "acme")["items"]
    return {pod["metadata"]["labels"]["reservedcapacity.io/snapshot"] for pod in pods}


def ready_endpoints(cluster: Cluster) -> int:
    slices = get(cluster, "endpointslices", "-n", "acme")["items"]
    return sum(bool(each["conditions"].get("ready")) for one in slices for each in one.get("endpoints") or ())


@contextmanager
def never_fewer_than(cluster: Cluster, least: int) -> Iterator[None]:
    """Look all the time at how many endpoints a client may be sent to."""
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append(ready_endpoints(cluster))
            time.sleep(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
    assert min(seen) >= least, f"of {len(seen)} looks, one saw only {min(seen)} endpoints"


def test_a_full_pool_is_not_touched_then_goes_in_place_as_far_as_is_agreed(
    capacity: Cluster, operator: OperatorProcess
) -> None:
    before = serving(capacity, operator)
    edit(capacity, snapshot=NEW)
    message = says(capacity, "chat", "UpToDate", "False", "RolloutBlocked")
    assert "need 300 CU, spare 0" in message
    assert pod_uids(capacity) == before

    edit(capacity, upgrade={"whenNoSpare": "InPlace", "minAvailable": 1})
    message = says(capacity, "chat", "UpToDate", "False", "RolloutBlocked")
    with never_fewer_than(capacity, 1):
        edit(capacity, upgrade={"acceptBelowMinimum": True})
        says(capacity, "chat", "Ready", "True", "Ready")
    assert snapshots(capacity) == {NEW}
    assert not set(before.values()) & set(pod_uids(capacity).values())
    assert get(capacity, "cup", "prod", "-n", "acme")["status"]["computeUnits"]["allocated"] == 600
    assert operator.records("error", "critical") == []


def test_with_room_for_one_nobody_is_missed_forth_and_back(capacity: Cluster, operator: OperatorProcess) -> None:
    serving(capacity, operator)
    more = {
        "id": "po-10023-2",
        "computeUnits": 300,
        "term": "OneYear",
        "payment": "Monthly",
        "provisionBy": "2027-01-01",
    }
    orders = [*get(capacity, "cup", "prod", "-n", "acme")["spec"]["commitments"], more]
    patch = json.dumps({"spec": {"commitments": orders}})
    capacity.kubectl("patch", "cup", "prod", "-n", "acme", "--type=merge", "-p", patch)

    with never_fewer_than(capacity, 2):
        edit(capacity, snapshot=NEW, upgrade={"canary": {"instances": 1}})
        message = says(capacity, "chat", "UpToDate", "Unknown", "AwaitingApproval")
        rollout = get(capacity, "mi", "chat", "-n", "acme")["status"]["rollout"]
        assert str(rollout["id"]) in message
        edit(capacity, upgrade={"canary": {"approvedRollout": rollout["id"]}})
        says(capacity, "chat", "Ready", "True", "Ready")
        assert snapshots(capacity) == {NEW}
        edit(capacity, snapshot=OLD, upgrade={"canary": None})
        says(capacity, "chat", "UpToDate", "True", "UpToDate")
        says(capacity, "chat", "Ready", "True", "Ready")
    assert snapshots(capacity) == {OLD}
    assert operator.records("error", "critical") == []


def test_a_canary_is_followed_approved_and_taken_back_by_the_plugin(
    capacity: Cluster, operator: OperatorProcess, tmp_path: Path
) -> None:
    """Issue 7, item 7: what the screen offers is what the verbs do, printed for Git or applied."""
    serving(capacity, operator)
    edit(capacity, snapshot=NEW, upgrade={"whenNoSpare": "InPlace", **IN_PLACE, "canary": {"instances": 1}})
    says(capacity, "chat", "UpToDate", "Unknown", "AwaitingApproval")
    shown = plugin(capacity, "status", "mi/chat", "-n", "acme").stdout
    assert "chat-0  new  Available" in shown
    assert "chat-1  old  Available" in shown
    assert "State      ! AwaitingApproval since" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "nothing to resume" in plugin(capacity, "pause", "chat", "--off", "-n", "acme").stderr

    printed = plugin(capacity, "approve", "chat", "-n", "acme").stdout
    commit = tmp_path / "approve.yaml"
    commit.write_text(printed, encoding="utf-8")
    capacity.kubectl("patch", "mi", "chat", "-n", "acme", "--type=merge", f"--patch-file={commit}")
    followed = plugin(capacity, "status", "mi/chat", "-n", "acme", "-w")
    assert followed.returncode == 0, followed.stderr
    assert f"{OLD} → {NEW}   InPlace   done" in followed.stdout
    assert snapshots(capacity) == {NEW}

    done = plugin(capacity, "rollback", "chat", "-n", "acme", "--apply")
    assert done.returncode == 0, done.stderr
    assert get(capacity, "mi", "chat", "-n", "acme")["spec"]["snapshot"] == OLD
    managers = get(capacity, "mi", "chat", "-n", "acme", "--show-managed-fields")["metadata"]["managedFields"]
    assert "kubectl-reserved" in {each["manager"] for each in managers}
    says(capacity, "chat", "UpToDate", "Unknown", "AwaitingApproval")
    assert plugin(capacity, "approve", "chat", "-n", "acme", "--apply").returncode == 0
    assert plugin(capacity, "status", "mi/chat", "-n", "acme", "-w").returncode == 0
    assert snapshots(capacity) == {OLD}
    again = plugin(capacity, "approve", "chat", "-n", "acme", "--apply")
    assert (again.returncode, again.stdout) == (1, "")
    assert "no rollout waits for an approval" in again.stderr


def plugin(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "KUBECONFIG": str(cluster.kubeconfig),
        "COLUMNS": "80",
    }
    command = [str(Path(sys.executable).parent / "kubectl-reserved"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

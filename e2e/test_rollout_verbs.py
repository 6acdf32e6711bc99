"""What `kubectl reserved` shows of a rollout and does with it (api.md, commands), on a real control plane."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from e2e.cluster.lifecycle import Cluster
from e2e.operator import OperatorProcess
from e2e.test_main_job import capacity, get, operator, says, serving

__all__ = ["capacity", "operator"]

OLD, NEW = "gpt-4-turbo-2024-04-09", "gpt-4-turbo-2025-01-15"
IN_PLACE = {"minAvailable": 1, "acceptBelowMinimum": True}


def edit(cluster: Cluster, **spec: Any) -> None:
    cluster.kubectl("patch", "mi", "chat", "-n", "acme", "--type=merge", "-p", json.dumps({"spec": spec}))


def snapshots(cluster: Cluster) -> set[str]:
    pods = get(cluster, "pods", "-n", "acme", "-l", "reservedcapacity.io/member")["items"]
    return {pod["metadata"]["labels"]["reservedcapacity.io/snapshot"] for pod in pods}


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
    assert "State       ! AwaitingApproval since" in shown
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

"""KWOK, outside of the cluster: plays the kubelet of fake nodes, and of no others."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from e2e.cluster import build, processes
from e2e.cluster.ports import free_port
from e2e.cluster.processes import Record
from e2e.cluster.state import ClusterDir

FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node"
FAKE_NODE_VALUE = "fake"


def lease_seconds() -> int:
    """How long a fake node counts as alive after a sign of life; KWOK gives one in a quarter of that time.

    One KWOK manages some 20 in a second: with the default thousands of nodes would be taken for lost, one after the other.
    """
    return int(os.environ.get("E2E_NODE_LEASE_SECONDS", "40"))


def start(state: ClusterDir, kubeconfig: Path, watched: list[Record]) -> None:
    """Start KWOK and wait until it serves; `watched` are the processes that it depends on."""
    home = build.ensure(build.KWOK)
    port = free_port()
    stages = sorted(home.glob("*.yaml"))
    record = processes.start(
        state,
        "kwok",
        [
            home / "kwok",
            "--kubeconfig",
            kubeconfig,
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE_NODE_ANNOTATION}={FAKE_NODE_VALUE}",
            f"--node-lease-duration-seconds={lease_seconds()}",
            f"--server-address=127.0.0.1:{port}",
            *(f"--config={stage}" for stage in stages),
        ],
        env={"KWOK_WORKDIR": str(state.config)},  # else it reads and writes ~/.kwok
    )
    processes.wait_until("KWOK", lambda: _is_healthy(port), state, [*watched, record])


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

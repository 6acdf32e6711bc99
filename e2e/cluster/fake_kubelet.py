"""KWOK, outside of the cluster: plays the kubelet of fake nodes, and of no others."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from e2e.cluster import build, processes
from e2e.cluster.ports import free_port
from e2e.cluster.processes import Record
from e2e.cluster.state import ClusterDir

FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node"
FAKE_NODE_VALUE = "fake"


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
            "--node-lease-duration-seconds=40",
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

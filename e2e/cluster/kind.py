"""A kind cluster, for machines that have Docker. It has no audit log and Kubernetes' own toleration of lost nodes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from e2e.cluster import fake_kubelet
from e2e.cluster.state import ClusterDir


def start(state: ClusterDir) -> None:
    """Create the cluster of this state directory and start KWOK against it."""
    subprocess.run(
        ["kind", "create", "cluster", "--name", _name(state.root), "--kubeconfig", state.kubeconfig, "--wait=180s"],
        stdout=sys.stderr,
        check=True,
    )
    fake_kubelet.start(state, state.kubeconfig, [])


def stop(state: ClusterDir) -> None:
    """Delete the cluster; kind finds nothing wrong with one that does not exist."""
    subprocess.run(["kind", "delete", "cluster", "--name", _name(state.root)], stdout=sys.stderr, check=True)


def _name(root: Path) -> str:
    return f"rc-{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"

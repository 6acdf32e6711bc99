"""Up, down and status, for whichever backend."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import existing, kind, localplane, processes
from e2e.cluster.choice import Backend, choose
from e2e.cluster.kubectl import Kubectl, on_path
from e2e.cluster.state import ClusterDir, ClusterError, say, write_private

_STARTERS = {"existing": existing.start, "kind": kind.start, "local": localplane.start}


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs."""

    state: ClusterDir
    backend: Backend

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state.kubeconfig

    @property
    def audit_log(self) -> Path | None:
        """Only the built control plane has one that can be read."""
        return self.state.audit_log if self.backend == "local" else None

    @property
    def kubectl(self) -> Kubectl:
        """Call it like a function: `cluster.kubectl("get", "nodes")`."""
        return Kubectl(on_path() or self.state.bin / "kubectl", self.kubeconfig)

    def exports(self) -> list[str]:
        """Lines for a shell; KUBECONFIG is the last."""
        path = [] if on_path() else [f'export PATH="{self.state.bin}:$PATH"']
        return [*path, f"export KUBECONFIG={self.kubeconfig}"]


def up(state: ClusterDir) -> Cluster:
    """Return the running cluster of this directory, or start one that is empty but for KWOK."""
    with state.lock():
        if running := current(state):
            say(f"cluster: already running ({running.backend})")
            return running
        _stop(state)
        state.reset()
        choice = choose()
        say(f"cluster: {choice.backend}: {choice.reason}")
        cluster = Cluster(state, choice.backend)
        try:
            # Written before the start, so that a `down` after a crash knows what to undo.
            write_private(state.description, json.dumps({"backend": choice.backend}))
            _STARTERS[choice.backend](state)
        except BaseException:
            _stop(state)
            raise
        return cluster


def down(state: ClusterDir, *, purge: bool = False) -> list[str]:
    """Stop everything that was started from this directory; logs and audit log stay unless purged."""
    if not state.root.is_dir():
        return []
    with state.lock():
        stopped = _stop(state)
        if purge:
            state.purge()
    return stopped


def current(state: ClusterDir) -> Cluster | None:
    """The cluster of this directory if all of it runs and answers, else None."""
    backend = _described_backend(state)
    if backend is None or not all(record.is_running() for record in processes.records(state)):
        return None
    cluster = Cluster(state, backend)
    return cluster if cluster.kubectl.succeeds("get", "--raw", "/readyz", "--request-timeout=5s") else None


def require(state: ClusterDir) -> Cluster:
    """The running cluster, or an error that says how to get one."""
    cluster = current(state)
    if cluster is None:
        raise ClusterError(f"No cluster runs from {state.root}. Start one with `make cluster`.")
    return cluster


def _stop(state: ClusterDir) -> list[str]:
    stopped = processes.stop_all(state)
    if _described_backend(state) == "kind":
        kind.stop(state)
    state.description.unlink(missing_ok=True)
    return stopped


def _described_backend(state: ClusterDir) -> Backend | None:
    try:
        backend: Backend = json.loads(state.description.read_text(encoding="utf-8"))["backend"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return backend if backend in _STARTERS else None

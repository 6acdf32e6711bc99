"""Which cluster to use, and why."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal, cast, get_args

from e2e.cluster import localplane
from e2e.cluster.kubectl import Kubectl, on_path
from e2e.cluster.state import ClusterError

Backend = Literal["existing", "kind", "local"]


@dataclass(frozen=True)
class Choice:
    """A backend and the reason for it, in words for the user."""

    backend: Backend
    reason: str


def choose() -> Choice:
    """E2E_CLUSTER decides; else a KUBECONFIG that answers, else kind where Docker answers, else the built control plane."""
    if forced := os.environ.get("E2E_CLUSTER"):
        if forced not in get_args(Backend):
            raise ClusterError(f"E2E_CLUSTER={forced}: must be one of {', '.join(get_args(Backend))}.")
        return Choice(cast("Backend", forced), "E2E_CLUSTER says so")
    against_existing = _objection_to_existing()
    if not against_existing:
        return Choice("existing", f"KUBECONFIG={os.environ['KUBECONFIG']} answers")
    against_kind = _objection_to_kind()
    if not against_kind:
        return Choice("kind", f"{against_existing}; Docker answers and kind is installed")
    return Choice("local", f"{against_existing}; {against_kind}")


def _objection_to_existing() -> str:
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set"
    binary = on_path()
    if binary is None:
        return "KUBECONFIG is set, but there is no kubectl to ask it with"
    kubectl = Kubectl(binary, kubeconfig=None)
    name = kubectl("config", "view", "--minify", "--output=jsonpath={.contexts[0].context.cluster}", check=False)
    if name.stdout == localplane.NAME:
        return "KUBECONFIG is a local control plane of this or another checkout"
    if not kubectl.succeeds("get", "--raw", "/readyz", "--request-timeout=5s"):
        return "KUBECONFIG is set, but its API server does not answer"
    return ""


def _objection_to_kind() -> str:
    for tool in ("docker", "kind", "kubectl"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return "Docker does not answer within 5 s"
    return "" if done.returncode == 0 else "Docker does not answer"

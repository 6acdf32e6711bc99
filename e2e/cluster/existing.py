"""A cluster that the user has: nothing is started but KWOK."""

from __future__ import annotations

from e2e.cluster import fake_kubelet
from e2e.cluster.kubectl import Kubectl, on_path
from e2e.cluster.state import ClusterDir, ClusterError, say, write_private


def start(state: ClusterDir) -> None:
    """Start KWOK against the current context of KUBECONFIG, unless the cluster runs KWOK itself."""
    binary = on_path()
    if binary is None:
        raise ClusterError("A cluster of yours is used with a kubectl of yours; there is none on PATH.")
    # A copy of the current context alone: the user may switch contexts while this cluster is in use.
    context = Kubectl(binary, kubeconfig=None)("config", "view", "--minify", "--flatten", "--raw").stdout
    write_private(state.kubeconfig, context)
    kubectl = Kubectl(binary, state.kubeconfig)
    kubectl("get", "--raw", "/readyz", "--request-timeout=10s")
    if kubectl.succeeds("get", "deployment", "kwok-controller", "--namespace=kube-system"):
        say("cluster: uses the kwok-controller in kube-system")
        return
    fake_kubelet.start(state, state.kubeconfig, [])

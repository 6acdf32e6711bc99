"""Starts real nodes for a cluster whose API server is on this machine's loopback, and leaves nothing of them behind."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2e.cluster import processes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.nodes import GPU_PRODUCT
from e2e.cluster.processes import Record
from e2e.cluster.state import CHECKOUT, ClusterDir, ClusterError, write_private
from e2e.node import cgroups, configs, fabric, packages, probe, programs
from e2e.node.configs import NodeSpec
from e2e.node.image import catalogue, oci
from e2e.node.image.catalogue import Catalogue

# So that a class of real nodes takes in none that are played.
REAL_LABEL = "e2e.example/real"

_ACCOUNT = "real-node"
_ENDPOINT = "kubernetes-real-nodes"
_ROLES = ("system:node", "system:node-proxier")
_START_SECONDS = 120


@dataclass(frozen=True)
class Plan:
    """A node that is wanted. GPUs are said, not there: nobody here looks for a device."""

    name: str
    gpus: int = 0
    zone: str = "z1"

    @property
    def labels(self) -> dict[str, str]:
        zone = {"topology.kubernetes.io/zone": self.zone}
        return {**zone, **({"nvidia.com/gpu.product": GPU_PRODUCT, REAL_LABEL: "true"} if self.gpus else {})}


@dataclass(frozen=True)
class RealNodes:
    """Nodes that run, and the images that are on them."""

    state: ClusterDir
    specs: tuple[NodeSpec, ...]
    images: Catalogue

    def pod_log(self, namespace: str, pod: str) -> str:
        """What the containers of a pod have said, of all that had this name, as the container runtime wrote it."""
        found = [
            path
            for spec in self.specs
            for path in sorted(Path(spec.directory, "var-log/pods").glob(f"{namespace}_{pod}_*/*/*.log"))
        ]
        return "\n".join(_said(path) for path in found)


def objection(cluster: Cluster) -> str:
    """Why this cluster cannot have real nodes on this machine; empty: it can."""
    if cluster.backend != "local":
        return "only the built control plane takes them in"
    return probe.objection()


@contextmanager
def started(cluster: Cluster, plans: Sequence[Plan]) -> Iterator[RealNodes]:
    """The nodes, Ready and with their GPUs; everything of them is gone when this is left, however that comes about.

    Raises NotFetched where something that they need is neither in the cache nor to be had from its registry.
    """
    packages.ensure()
    catalogue.fetch()
    programs.ensure()
    state = ClusterDir(Path(tempfile.mkdtemp(prefix="rc-nodes-")))
    state.reset()
    group = f"reserved-capacity-{secrets.token_hex(4)}"
    specs = tuple(
        NodeSpec(plan.name, number, f"{group}-{plan.name}", str(state.root / plan.name), plan.labels)
        for number, plan in enumerate(plans, 1)
    )
    try:
        images = catalogue.packed(state.config)
        oci.write_archive(state.config / _archive(gpus=True), images.for_gpus)
        oci.write_archive(state.config / _archive(gpus=False), images.for_others)
        _start(cluster, state, plans, specs)
        for plan in plans:
            _wait_ready(cluster, state, plan.name)
            _say_gpus(cluster, plan)
        yield RealNodes(state, specs, images)
    finally:
        _stop(cluster, state, specs)


def _start(cluster: Cluster, state: ClusterDir, plans: Sequence[Plan], specs: Sequence[NodeSpec]) -> None:
    kubeconfig = json.dumps(configs.kubeconfig(_view(cluster)["certificate-authority-data"], _token(cluster)))
    network = _start_fabric(cluster, state)
    _apply(cluster, _api_server_endpoint())
    for plan, spec in zip(plans, specs, strict=True):
        cgroups.make(spec.group)
        directory = Path(spec.directory)
        directory.mkdir()
        write_private(directory / "kubeconfig", kubeconfig)
        (directory / "spec.json").write_text(spec.to_json())
        images = state.config / _archive(gpus=plan.gpus > 0)
        processes.start(
            state, spec.name, [*_python("machine"), directory / "spec.json", str(network.pid), images], _ENV
        )


def _start_fabric(cluster: Cluster, state: ClusterDir) -> Record:
    ready = state.run / "fabric-ready"
    port = urlsplit(_view(cluster)["server"]).port
    record = processes.start(state, "fabric", [*_python("fabric"), str(port), ready], _ENV)
    processes.wait_until("the network of the nodes", ready.exists, state, [record])
    return record


def _archive(*, gpus: bool) -> str:
    return "images-of-gpu-nodes.tar" if gpus else "images-of-other-nodes.tar"


_ENV = {"PYTHONPATH": str(CHECKOUT)}


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"e2e.node.{module}"]


def _stop(cluster: Cluster, state: ClusterDir, specs: Sequence[NodeSpec]) -> None:
    processes.stop_all(state)
    left = [path for spec in specs for path in cgroups.remove(spec.group)]
    names = [spec.name for spec in specs]
    cluster.kubectl("delete", "node", *names, "--ignore-not-found", "--timeout=30s", check=False)
    for kind, name, namespace in _made():
        cluster.kubectl("delete", kind, name, "-n", namespace, "--ignore-not-found", check=False)
    shutil.rmtree(state.root)
    if left:
        raise ClusterError(f"Control groups are left behind: {', '.join(left)}")


def _wait_ready(cluster: Cluster, state: ClusterDir, name: str) -> None:
    wait = ("wait", f"node/{name}", "--for=condition=Ready", "--timeout=1s")
    record = next(each for each in processes.records(state) if each.name == name)
    processes.wait_until(
        f"the node {name}", lambda: cluster.kubectl.succeeds(*wait), state, [record], timeout_seconds=_START_SECONDS
    )


def _say_gpus(cluster: Cluster, plan: Plan) -> None:
    """As a device plugin would have the kubelet say it. The kubelet keeps what it does not know."""
    if plan.gpus:
        resources = {"nvidia.com/gpu": str(plan.gpus)}
        patch = json.dumps({"status": {"capacity": resources, "allocatable": resources}})
        cluster.kubectl("patch", "node", plan.name, "--subresource=status", "--type=merge", "-p", patch)


def _token(cluster: Cluster) -> str:
    """Of an account that may do what a kubelet and a kube-proxy do."""
    account = {"name": _ACCOUNT, "namespace": "kube-system"}
    _apply(cluster, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    for role in _ROLES:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": _binding(role)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", **account}],
        }
        _apply(cluster, binding)
    return cluster.kubectl("create", "token", _ACCOUNT, "-n", "kube-system", "--duration=4h").stdout.strip()


def _made() -> list[tuple[str, str, str]]:
    """Kind, name and namespace of what is in the cluster for the nodes."""
    bindings = [("clusterrolebinding", _binding(role), "default") for role in _ROLES]
    return [*bindings, ("serviceaccount", _ACCOUNT, "kube-system"), ("endpointslice", _ENDPOINT, "default")]


def _binding(role: str) -> str:
    return f"{_ACCOUNT}-{role.removeprefix('system:')}"


def _api_server_endpoint() -> dict[str, Any]:
    """Where pods find the API server behind the Service `kubernetes`: its own loopback address is no endpoint."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": _ENDPOINT,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [fabric.GATEWAY], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": fabric.PORT, "protocol": "TCP"}],
    }


def _apply(cluster: Cluster, document: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(document))


def _view(cluster: Cluster) -> dict[str, Any]:
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    found: dict[str, Any] = config["clusters"][0]["cluster"]
    return found


def _said(path: Path) -> str:
    """Without the runtime's time, stream and flag before each line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line.split(" ", 3)[-1] for line in lines)

"""Fake GPU nodes, as a kubelet and NVIDIA's device plugin and feature discovery would show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from e2e.cluster.fake_kubelet import FAKE_NODE_ANNOTATION, FAKE_NODE_VALUE
from e2e.cluster.kubectl import Kubectl

GPU_PRODUCT = "NVIDIA-H100-80GB-HBM3"


def gpu_node(name: str, zone: str, gpus: int = 8, product: str = GPU_PRODUCT) -> dict[str, Any]:
    """The Node object of one machine."""
    resources = {
        "cpu": "192",
        "memory": "2Ti",
        "ephemeral-storage": "1Ti",
        "pods": "110",
        "nvidia.com/gpu": str(gpus),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE_NODE_ANNOTATION: FAKE_NODE_VALUE},
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": zone,
                "nvidia.com/gpu.count": str(gpus),
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.product": product,
            },
        },
        # The API server keeps a status that comes with a new node, and KWOK keeps the resources it finds there.
        "status": {"capacity": resources, "allocatable": resources},
    }


def gpu_nodes(count: int, zone: str, gpus: int = 8, prefix: str = "gpu") -> list[dict[str, Any]]:
    """Nodes named `<prefix>-<zone>-<n>`, so that the same prefix can be used in several zones."""
    return [gpu_node(f"{prefix}-{zone}-{index}", zone, gpus) for index in range(count)]


def apply(kubectl: Kubectl, nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Apply the nodes, wait until KWOK has made them Ready, and return their names."""
    names = [node["metadata"]["name"] for node in nodes]
    if not names:
        return names
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(nodes)})
    kubectl("apply", "--server-side", "--filename=-", input=manifest)
    kubectl("wait", "--for=condition=Ready", "--timeout=120s", *(f"node/{name}" for name in names))
    return names

"""What the programs of a node are told, as pure builders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.node.fabric import GATEWAY, PORT

PAUSE_IMAGE = "node.example/pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_DIRECTORY = "/run/cni/net.d"

# The kubelet sets these for the whole machine where they differ. It is shown files that have its values already, in its
# mount namespace only.
SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True)
class NodeSpec:
    """One node. `number` (1 to 99) gives its addresses, `group` is its control group, `directory` holds all its files."""

    name: str
    number: int
    group: str
    directory: str
    labels: Mapping[str, str]

    @property
    def address(self) -> str:
        return f"10.88.0.{100 + self.number}"

    @property
    def pods(self) -> str:
        """The addresses of its pods."""
        return f"10.244.{self.number}.0/24"

    def to_json(self) -> str:
        return json.dumps({**self.__dict__, "labels": dict(self.labels)})

    @classmethod
    def from_json(cls, text: str) -> NodeSpec:
        return cls(**json.loads(text))


def containerd(runc: Path, plugins: Sequence[Path]) -> str:
    """TOML. Root may lack CAP_SYS_RESOURCE, without which nobody may lower an oom_score_adj."""
    return f"""\
version = 3
root = '/var/lib/containerd'
disabled_plugins = [
  'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.zfs', 'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs', 'io.containerd.nri.v1.nri',
]
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = {[str(path) for path in plugins]}
  conf_dir = '{CNI_DIRECTORY}'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{runc}'
  SystemdCgroup = false
"""


def network(spec: NodeSpec) -> dict[str, Any]:
    """CNI: each pod at the end of a pair of interfaces, routed, without a bridge or any translation of addresses."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni/addresses",
        "ranges": [[{"subnet": spec.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}


def kubelet(spec: NodeSpec) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{spec.group}",
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "address": spec.address,
        # Nobody but the other nodes reaches it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "evictionHard": {
            "memory.available": "100Mi",
            **{f"{fs}.{what}": "0%" for fs in ("nodefs", "imagefs") for what in ("available", "inodesFree")},
        },
        "imageGCHighThresholdPercent": 100,
        "resolvConf": f"{spec.directory}/resolv.conf",  # empty: nothing here resolves names
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 40,
        "makeIPTablesUtilChains": False,
    }


def kube_proxy(spec: NodeSpec, kubeconfig: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": spec.name,
        "bindAddress": spec.address,
        "conntrack": {"maxPerCore": 0, "min": 0},  # settings of the whole machine
        "oomScoreAdj": 0,
    }


def kubeconfig(authority: str, token: str) -> dict[str, Any]:
    """For programs on a node: the API server at the fabric's gateway, under a name that its certificate has."""
    cluster = {
        "server": f"https://{GATEWAY}:{PORT}",
        "tls-server-name": "kubernetes.default.svc",
        "certificate-authority-data": authority,
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "node", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "node"}}],
    }

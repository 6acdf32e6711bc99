"""The programs of a real node, built from pinned Go modules into the user's cache, as the control plane is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import build
from e2e.cluster.build import Module

_HERE = Path(__file__).parent
_CONTAINERD = "github.com/containerd/containerd/v2"
_CNI = "github.com/containernetworking/plugins"


@dataclass(frozen=True)
class Program(Module):
    """One command of one of the Go modules here."""

    module: str = "containerd"

    @property
    def directory(self) -> Path:
        return _HERE / self.module

    @property
    def binary(self) -> Path:
        """Where the command is once it is built."""
        return self.home / self.name


def _program(name: str, package: str, pinned: str, announcement: str) -> Program:
    return Program(name, package, pinned, version_packages=(), data=(), announcement=announcement)


KUBELET = Program(
    name="node",
    package=".",
    pinned="k8s.io/kubernetes",
    version_packages=("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"),
    data=(),
    announcement="first run compiles kubelet and kube-proxy, 2 minutes on 2 cores where the control plane is compiled",
    module="kubelet",
)
CONTAINERD = _program(
    "containerd",
    f"{_CONTAINERD}/cmd/containerd",
    _CONTAINERD,
    "first run compiles containerd, a minute on 2 cores",
)
SHIM = _program(
    "containerd-shim-runc-v2",
    f"{_CONTAINERD}/cmd/containerd-shim-runc-v2",
    _CONTAINERD,
    "first run compiles containerd's shim, seconds",
)
CTR = _program("ctr", f"{_CONTAINERD}/cmd/ctr", _CONTAINERD, "first run compiles ctr, seconds")
PAUSE = _program("pause", ".", _CONTAINERD, "first run compiles pause, a second")
CNI = tuple(
    _program(name, f"{_CNI}/plugins/{kind}/{name}", _CNI, f"first run compiles the network plugin {name}, seconds")
    for kind, name in (("main", "ptp"), ("main", "loopback"), ("ipam", "host-local"))
)
ALL = (KUBELET, CONTAINERD, SHIM, CTR, PAUSE, *CNI)


def missing() -> list[str]:
    """What is not built yet, by name; building it takes minutes."""
    return [program.name for program in ALL if not program.home.is_dir()]


def ensure() -> None:
    """Build what is missing."""
    for program in ALL:
        build.ensure(program)

"""One node, as a process: namespaces of its own, and in them containerd, kubelet and kube-proxy under a first process.

Whoever ends the process that runs `main` ends the first process of the pid namespace, with it the kernel ends everything
in that, containers too, and with these go the mounts and the network. What is left on the machine is the node's
directory and its empty control groups.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from e2e.node import cgroups, configs, packages, programs
from e2e.node.configs import NodeSpec
from e2e.node.fabric import BRIDGE, GATEWAY
from e2e.node.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    die_with_parent,
    unshare,
)

_START_SECONDS = 60
_BOUND = {"var-lib": "/var/lib", "var-log": "/var/log"}


def main() -> None:
    """`machine SPEC FABRIC IMAGES`: the node of this file, in the network of the process with this pid, with these images."""
    spec = NodeSpec.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    fabric = int(sys.argv[2])
    die_with_parent()
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
    _attach(spec, fabric)
    unshare(CLONE_NEWPID)  # last: the next child is the first process of it
    first = os.fork()
    if first == 0:
        die_with_parent()
        _Machine(spec, images=sys.argv[3]).run()

    def end(_number: int, _frame: FrameType | None) -> None:
        os.kill(first, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    # Returns when the whole pid namespace has ended: the kernel reaps its first process last.
    _, status = os.waitpid(first, 0)
    sys.exit(os.waitstatus_to_exitcode(status) != -signal.SIGKILL)


def _attach(spec: NodeSpec, fabric: int) -> None:
    """An interface into the bridge, made from over there: only there can both its ends be named."""
    over_there = ["nsenter", f"--net=/proc/{fabric}/ns/net", "ip"]
    port = f"port{spec.number}"
    for command in (
        [*over_there, *f"link add {port} type veth peer name eth0 netns {os.getpid()}".split()],
        [*over_there, *f"link set {port} master {BRIDGE} up".split()],
        [*over_there, *f"route add {spec.pods} via {spec.address}".split()],
        ["ip", *f"address add {spec.address}/24 dev eth0".split()],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", *f"route add default via {GATEWAY}".split()],
    ):
        _run(command)


@dataclass(slots=True)
class _Machine:
    """The first process of the node."""

    spec: NodeSpec
    images: str
    _running: dict[int, str] = field(default_factory=dict)

    @property
    def _directory(self) -> Path:
        return Path(self.spec.directory)

    def run(self) -> NoReturn:
        """Start everything, then bury the dead for as long as all that was started runs."""
        cgroups.join(self.spec.group)
        self._mount()
        tools = packages.ensure()
        environment = {**os.environ, **tools.environment}
        environment["PATH"] = ":".join([str(programs.SHIM.home), str(tools.nft.parent), os.environ["PATH"]])
        self._containerd(tools, environment)
        self._kubelet_and_proxy(environment)
        (self._directory / "started").touch()
        while True:
            pid, status = os.wait()
            if pid in self._running:
                code = os.waitstatus_to_exitcode(status)
                print(f"{self._running[pid]} of {self.spec.name} has ended with {code}", file=sys.stderr, flush=True)
                os._exit(1)

    def _mount(self) -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        _run(["mount", "--make-rprivate", "/"])
        _run(["mount", "--make-rshared", "/"])  # the kubelet's mounts have to reach the containers
        _run(["mount", "-t", "proc", "proc", "/proc"])
        _run(["mount", "-t", "tmpfs", "tmpfs", "/run"])
        _run(["hostname", self.spec.name])
        for name, target in _BOUND.items():
            source = self._directory / name
            source.mkdir(exist_ok=True)
            _run(["mount", "--bind", str(source), target])
            _run(["mount", "--make-rshared", target])
        # In memory: unpacked images are thousands of files, which are to be gone at once.
        containers = Path("/var/lib/containerd")
        containers.mkdir(exist_ok=True)
        _run(["mount", "-t", "tmpfs", "tmpfs", str(containers)])
        for name, value in configs.SYSCTLS.items():
            self._show(Path("/proc/sys") / name, f"{value}\n")

    def _show(self, path: Path, text: str) -> None:
        """This text in the place of a file."""
        shown = self._directory / "shown" / str(path).strip("/").replace("/", "_")
        shown.parent.mkdir(exist_ok=True)
        shown.write_text(text)
        _run(["mount", "--bind", str(shown), str(path)])

    def _containerd(self, tools: packages.SystemTools, environment: dict[str, str]) -> None:
        Path(configs.CNI_DIRECTORY).mkdir(parents=True)
        self._write("network", json.dumps(configs.network(self.spec)), Path(configs.CNI_DIRECTORY) / "1.conflist")
        config = configs.containerd(tools.runc, [program.home for program in programs.CNI])
        path = self._write("containerd.toml", config)
        self._start("containerd", [programs.CONTAINERD.binary, "--config", path], environment)
        ctr = [str(programs.CTR.binary), "--namespace", "k8s.io"]
        deadline = time.monotonic() + _START_SECONDS
        while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                sys.exit(f"containerd of {self.spec.name} does not answer")
            time.sleep(0.1)
        _run([*ctr, "images", "import", self.images])

    def _kubelet_and_proxy(self, environment: dict[str, str]) -> None:
        kubeconfig = self._directory / "kubeconfig"
        self._write("resolv.conf", "")
        kubelet = self._write("kubelet.json", json.dumps(configs.kubelet(self.spec)))
        proxy = self._write("kube-proxy.json", json.dumps(configs.kube_proxy(self.spec, kubeconfig)))
        labels = ",".join(f"{key}={value}" for key, value in self.spec.labels.items())
        flags: list[str | Path] = [f"--config={kubelet}", f"--kubeconfig={kubeconfig}"]
        flags += [f"--hostname-override={self.spec.name}", f"--node-ip={self.spec.address}", f"--node-labels={labels}"]
        self._start("kubelet", [programs.KUBELET.binary, "kubelet", *flags], environment)
        self._start("kube-proxy", [programs.KUBELET.binary, "kube-proxy", f"--config={proxy}"], environment)

    def _write(self, name: str, text: str, path: Path | None = None) -> Path:
        path = path or self._directory / name
        path.write_text(text)
        return path

    def _start(self, name: str, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(  # it lives as long as the node
                [str(argument) for argument in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment,
            )
        self._running[child.pid] = name


def _run(command: Sequence[str]) -> None:
    subprocess.run(list(command), check=True)


if __name__ == "__main__":
    main()

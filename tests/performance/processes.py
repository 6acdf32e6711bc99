"""What processes used, read from /proc: CPU seconds and memory, of some and of the whole machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e.cluster import processes
from e2e.cluster.lifecycle import Cluster
from e2e.operator import NAMESPACE, service_account_kubeconfig

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def rss_mib(pid: int) -> float:
    """As of now."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def machine_cpu_seconds() -> float:
    """What all processes of the machine used since boot, ours and others'."""
    user, nice, system, _idle, _iowait, irq, soft, *_ = (
        int(field) for field in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + soft) / _TICKS


def control_plane_cpu_seconds(cluster: Cluster) -> float:
    """etcd, API server, controllers, scheduler and KWOK together."""
    return sum(cpu_seconds(record.pid) for record in processes.records(cluster.state))


@dataclass(slots=True)
class OperatorUnderTest:
    """The operator under its own account, as in e2e, but where its pid is to be seen. `python` are arguments of the
    interpreter, such as `-m cProfile -o FILE`."""

    process: subprocess.Popen[bytes]
    directory: Path
    started: datetime

    @classmethod
    def start(cls, cluster: Cluster, python: Sequence[str]) -> OperatorUnderTest:
        directory = Path(tempfile.mkdtemp(prefix="rc-bench-operator-"))
        kubeconfig = service_account_kubeconfig(cluster, directory / "kubeconfig")
        command = [sys.executable, *python, "-m", "reserved_capacity", "run", "--kubeconfig", str(kubeconfig)]
        # One process alone: an election only adds a renewal every few seconds.
        command += ["--namespace", NAMESPACE, "--leader-elect=false", "--metrics-port", "0", "--probe-port", "0"]
        with (directory / "log").open("ab") as log:
            started = datetime.now(UTC)
            return cls(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL), directory, started)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def records(self) -> list[dict[str, Any]]:
        """The log so far; lines that are not JSON are a profiler's."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

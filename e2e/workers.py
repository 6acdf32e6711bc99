"""Owns the processes of `pytest e2e -n 2`: each has a control plane of its own, and of none is anything left, however it ends.

One waits while another works, so two take half of the time of one even on two cores. What is there once on a machine (what is
compiled or downloaded into the cache) is made under locks of files; ports are free ones; a file's tests stay together.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from e2e.cluster import lifecycle
from e2e.cluster.choice import choose
from e2e.cluster.state import ClusterDir

_AT_MOST = 4
_GOODBYE_SECONDS = 120.0

# The longest first, in seconds as measured beside other work; what is not named takes less than two minutes.
_SECONDS = {
    "test_money_promises.py": 380,
    "test_real_node.py": 240,
    "test_faults.py": 230,
    "test_main_job.py": 230,
    "test_chart.py": 220,
    "test_rollouts.py": 180,
    "test_kubectl_plugin.py": 180,
    "test_capacity_promises.py": 150,
    "test_argocd.py": 150,
    "test_gateway.py": 150,
    "test_admission.py": 140,
    "test_cluster.py": 140,
    "test_token_usage.py": 130,
    "test_gateway_policy.py": 130,
}


def how_many() -> int:
    """For `-n auto`: a control plane for each core, none where all have to share one."""
    if "CLUSTER_DIR" in os.environ or choose().backend != "local":
        return 0
    return min(_AT_MOST, len(os.sched_getaffinity(0)))


def longest_first(items: list[pytest.Item]) -> None:
    """So that nobody begins with the longest file when the others are done."""
    items.sort(key=lambda item: -_SECONDS.get(item.path.name, 0))


def place(config: pytest.Config) -> ClusterDir | None:
    """Where the cluster of this process is to be, if it is a worker."""
    given: dict[str, Any] = getattr(config, "workerinput", {})
    return ClusterDir(Path(given["cluster"])) if "cluster" in given else None


class EndOnce:
    """SIGTERM and Ctrl-C end the session of tests, and what it has started; another one does not disturb that."""

    def __init__(self) -> None:
        self._ends = False
        self._before: dict[signal.Signals, Any] = {}

    def install(self, *numbers: signal.Signals) -> None:
        self._before = {number: signal.signal(number, self._end) for number in numbers}

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def disarm(self) -> None:
        """It ends already."""
        self._ends = True

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if not self._ends:
            self._ends = True
            pytest.exit(f"ended by {signal.Signals(number).name}", returncode=128 + number)


class Workers:
    """In the process that has the workers."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="rc-e2e-"))
        self._end = EndOnce()

    def pytest_sessionstart(self) -> None:
        self._end.install(signal.SIGTERM)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker is made; also one for another that has crashed."""
        node.workerinput["cluster"] = str(self._root / node.gateway.id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Before xdist, which gives workers ten seconds: less than a control plane takes to stop."""
        pids = [int(path.read_text()) for path in self._root.glob("*.pid")]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _GOODBYE_SECONDS
        while time.monotonic() < deadline and any(self._root.glob("*.pid")):
            time.sleep(0.1)

    def pytest_unconfigure(self) -> None:
        """Workers that crashed have left theirs behind."""
        for path in self._root.iterdir():
            if path.is_dir():
                lifecycle.down(ClusterDir(path), purge=True)
        shutil.rmtree(self._root, ignore_errors=True)
        self._end.restore()


class Worker:
    """In a worker: it can be asked to end, and says when it has."""

    def __init__(self, cluster: ClusterDir) -> None:
        self._pid = cluster.root.with_suffix(".pid")
        self._end = EndOnce()

    def pytest_sessionstart(self) -> None:
        self._end.install(signal.SIGTERM, signal.SIGINT)
        self._pid.write_text(str(os.getpid()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """What fixtures have started is stopped now."""
        self._end.disarm()

    def pytest_unconfigure(self) -> None:
        self._end.restore()
        self._pid.unlink(missing_ok=True)

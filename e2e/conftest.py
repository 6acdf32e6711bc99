"""The cluster that the end-to-end tests share. Run them with `-n0`: there is one cluster, not one for each worker.

`CLUSTER_DIR=… pytest e2e` uses the cluster of that directory instead, and leaves it running if it ran before.
"""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType

import pytest

from e2e.cluster import lifecycle
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.state import ClusterDir


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the timeout of a test count its own time only: on a fresh machine the first fixture compiles Kubernetes. It is for
    what hangs; whatever waits has a bound of its own, and says what it waited for."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(900, func_only=True))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A running cluster: `.kubeconfig`, `.audit_log` (None where there is none) and `.kubectl("get", "nodes")`."""
    if hasattr(request.config, "workerinput"):
        pytest.fail("The end-to-end tests share one cluster; run them with -n0.")
    given = "CLUSTER_DIR" in os.environ
    state = ClusterDir.from_environment() if given else ClusterDir(Path(tempfile.mkdtemp(prefix="rc-e2e-")))
    if given and (running := lifecycle.current(state)):
        yield running
        return

    def stop() -> None:
        lifecycle.down(state, purge=not given)

    # The fixture stops the cluster after failed tests and after Ctrl-C; these two cover the other ways to end.
    atexit.register(stop)
    before = signal.signal(signal.SIGTERM, _end_session)
    try:
        with _progress_shown(request.config):
            started = lifecycle.up(state)
        yield started
    finally:
        signal.signal(signal.SIGTERM, before)
        stop()
        atexit.unregister(stop)


def _progress_shown(config: pytest.Config) -> AbstractContextManager[None]:
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()


def _end_session(_number: int, _frame: FrameType | None) -> None:
    pytest.exit("ended by SIGTERM", returncode=143)

"""The cluster that end-to-end tests share; with `-n 2` each of the two processes has one (e2e/workers.py).

`CLUSTER_DIR=… pytest e2e -n0` uses the cluster of that directory instead, and leaves it running if it ran before.
"""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from e2e import workers
from e2e.cluster import lifecycle
from e2e.cluster.choice import choose
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.state import ClusterDir


def pytest_xdist_auto_num_workers() -> int:
    return workers.how_many()


def pytest_configure(config: pytest.Config) -> None:
    if own := workers.place(config):
        config.pluginmanager.register(workers.Worker(own))
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(workers.Workers())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the timeout of a test count its own time only: on a fresh machine the first fixture compiles Kubernetes. It is for
    what hangs; whatever waits has a bound of its own, and says what it waited for."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(900, func_only=True))
    if workers.place(config):
        workers.longest_first(items)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A running cluster: `.kubeconfig`, `.audit_log` (None where there is none) and `.kubectl("get", "nodes")`."""
    given, own = "CLUSTER_DIR" in os.environ, workers.place(request.config)
    if own and (given or choose().backend != "local"):
        pytest.fail("This is one cluster, which tests use one after the other; run them with -n0.")
    state = ClusterDir.from_environment() if given else own or ClusterDir(Path(tempfile.mkdtemp(prefix="rc-e2e-")))
    if given and (running := lifecycle.current(state)):
        yield running
        return

    def stop() -> None:
        lifecycle.down(state, purge=not given)

    # The fixture stops the cluster after failed tests and after Ctrl-C; these two cover the other ways to end.
    atexit.register(stop)
    end = workers.EndOnce()
    if not own:
        end.install(signal.SIGTERM)
    try:
        with _progress_shown(request.config):
            started = lifecycle.up(state)
        yield started
    finally:
        end.restore()
        stop()
        atexit.unregister(stop)


def _progress_shown(config: pytest.Config) -> AbstractContextManager[None]:
    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()

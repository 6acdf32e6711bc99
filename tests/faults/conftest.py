"""Owns how the fault tests run: the real process (Kopf, watches, store, queue, loop) against a fake API server on a
socket, with a reconciler so small that whatever goes wrong is the machinery's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reserved_capacity.adapters.access import Access
from reserved_capacity.loop import Reconciler
from reserved_capacity.main import Operator
from reserved_capacity.ports import MODEL_INSTANCES, WATCHED, Cluster, JsonObject, Precondition, Ref, Resource
from reserved_capacity.queue import Key
from reserved_capacity.settings import Settings
from reserved_capacity.store import Store
from tests.fakes.apiserver import FakeApiServer, kubeconfig_for
from tests.fakes.cluster import FakeCluster


def instance(name: str) -> Ref:
    return Ref(MODEL_INSTANCES, "acme", name)


def keys_for(resource: Resource, old: JsonObject | None, new: JsonObject | None, store: Store) -> Iterable[Key]:
    if resource == MODEL_INSTANCES:
        metadata = (new or old or {})["metadata"]
        yield Key("instance", metadata["namespace"], metadata["name"])


def build(cluster: Cluster, store: Store, *_: Any) -> Mapping[str, Reconciler]:
    async def reconcile(key: Key) -> datetime | None:
        """Report each spec in the status: the least that has something to lose."""
        ref = instance(key.name)
        obj = store.get(ref)
        if obj is None or (obj.get("status") or {}).get("seen") == obj["spec"]:
            return None
        metadata = obj["metadata"]
        precondition = Precondition(metadata["uid"], metadata["resourceVersion"])
        await cluster.replace_status(ref, precondition, {**obj, "status": {"seen": obj["spec"]}})
        return None

    return {"instance": reconcile}


@dataclass
class Running:
    """A cluster, its API server, and the operator's process in this event loop."""

    cluster: FakeCluster
    server: FakeApiServer
    operator: Operator
    task: asyncio.Task[int]
    started: float = field(default_factory=time.monotonic)

    def make(self, name: str, **spec: Any) -> None:
        self.cluster.user_create(MODEL_INSTANCES, {"metadata": {"name": name, "namespace": "acme"}, "spec": spec})

    def settled(self, name: str) -> bool:
        obj = self.cluster.peek(instance(name))
        return obj is not None and (obj.get("status") or {}).get("seen") == obj["spec"]

    async def until(self, condition: Callable[[], bool], seconds: float = 8.0) -> float:
        """Wait for the condition; how long it took."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < seconds, f"not within {seconds} s"
            await asyncio.sleep(0.02)
        return time.monotonic() - started


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with start(tmp_path) as one:
        yield one


class start:  # noqa: N801 - reads as the statement that it is
    """`async with start(tmp_path) as running:` an operator that has synced, and resyncs every second."""

    def __init__(
        self, tmp_path: Path, cluster: FakeCluster | None = None, *, resync_seconds: float = 1.0, **settings: Any
    ) -> None:
        self._resync_seconds = resync_seconds
        self._directory = tmp_path
        self._cluster = cluster or FakeCluster()
        self._settings = {"leader_elect": False, "metrics_port": 0, "probe_port": 0, **settings}

    async def __aenter__(self) -> Running:
        self._server = await FakeApiServer(self._cluster).__aenter__()
        kubeconfig = kubeconfig_for(self._server, self._directory)
        settings = Settings(kubeconfig=kubeconfig, **self._settings)
        self._access = await Access.load(kubeconfig)
        operator = Operator(settings, self._access, build=build, route=keys_for)
        operator.resync.own_seconds = operator.resync.others_seconds = self._resync_seconds
        self.running = Running(self._cluster, self._server, operator, asyncio.create_task(operator.run()))
        await self.running.until(lambda: operator.role != "starting" and self._server.streams >= len(WATCHED))
        return self.running

    async def __aexit__(self, *_: object) -> None:
        self.running.operator.stop.set()
        try:
            await asyncio.wait_for(self.running.task, 15)
        finally:
            await self._access.close()
            await self._server.__aexit__()

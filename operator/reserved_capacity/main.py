"""Owns how the process is put together, what runs in which order, and how it ends.

Order: settings, adapters, one LIST of everything, Kopf's watches, leadership, work. The end is the reverse, and quick: no
new work, writes in flight finish, the Lease is given back, Kopf stops. Whatever ends by itself ends the process, with a
code that is not 0, so that a new one starts: a half-dead operator is worse than none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import kopf
import structlog

from reserved_capacity import handlers, reconcilers
from reserved_capacity.accounting import Books
from reserved_capacity.adapters import health, logging
from reserved_capacity.adapters.access import Access, in_cluster, own_namespace
from reserved_capacity.adapters.clock import OffsetClock, SystemClock
from reserved_capacity.adapters.gauges import StoreGauges
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.adapters.lease import Election, new_identity
from reserved_capacity.adapters.metrics import Metrics
from reserved_capacity.adapters.prometheus import PrometheusCounters
from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.adapters.server_metrics import ServerMetrics
from reserved_capacity.adapters.serving import Server
from reserved_capacity.loop import Loop, Reconciler, Route
from reserved_capacity.ports import WATCHED, Clock, Cluster, Counters
from reserved_capacity.queue import Key, WorkQueue
from reserved_capacity.reconcilers import routes
from reserved_capacity.reconcilers.billing.board import Billing
from reserved_capacity.resync import RESOURCES, Freshness, Resync
from reserved_capacity.settings import (
    DEFAULT_METRICS_PORT,
    DEFAULT_NAMESPACE,
    DEFAULT_PROBE_PORT,
    DRAIN_SECONDS,
    LEASE_NAME,
    WORKERS,
    Settings,
)
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.store import Store

log = structlog.get_logger(__name__)

Build = Callable[[Cluster, Store, Clock, Callable[[Key], None], Billing | None, str], Mapping[str, Reconciler]]

EXIT_OK = 0
EXIT_FAILED = 1


def run(settings: Settings) -> int:
    """Run the operator until SIGTERM or SIGINT (0) or until a part of it fails (1)."""
    logging.configure()
    code = EXIT_FAILED
    with asyncio.Runner() as runner:
        try:
            code = runner.run(_run(settings))
        except Exception:
            log.exception("cannot run")
        if code != EXIT_OK:
            # Whatever failed may have left a task that does not end, and then neither would the process: the new one
            # that is due would never start.
            sys.stderr.flush()
            os._exit(code)
    return code


async def _run(settings: Settings) -> int:
    access = await Access.load(settings.kubeconfig)
    # Members are asked for their counters where they can be: from inside the cluster.
    build = partial(
        reconcilers.build,
        counters=Counters(
            servers=ServerMetrics() if in_cluster() else None,
            gateways=PrometheusCounters(settings.prometheus_url) if settings.prometheus_url else None,
        ),
        pull_image=settings.pull_image,
    )
    operator = Operator(settings, access, build=build, route=routes.keys_for, keeps_books=True)
    try:
        return await operator.run()
    finally:
        await access.close()


class Operator:
    """The parts, and the order in which they run. One per process; made inside the event loop."""

    def __init__(
        self, settings: Settings, access: Access, *, build: Build, route: Route, keeps_books: bool = False
    ) -> None:
        self.settings = settings
        self.namespace = settings.namespace or own_namespace() or DEFAULT_NAMESPACE
        self.metrics = Metrics()
        self.store = Store(INDEXES)
        self.freshness = Freshness(time.monotonic)
        api_client = access.api_client()
        cluster = RememberingCluster(
            KubernetesCluster(api_client, reload=access.reload, wrote=self.metrics.wrote, trim=self.store.kept),
            self.store,
        )
        self.resync = Resync(cluster, self.store, self.freshness, missed=self.metrics.missed)
        clock = _clock(settings)
        self.metrics.show(StoreGauges(self.store, clock.now).text)
        self.metrics.watch_outbox(clock.now)
        queue = WorkQueue(asyncio.get_running_loop().time)
        self._build = partial(build, cluster, self.store, clock, queue.add)
        self._books = Books(settings, cluster, self.metrics) if keeps_books else None
        self.loop = Loop(
            cluster=cluster,
            store=self.store,
            clock=clock,
            route=route,
            reconcilers={},
            queue=queue,
            standing=reconcilers.STANDING if keeps_books else (),
            crowds=reconcilers.CROWDS,
            reconciled=self.metrics.reconciled,
        )
        self.election = Election(api_client, name=LEASE_NAME, namespace=self.namespace, identity=new_identity())
        self.registry = handlers.registry(self.store, access, self.freshness.heard, self.resync.where_to_watch_from)
        self.stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._kopf: list[asyncio.Task[Any]] = []
        self._kopf_stop = asyncio.Event()
        self._servers: list[Server] = []

    @property
    def role(self) -> str:
        if self.loop.is_open:
            return "leading"
        return "standby" if self.resync.synced() else "starting"

    async def run(self) -> int:
        """Until `stop` is set or a part fails; the exit code."""
        self._listen_to_signals()
        stopping = self._spawn("stop", self.stop.wait())
        code = EXIT_FAILED
        try:
            await self._serve()
            starting = self._spawn("start", self._start())
            await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()  # raises what went wrong
                self._tasks.discard(starting)
                await asyncio.wait({*self._tasks, *self._workers, *self._kopf}, return_when=asyncio.FIRST_COMPLETED)
            code = EXIT_OK if stopping.done() else EXIT_FAILED
        finally:
            await self._end(clean=code == EXIT_OK)
        return code

    # ---------------------------------------------------------------------------------------------------------- start

    async def _serve(self) -> None:
        vitals = health.Vitals(
            watch_ages=self.freshness.ages,
            away=lambda: self.freshness.away,
            since_away=self.freshness.since_away,
            oldest_due_seconds=self.loop.queue.stuck_for,
            synced=self.resync.synced,
            role=lambda: self.role,
        )
        self.metrics.watch(lambda: self.loop.queue.depth, self.freshness.ages)
        self.metrics.watch_work(self.loop.queue.oldest_due_age, lambda: self.loop.is_open)
        # Kubelets and Prometheus come from elsewhere; a laptop is not to be listened on from elsewhere.
        host = "0.0.0.0" if in_cluster() else "127.0.0.1"  # noqa: S104
        for name, application, port, usual in (
            ("probes", health.application(vitals), self.settings.probe_port, DEFAULT_PROBE_PORT),
            ("metrics", self.metrics.application(), self.settings.metrics_port, DEFAULT_METRICS_PORT),
        ):
            server = Server(name, application)
            self._servers.append(server)
            await server.start(host, port, usual=usual)

    async def _start(self) -> None:
        # Kopf looks only once for what the API server serves: not before every resource is there.
        await self.resync.first()
        self.loop.reconcilers = self._build(
            await self._books.open() if self._books is not None else None, self.namespace
        )
        self._kopf = list(
            await kopf.spawn_tasks(
                registry=self.registry,
                settings=handlers.settings(),
                standalone=True,
                clusterwide=True,
                stop_flag=self._kopf_stop,
            )
        )
        self._listen_to_signals()  # Kopf has taken them; it would stop before our writes have finished
        for resource in RESOURCES:
            self._spawn(f"resync {resource}", self.resync.forever(resource))
        self._spawn("deadlines", self.loop.poll_deadlines())
        self._workers = [asyncio.create_task(self.loop.work(), name=f"worker {number}") for number in range(WORKERS)]
        if self.settings.leader_elect:
            self._spawn("election", self.election.run(self.loop.open, self.loop.shut))
        else:
            self.loop.open()
        log.info("started", watching=len(WATCHED), leaderElect=self.settings.leader_elect, namespace=self.namespace)

    def _spawn(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        return task

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)

    # ------------------------------------------------------------------------------------------------------------ end

    async def _end(self, *, clean: bool) -> None:
        log.info("stopping", reason="told to" if clean else "a part has ended")
        for task in {*self._tasks, *self._workers}:
            if task.done() and task.get_name() != "stop" and not task.cancelled():
                log.error("ended by itself", part=task.get_name(), error=repr(task.exception()))
        self.loop.queue.close()
        if self._workers:
            # Not for ever: what is cut off here is an unknown outcome, and the next process reads before it writes.
            _, unfinished = await asyncio.wait(self._workers, timeout=DRAIN_SECONDS if clean else 1.0)
            await _cancel(unfinished)
        await _cancel(self._tasks)
        await self.election.release()
        if self._kopf:
            try:
                await handlers.stop(self._kopf, self._kopf_stop)
            except Exception as error:
                log.exception("kopf failed", error=repr(error))
        for server in self._servers:
            await server.stop()
        if self._books is not None:
            await self._books.close()
        log.info("stopped")


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def _clock(settings: Settings) -> Clock:
    return OffsetClock(settings.clock_offset_file) if settings.clock_offset_file is not None else SystemClock()

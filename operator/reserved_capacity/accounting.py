"""Owns how the books and the way to billing are put together: which database, which sink, under which name."""

from __future__ import annotations

import asyncio
import os
from urllib.parse import urlsplit

import structlog

from reserved_capacity.adapters.billing_sink import HttpBillingSink
from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.adapters.lease import new_identity
from reserved_capacity.adapters.metrics import Metrics
from reserved_capacity.ports import NAMESPACES, ApiError, ClusterReader, Ref
from reserved_capacity.reconcilers.billing.board import Billing
from reserved_capacity.settings import Settings, embedded_database

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 2.0


class Books:
    """The database and the sink of one process; both are opened by the first call that needs them (M7)."""

    def __init__(self, settings: Settings, cluster: ClusterReader, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._cluster = cluster
        self._database: Database | None = None
        self._sink: HttpBillingSink | None = None

    async def open(self) -> Billing:
        """Waits until the cluster says which one it is: its books are kept under that name."""
        settings, cluster = self._settings, await self._cluster_uid()
        url = settings.database_url or embedded_database(os.environ, cluster)
        self._database = Database(url, cluster=cluster)
        if settings.billing_url is not None:
            self._sink = HttpBillingSink(settings.billing_url, source=f"//{cluster}", token=settings.billing_token)
        return Billing(
            ledger=SqlLedger(self._database),
            sink=self._sink,
            sink_name=_shown(settings.billing_url),
            owner=new_identity(),
            charged=self._metrics.charged,
            lagging=self._metrics.lagging,
        )

    async def close(self) -> None:
        if self._sink is not None:
            await self._sink.close()
        if self._database is not None:
            await self._database.close()

    async def _cluster_uid(self) -> str:
        """The uid of kube-system: the nearest that a cluster has to a name of its own."""
        while True:
            try:
                namespace = await self._cluster.get(Ref(NAMESPACES, "", "kube-system"))
            except ApiError as error:
                log.warning("cluster not identified", kind=type(error).__name__, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            assert namespace is not None, "every cluster has it"  # noqa: S101
            return str(namespace["metadata"]["uid"])


def _shown(url: str | None) -> str | None:
    """The URL as a customer may read it: without credentials, path and query."""
    parts = urlsplit(url) if url is not None else None
    return f"{parts.scheme}://{parts.hostname}" if parts is not None else None

"""Owns the file that the rate-limit service watches: the limits in force, kept equal to the ConfigMaps by a LIST now and then.

The service reads the file anew whenever a file in its directory changes, so it must never see half of one; and it goes on
with the last one while this process, the operator or the API server are away.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from reserved_capacity.gateway.limits import InForce, in_force
from reserved_capacity.gateway.ratelimit import ratelimit_config
from reserved_capacity.ports import CONFIG_MAPS, ApiError, ClusterReader

log = structlog.get_logger(__name__)

FILE = "limits.yaml"
INTERVAL_SECONDS = 2.0


class LimitFile:
    """`directory` is the service's own (RUNTIME_ROOT/RUNTIME_SUBDIRECTORY/config); hidden files in it have to be ignored."""

    def __init__(self, cluster: ClusterReader, namespace: str, directory: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._directory = directory
        self._now = InForce()
        self._versions: dict[str, str | None] = {}

    async def follow(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """For ever."""
        while True:
            try:
                await self.refresh()
            except ApiError as error:
                log.warning("limits stay as they are", error=str(error))
            await sleep(INTERVAL_SECONDS)

    async def refresh(self) -> bool:
        """Whether the file is another than before. Raises ApiError."""
        listing = await self._cluster.list(CONFIG_MAPS, namespace=self._namespace)
        path = self._directory / FILE
        versions = {str(each["metadata"]["name"]): each["metadata"].get("resourceVersion") for each in listing.items}
        if versions == self._versions and path.exists():
            return False
        self._now = in_force(listing.items, self._now)
        self._versions = versions
        if self._now.complaints:
            log.error("limits are not valid, the ones before stay", complaints=list(self._now.complaints))
        # JSON is YAML, and says of every string that it is one.
        text = json.dumps(ratelimit_config(self._now.limits)) + "\n"
        if path.exists() and path.read_text() == text:
            return False
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._directory / f".{FILE}"
        unfinished.write_text(text)
        os.replace(unfinished, path)
        log.info("limits written", path=str(path), offerings=sorted(self._now.limits))
        return True

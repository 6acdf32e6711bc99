"""Owns `reserved-capacity follow-limits`: a process beside each rate-limit service, which keeps the service's file equal to
the limits that the operator has published. It reads ConfigMaps of one namespace, writes one file, and needs nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from reserved_capacity.adapters import logging
from reserved_capacity.adapters.access import Access, own_namespace
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.adapters.limit_file import LimitFile
from reserved_capacity.settings import DEFAULT_NAMESPACE


def run(kubeconfig: Path | None, namespace: str | None, directory: Path) -> int:
    """Until SIGTERM or SIGINT."""
    logging.configure()
    asyncio.run(_run(kubeconfig, namespace or own_namespace() or DEFAULT_NAMESPACE, directory))
    return 0


async def _run(kubeconfig: Path | None, namespace: str, directory: Path) -> None:
    access = await Access.load(kubeconfig)
    try:
        cluster = KubernetesCluster(access.api_client(), reload=access.reload)
        following = asyncio.create_task(LimitFile(cluster, namespace, directory).follow())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, following.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await following
    finally:
        await access.close()

"""Owns leadership: one Lease, through the library's elector. It only saves work; safety never rests on it.

The library's lock (37.0.2) cannot create a Lease (it passes a `pretty` of the wrong type), takes only an ApiException
for a failed look at it, and waits five minutes for an answer, so it is wrapped; and its elector does not give the Lease
back, so that is done here, with the version that was seen.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import structlog
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import electionconfig, leaderelection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

log = structlog.get_logger(__name__)

LEASE_SECONDS = 15
RENEW_SECONDS = 10
RETRY_SECONDS = 2
_CALL_SECONDS = 5.0
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError)


def new_identity() -> str:
    """Unique to this process: a restarted one waits for the old Lease like anybody else, unless it was given back."""
    return f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4()}"


class _PatientLock(LeaseLock):
    """A lock whose broken connections and time-outs are failed attempts, not the end of the election."""

    async def get(self, name: str, namespace: str) -> Any:
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                return await super().get(name, namespace)
        except _BROKEN as error:
            return False, ApiException(status=0, reason=f"{type(error).__name__}: {error}")

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        lease = client.V1Lease(metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        return await self._attempt(self.api_instance.create_namespaced_lease(namespace, lease))

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await self._attempt(super().update(name, namespace, updated_record))

    async def _attempt(self, call: Awaitable[Any]) -> bool:
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                return bool(await call)
        except (ApiException, *_BROKEN) as error:
            # Lost the race for it, or could not ask: the next attempt is due in two seconds.
            log.warning("lease call failed", lease=self.name, error=f"{type(error).__name__}: {error}"[:300])
            return False


class Election:
    """`run` never returns: who loses the Lease stands by, and wants it back. While the API server is away everybody loses
    it and nobody can win it, so to end for that would be a restart of all operators at once (docs/adr/0013)."""

    def __init__(self, api_client: Any, *, name: str, namespace: str, identity: str) -> None:
        self._lock = _PatientLock(name, namespace, identity, api_client)
        self.leading = False

    async def run(self, won: Callable[[], None], lost: Callable[[], None]) -> None:
        async def lead() -> None:
            self.leading = True
            log.info("leading", lease=self._lock.name, namespace=self._lock.namespace, identity=self._lock.identity)
            won()

        async def lose() -> None:
            self.leading = False
            log.warning("lease lost", lease=self._lock.name, identity=self._lock.identity)
            lost()

        while True:
            await leaderelection.LeaderElection(
                electionconfig.Config(self._lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, lead, lose)
            ).run()

    async def release(self) -> None:
        """Give the Lease back, after `run` was cancelled and nothing is written any more, so that a successor need not
        wait for it to run out. Best effort: it runs out by itself."""
        if not self.leading:
            return
        self.leading = False
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                found, record = await self._lock.get(self._lock.name, self._lock.namespace)
                lease = self._lock.lease_reference
                if not found or record.holder_identity != self._lock.identity or lease is None or lease.spec is None:
                    return
                lease.spec.holder_identity = None
                await self._lock.api_instance.replace_namespaced_lease(
                    name=self._lock.name, namespace=self._lock.namespace, body=lease
                )
                log.info("lease released", lease=self._lock.name)
        except (ApiException, *_BROKEN) as error:
            log.warning("lease not released", lease=self._lock.name, error=f"{type(error).__name__}: {error}")

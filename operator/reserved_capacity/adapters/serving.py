"""Owns the listening sockets of the process: small aiohttp applications on a port each."""

from __future__ import annotations

import errno

import structlog
from aiohttp import web

log = structlog.get_logger(__name__)


class Server:
    """One application on one port. `port` None: `usual`, or any that is free if somebody has that one."""

    def __init__(self, name: str, application: web.Application) -> None:
        self._name = name
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        self.port = 0

    async def start(self, host: str, port: int | None, *, usual: int) -> None:
        """Raises OSError if the port was asked for and cannot be had."""
        await self._runner.setup()
        wanted = usual if port is None else port
        try:
            await self._listen(host, wanted)
        except OSError as error:
            if port is not None or error.errno != errno.EADDRINUSE:
                raise
            await self._listen(host, 0)
        log.info("listening", what=self._name, host=host, port=self.port)

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _listen(self, host: str, port: int) -> None:
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = int(self._runner.addresses[-1][1])

"""The stream of a watch on its way through the proxy, event by event."""

from __future__ import annotations

import asyncio
import json

import aiohttp
from aiohttp import web

from e2e.faults.plan import Fault, Plan

_GONE = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
_EXPIRED = json.dumps({"type": "ERROR", "object": {**_GONE, "message": "too old resource version"}}).encode() + b"\n"
_STALLED_SECONDS = 300.0


async def relay(upstream: aiohttp.StreamReader, response: web.StreamResponse, plan: Plan, request: web.Request) -> None:
    """Pass on the lines of a watch until either side ends it, or a fault does."""
    buffer = b""
    async for chunk in upstream.iter_any():
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            if not await _passed(line + b"\n", response, plan, request):
                return


async def _passed(line: bytes, response: web.StreamResponse, plan: Plan, request: web.Request) -> bool:
    """Pass on one line; whether the stream goes on."""
    event = json.loads(line)
    fault = None if event["type"] == "BOOKMARK" else plan.for_event(request.path, event["type"], event["object"])
    match fault:
        case Fault.MISSED_DELETE:
            return True
        case Fault.EXPIRED:
            await response.write(_EXPIRED)
            return False
        case Fault.TRUNCATED:
            await response.write(line[: len(line) // 2])
            return False
        case Fault.STALLED:
            await asyncio.sleep(_STALLED_SECONDS)
            return False
        case _:
            await response.write(line)
            return True

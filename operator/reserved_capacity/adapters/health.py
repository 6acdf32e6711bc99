"""Owns what the kubelet is told: /livez fails when only a restart can help, /readyz while there is nothing to offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

STALE_WATCH_SECONDS = 90.0
STUCK_QUEUE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """Looks at the running process. `watch_ages`: seconds since the API server was last heard of each kind (an event,
    a bookmark or a complete LIST). `oldest_due_seconds`: for which the queue has not moved, 0.0 on a standby. `role`: leading, standby."""

    watch_ages: Callable[[], Mapping[str, float]]
    oldest_due_seconds: Callable[[], float]
    synced: Callable[[], bool]
    role: Callable[[], str]

    def problems(self) -> dict[str, object]:
        """What only a restart can mend; empty when alive."""
        found: dict[str, object] = {}
        stale = {kind: round(age, 1) for kind, age in self.watch_ages().items() if age > STALE_WATCH_SECONDS}
        if stale:
            found["staleWatches"] = stale
        oldest = self.oldest_due_seconds()
        if oldest > STUCK_QUEUE_SECONDS:
            found["queueStuckSeconds"] = round(oldest, 1)
        return found


def application(vitals: Vitals) -> web.Application:
    """GET /livez and /readyz: 200 or 500, with a JSON body that says which part it is."""

    async def livez(_request: web.Request) -> web.Response:
        problems = vitals.problems()
        return web.json_response({"alive": not problems, **problems}, status=500 if problems else 200)

    async def readyz(_request: web.Request) -> web.Response:
        ready = vitals.synced()
        body = {"ready": ready, "synced": ready, "role": vitals.role()}
        return web.json_response(body, status=200 if ready else 500)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    return app

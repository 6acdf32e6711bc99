"""Owns what the kubelet is told: /livez fails when only a restart can help, /readyz while there is nothing to offer.

An API server that is away is mended by nobody's restart: what it keeps waiting counts from its return (docs/adr/0013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

STALE_WATCH_SECONDS = 90.0
STUCK_QUEUE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """Looks at the running process. `watch_ages`: seconds since the API server was last heard of each kind (an event,
    a bookmark or a complete LIST). `away`, `since_away`: whether the API server answers nothing, and seconds since that
    was last so. `oldest_due_seconds`: for which the queue has not moved, 0.0 on a standby. `role`: leading, standby."""

    watch_ages: Callable[[], Mapping[str, float]]
    away: Callable[[], bool]
    since_away: Callable[[], float]
    oldest_due_seconds: Callable[[], float]
    synced: Callable[[], bool]
    role: Callable[[], str]

    def problems(self) -> dict[str, object]:
        """What only a restart can mend; empty when alive."""
        found: dict[str, object] = {}
        since_away = self.since_away()
        ages = {kind: min(age, since_away) for kind, age in self.watch_ages().items()}
        stale = {kind: round(age, 1) for kind, age in ages.items() if age > STALE_WATCH_SECONDS}
        if stale:
            found["staleWatches"] = stale
        oldest = min(self.oldest_due_seconds(), since_away)
        if oldest > STUCK_QUEUE_SECONDS:
            found["queueStuckSeconds"] = round(oldest, 1)
        return found


def application(vitals: Vitals) -> web.Application:
    """GET /livez and /readyz: 200 or 500, with a JSON body that says which part it is."""

    async def livez(_request: web.Request) -> web.Response:
        problems = vitals.problems()
        return web.json_response({"alive": not problems, **problems}, status=500 if problems else 200)

    async def readyz(_request: web.Request) -> web.Response:
        synced, away = vitals.synced(), vitals.away()
        ready = synced and not away
        body = {"ready": ready, "synced": synced, "apiServer": "away" if away else "answers", "role": vitals.role()}
        return web.json_response(body, status=200 if ready else 500)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    return app

"""Reads the API server's audit log: who asked for what, and when.

The line of a request may reach the log a moment after its answer reached the client; a test that expects a line polls.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Event:
    """One request. `resource` is written as kubectl does: `pods`, `deployments.apps`, `deployments.apps/status`."""

    at: datetime
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    dry_run: bool

    @property
    def is_write(self) -> bool:
        """Whether the request was to change something, also one that the API server refused."""
        return self.verb in WRITES and not self.dry_run


def events(log: Path, user: str | None = None, since: datetime | None = None) -> Iterator[Event]:
    """Yield the requests of a user (default: of everybody) since an aware time, one event for each request."""
    with log.open("rb") as lines:
        complete = itertools.takewhile(lambda line: line.endswith(b"\n"), lines)  # the last one is being written
        yield from (event for event in parsed(complete, user) if since is None or event.at >= since)


def parsed(lines: Iterable[bytes], user: str | None = None) -> Iterator[Event]:
    """Yield the requests of a user (default: of everybody) in complete lines of a log."""
    for line in lines:
        raw = json.loads(line)
        if _is_the_one_event_of_its_request(raw):
            event = _parse(raw)
            if user is None or event.user == user:
                yield event


def count_writes(log: Path, user: str | None = None, since: datetime | None = None) -> Counter[tuple[str, str, str]]:
    """Count write requests by (user, verb, resource)."""
    return Counter((event.user, event.verb, event.resource) for event in events(log, user, since) if event.is_write)


def _is_the_one_event_of_its_request(raw: dict[str, Any]) -> bool:
    # A watch is logged when it begins and again when it ends, which may be minutes later.
    return bool(raw["stage"] == ("ResponseStarted" if raw["verb"] == "watch" else "ResponseComplete"))


def _parse(raw: dict[str, Any]) -> Event:
    target = raw.get("objectRef", {})
    group, subresource = target.get("apiGroup"), target.get("subresource")
    resource = target.get("resource", "") + (f".{group}" if group else "") + (f"/{subresource}" if subresource else "")
    return Event(
        at=datetime.fromisoformat(raw["requestReceivedTimestamp"]),
        user=raw.get("impersonatedUser", raw["user"])["username"],
        verb=raw["verb"],
        resource=resource,
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=raw.get("responseStatus", {}).get("code", 0),
        dry_run="dryRun" in parse_qs(urlsplit(raw["requestURI"]).query),
    )

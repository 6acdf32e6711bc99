"""Owns what is measured: CPU of everybody in a window, the operator's requests, its turns, and how far it is."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import IO

from e2e.cluster import audit
from e2e.cluster.lifecycle import Cluster
from e2e.operator import USER
from tests.performance.processes import (
    OperatorUnderTest,
    control_plane_cpu_seconds,
    cpu_seconds,
    machine_cpu_seconds,
    rss_mib,
)

QUIET_SECONDS = 5.0
EVERY_SECONDS = 15.0


@dataclass(slots=True)
class Usage:
    """CPU seconds of everybody in a window, and how long it was."""

    seconds: float
    client: float
    operator: float
    control_plane: float
    others: float

    @property
    def ours(self) -> float:
        """CPU seconds of the operator or the client, and of the control plane: no neighbour lengthens them much."""
        return self.operator + self.client + self.control_plane


class Meter:
    """From when it is made."""

    def __init__(self, cluster: Cluster, operator: OperatorUnderTest | None = None) -> None:
        self._cluster, self._operator = cluster, operator
        self._from = self._read()

    def used(self) -> Usage:
        seconds, client, operator, plane, machine = (
            now - before for now, before in zip(self._read(), self._from, strict=True)
        )
        return Usage(seconds, client, operator, plane, max(0.0, machine - client - operator - plane))

    def _read(self) -> tuple[float, ...]:
        return (
            time.monotonic(),
            cpu_seconds(os.getpid()),
            cpu_seconds(self._operator.pid) if self._operator else 0.0,
            control_plane_cpu_seconds(self._cluster),
            machine_cpu_seconds(),
        )


@dataclass(slots=True)
class Requests:
    """The operator's requests in the audit log, which is read once, as it grows: in the end it has gigabytes."""

    cluster: Cluster
    _seen: list[audit.Event] = field(default_factory=list)
    _log: IO[bytes] | None = None
    _rest: bytes = b""

    def since(self, start: datetime, until: datetime | None = None) -> Iterator[audit.Event]:
        self._read()
        return (each for each in self._seen if each.at >= start and (until is None or each.at < until))

    def writes(self, start: datetime, until: datetime | None = None) -> Counter[str]:
        """Writes but for the Lease, by verb and resource."""
        return Counter(
            f"{event.verb} {event.resource}"
            for event in self.since(start, until)
            if event.is_write and not event.resource.startswith("leases")
        )

    def first_write(self, start: datetime) -> datetime | None:
        return next((each.at for each in self.since(start) if each.is_write and "leases" not in each.resource), None)

    async def quiet(self) -> None:
        """Wait until the operator has written nothing for a while."""
        await asyncio.sleep(QUIET_SECONDS)
        while self.writes(datetime.now(UTC) - timedelta(seconds=QUIET_SECONDS)):  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(1.0)

    def _read(self) -> None:
        if self._log is None:
            assert self.cluster.audit_log is not None, "only the built control plane has an audit log"
            self._log = self.cluster.audit_log.open("rb")
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        self._seen += audit.parsed((line for line in lines if USER.encode() in line), USER)


def turns(operator: OperatorUnderTest) -> Counter[str]:
    """Turns so far by reconciler and outcome, from the operator's own metrics."""
    text = _metrics(operator)
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("reservedcapacity_reconcile_seconds_count"):
            labels = dict(each.split("=") for each in line[line.index("{") + 1 : line.index("}")].split(","))
            found[f"{labels['reconciler']} {labels['outcome']}".replace('"', "")] = int(float(line.split()[-1]))
    return found


def _metrics(operator: OperatorUnderTest) -> str:
    records = operator.records()
    port = next((each["port"] for each in records if each.get("event") == "listening" and each["what"] == "metrics"), 0)
    if not port:
        return ""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return str(answer.read().decode())


@asynccontextmanager
async def progress(what: str, operator: OperatorUnderTest, reached: Callable[[], object]) -> AsyncIterator[None]:
    """Say every quarter of a minute how far it is, on stderr: some of this takes half an hour."""
    began = time.monotonic()

    async def tell() -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            taken, cpu = time.monotonic() - began, cpu_seconds(operator.pid)
            sys.stderr.write(
                f"{what}: {reached()} after {taken:.0f} s; operator {cpu:.0f} s of CPU, {rss_mib(operator.pid):.0f} MiB\n"
            )
            sys.stderr.flush()

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


def moment(operator: OperatorUnderTest, event: str) -> datetime | None:
    """When the operator's log says that for the first time."""
    at = next((each["timestamp"] for each in operator.records() if each.get("event") == event), None)
    return datetime.fromisoformat(at) if at else None

"""Owns gateways that have counted what a test says, behind `reserved_capacity.ports.GatewayCounters`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reserved_capacity.gateway.usage import BEFORE, Counter, Readings, Samples, Window


@dataclass(frozen=True, slots=True)
class Seen:
    """One scrape of one Envoy's counter."""

    offering: str
    name: str
    account: str
    kind: str
    target: str
    at: datetime
    value: int


@dataclass(slots=True)
class FakeGateways:
    """`away`: nobody answers."""

    away: bool = False
    asked: list[str] = field(default_factory=list)
    _seen: list[Seen] = field(default_factory=list)
    _uptimes: list[tuple[str, datetime, int]] = field(default_factory=list)

    def scrape(
        self,
        at: datetime,
        value: int,
        kind: str = "input",
        *,
        account: str = "acme",
        target: str = "envoy 1",
        **of: str,
    ) -> None:
        name = "tokens" if kind in ("input", "output", "cached_input") else "requests"
        self._seen.append(Seen(of.get("offering", "gpt-4.1"), name, account, kind, target, at, value))

    def up(self, at: datetime, seconds: int, target: str = "envoy 1") -> None:
        self._uptimes.append((target, at, seconds))

    async def read(self, offering: str, window: Window) -> Readings | None:
        self.asked.append(offering)
        if self.away:
            return None
        found: dict[tuple[str, str, str, str], list[tuple[datetime, int]]] = {}
        for each in self._seen:
            if each.offering == offering:
                found.setdefault((each.name, each.account, each.kind, each.target), []).append((each.at, each.value))
        counters = [Counter(*key, samples) for key, values in found.items() if (samples := _scraped(values, window))]
        counting = {
            each.target
            for each in self._seen
            if each.name == "requests" and window.start - BEFORE < each.at <= window.end
        }
        uptimes = {}
        for target in counting:
            seen = [(at, seconds) for name, at, seconds in self._uptimes if name == target]
            if samples := _scraped(seen, window):
                uptimes[target] = samples
        return Readings(tuple(counters), uptimes)


def _scraped(values: list[tuple[datetime, int]], window: Window) -> Samples:
    return [
        ((at - window.start) // timedelta(milliseconds=1), value)
        for at, value in sorted(values)
        if window.start - BEFORE < at <= window.end
    ]

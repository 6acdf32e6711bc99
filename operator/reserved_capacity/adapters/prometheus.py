"""Reads what the gateways have counted, from the Prometheus that scrapes them (ADR 0052).

A Prometheus that is away is said once, and that it is back; its address, which may hold a password, is in no log.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import aiohttp
import structlog

from reserved_capacity.gateway.envoy import REQUESTS_COUNTER, STATS_PREFIX, TOKENS_COUNTER
from reserved_capacity.gateway.usage import BEFORE, MINUTES, Counter, Readings, Window

log = structlog.get_logger(__name__)

_SECONDS = 10.0
_PREFIX = f"envoy_{STATS_PREFIX}_"
_KINDS = {TOKENS_COUNTER: "direction", REQUESTS_COUNTER: "outcome"}
_UPTIME = "envoy_server_uptime"
_LOOK = f"{MINUTES + BEFORE // timedelta(minutes=1)}m"


class PrometheusCounters:
    """`reserved_capacity.ports.GatewayCounters`, by the HTTP API of Prometheus, or of what answers as it does."""

    def __init__(self, url: str, *, seconds: float = _SECONDS) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._seconds = seconds
        self._away = False

    async def read(self, offering: str, window: Window) -> Readings | None:
        try:
            async with (
                asyncio.timeout(self._seconds),
                aiohttp.ClientSession(trust_env=False) as session,
            ):
                counters = await self._ask(session, _counters(offering), window)
                targets = _series(await self._ask(session, _targets(), window), "vector")
                uptimes = await self._ask(session, _uptimes(targets), window) if targets else None
            # Much is said of many accounts; the loop has leases and probes to see to meanwhile.
            found = await asyncio.to_thread(_readings, counters, uptimes, window)
        except (
            aiohttp.ClientError,
            OSError,
            ArithmeticError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:
            if not self._away:
                log.warning("use is not measured: Prometheus does not answer", error=type(error).__name__)
            self._away = True
            return None
        if self._away:
            log.info("use is measured again")
        self._away = False
        return found

    async def _ask(self, session: aiohttp.ClientSession, query: str, window: Window) -> bytes:
        """What answers a query. Raises whatever is wrong."""
        asked = {"query": query, "time": _seconds(window.end)}
        async with session.post(self._url, data=asked, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}")
            return await answer.read()


def _readings(counters: bytes, uptimes: bytes | None, window: Window) -> Readings:
    running = _series(uptimes, "matrix") if uptimes is not None else []
    return Readings(
        tuple(_parsed(_series(counters, "matrix"), window)),
        {_target(each["metric"]): _samples(each["values"], window) for each in running},
    )


def _series(answer: bytes, kind: str) -> list[Any]:
    data = json.loads(answer)["data"]
    if data["resultType"] != kind:
        raise ValueError(f"not a {kind}")
    series: list[Any] = data["result"]
    return series


def _counters(offering: str) -> str:
    """Every sample as it was scraped: no function of PromQL loses nothing. With `_total`, as scrapers name counters that
    ask in the newer format."""
    selected = f'{{__name__=~"{_PREFIX}({"|".join(_KINDS)})(_total)?",offering={json.dumps(offering)}}}'
    return f"{selected}[{_LOOK}]"


def _targets() -> str:
    """The Envoys that counted for anybody: others, as of a mesh, may be thousands. One that serves the offering and was
    not asked for it yet says that nothing was used."""
    requests = f'{{__name__=~"{_PREFIX}{REQUESTS_COUNTER}(_total)?"}}'
    return f"group by (job, instance) (last_over_time({requests}[{_LOOK}]))"


def _uptimes(targets: list[Any]) -> str:
    names = {label: sorted({str(each["metric"].get(label, "")) for each in targets}) for label in ("job", "instance")}
    selected = ",".join(f"{label}=~{json.dumps('|'.join(map(re.escape, of)))}" for label, of in names.items())
    return f"{_UPTIME}{{{selected}}}[{_LOOK}]"


def _parsed(series: list[Any], window: Window) -> Iterator[Counter]:
    for each in series:
        labels = each["metric"]
        name = str(labels["__name__"]).removeprefix(_PREFIX).removesuffix("_total")
        yield Counter(
            name, str(labels["account"]), str(labels[_KINDS[name]]), _target(labels), _samples(each["values"], window)
        )


def _target(labels: Mapping[str, str]) -> str:
    return f"{labels.get('job', '')} {labels.get('instance', '')}"


def _samples(values: list[Any], window: Window) -> list[tuple[int, int]]:
    """Without one that is exactly BEFORE: some versions tell it."""
    start, first = 1000 * _seconds(window.start), BEFORE // timedelta(milliseconds=-1)
    timed = ((round(at * 1000) - start, _whole(text)) for at, text in values)
    return [(at, whole) for at, whole in timed if whole is not None and at > first]


def _whole(text: str) -> int | None:
    """None: NaN and the like, which no counter of ours is."""
    if text.isdecimal():  # nearly always, and quick
        return int(text)
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return int(value) if value.is_finite() and value >= 0 else None


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())

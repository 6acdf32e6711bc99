"""Reads what inference servers count of themselves, from the metrics that they serve (behaviour.md R4, S7).

Nothing but numbers: no prompt or answer is in them (R6).
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_SECONDS = 2.0

# Output tokens, and the seconds that it took to make them, as the servers name them.
_COUNTERS = (
    ("vllm:generation_tokens_total", "vllm:request_decode_time_seconds_sum"),
    ("llamacpp:tokens_predicted_total", "llamacpp:tokens_predicted_seconds_total"),
    ("sglang:generation_tokens_total", ""),
    ("tgi_request_generated_tokens_sum", "tgi_request_inference_duration_sum"),
)


class ServerMetrics:
    """`reserved_capacity.ports.TokenCounters`, over HTTP to the members' own addresses."""

    async def read(self, url: str) -> tuple[int, int | None] | None:
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.get(url, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    return None
                text = (await answer.read()).decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return counted(text)


def counted(text: str) -> tuple[int, int | None] | None:
    """Output tokens and busy milliseconds of Prometheus' text format; None: no server that we know."""
    sums = _sums(text)
    for tokens, seconds in _COUNTERS:
        if tokens in sums:
            busy = sums.get(seconds)
            return round(sums[tokens]), None if busy is None else round(busy * 1000)
    return None


def _sums(text: str) -> Mapping[str, float]:
    """Every sample by its name, whatever its labels."""
    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    except ValueError:
        return {}
    return sums

"""The rate-limit service as its documentation has it, in memory: which counter a descriptor means, and when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Entries = tuple[tuple[str, str], ...]


@dataclass
class Service:
    """`counts` are of one minute, under keys that do not contain the limit."""

    config: dict[str, Any]
    counts: Counter[Entries] = field(default_factory=Counter)

    def ask(self, domain: str, asked: Sequence[tuple[Entries, int]]) -> tuple[bool, frozenset[int]]:
        """Whether the request is refused, and the places of the counters that are over in quota mode."""
        assert domain == self.config["domain"]
        refused, full = False, set()
        for place, (entries, hits) in enumerate(asked):
            found = self._limit(entries)
            if found is None:
                continue
            self.counts[entries] += hits
            if self.counts[entries] > found["rate_limit"]["requests_per_unit"]:
                if found.get("quota_mode"):
                    full.add(place)
                else:
                    refused = True
        return refused, frozenset(full)

    def _limit(self, entries: Entries) -> dict[str, Any] | None:
        """Level by level: the descriptor with this value, else the one without a value."""
        level, found = self.config["descriptors"], None
        for key, value in entries:
            named = [each for each in level if each["key"] == key]
            found = next((each for each in named if each.get("value") == value), None) or next(
                (each for each in named if "value" not in each), None
            )
            if found is None:
                return None
            level = found.get("descriptors", [])
        return found if found is not None and "rate_limit" in found else None

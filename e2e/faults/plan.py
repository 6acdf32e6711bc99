"""Which request or event goes wrong, and how: a pure function of a seed and of how often the same has been asked before.

Two runs meet the same faults as far as they ask the same; the order in which requests of different objects arrive, which
no seed can fix, does not matter.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """What can go wrong with a call, then with the stream of a watch."""

    CONFLICT = "409"
    INVALID = "422"
    THROTTLED = "429"
    FAILED = "500"
    UNAVAILABLE = "503"
    UNKNOWN_USER = "401"
    ANSWER_LOST = "504 after commit"
    RESET = "reset"
    RESET_AFTER_COMMIT = "reset after commit"
    HANG = "hang"

    EXPIRED = "410"
    STALLED = "stall"
    MISSED_DELETE = "missed delete"
    TRUNCATED = "truncated line"


STREAM_FAULTS = frozenset({Fault.EXPIRED, Fault.STALLED, Fault.MISSED_DELETE, Fault.TRUNCATED})
CALL_FAULTS = frozenset(Fault) - STREAM_FAULTS
_READS = frozenset({"GET", "WATCH"})
# What only a write can meet: to a read it would be an ordinary failure.
_OF_WRITES = frozenset({Fault.CONFLICT, Fault.INVALID, Fault.ANSWER_LOST, Fault.RESET_AFTER_COMMIT})


@dataclass(frozen=True, slots=True)
class Rule:
    """In `scope` (a customer: a namespace, and the nodes and classes that carry its name; empty: everywhere) this share
    of calls, or of events, meets one of these faults; each at most so often as `limits` says."""

    scope: str
    faults: frozenset[Fault]
    share: float
    limits: Mapping[Fault, int] = field(default_factory=dict)

    def covers_path(self, path: str) -> bool:
        if not self.scope:
            return True
        return f"/namespaces/{self.scope}/" in f"{path}/" or f"/{self.scope}-" in path

    def covers_object(self, obj: Mapping[str, Any]) -> bool:
        metadata = obj.get("metadata") or {}
        names = (metadata.get("namespace"), str(metadata.get("name", "")).partition("-")[0])
        return not self.scope or self.scope in names


@dataclass(slots=True)
class Plan:
    """`met` counts the faults that were handed out, by scope and fault; `met_by_writes` those that a write met."""

    seed: int
    rules: tuple[Rule, ...] = ()
    met: Counter[tuple[str, Fault]] = field(default_factory=Counter)
    met_by_writes: Counter[tuple[str, Fault]] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)

    def for_call(self, method: str, path: str) -> Fault | None:
        """The fault of this call, or None. `path` is without the query."""
        possible = CALL_FAULTS - _OF_WRITES if method in _READS else CALL_FAULTS
        for rule in self.rules:
            if rule.faults & possible and rule.covers_path(path):
                fault = self._drawn(rule, rule.faults & possible, f"{method} {path}")
                if fault is not None and method not in _READS:
                    self.met_by_writes[rule.scope, fault] += 1
                return fault
        return None

    def for_event(self, collection: str, kind: str, obj: Mapping[str, Any]) -> Fault | None:
        """The fault that this event of a watch meets, or None."""
        possible = STREAM_FAULTS if kind == "DELETED" else STREAM_FAULTS - {Fault.MISSED_DELETE}
        for rule in self.rules:
            if rule.faults & possible and rule.covers_object(obj):
                metadata = obj["metadata"]
                name = f"{metadata.get('namespace', '')}/{metadata['name']}"
                return self._drawn(rule, rule.faults & possible, f"{kind} {collection} {name}")
        return None

    def scope_of(self, path: str) -> str:
        """The customer whose call this is, if there is a rule for it."""
        return next((rule.scope for rule in self.rules if rule.scope and rule.covers_path(path)), "")

    def count(self, fault: Fault) -> int:
        return sum(times for (_, met), times in self.met.items() if met == fault)

    def _drawn(self, rule: Rule, faults: frozenset[Fault], what: str) -> Fault | None:
        self._asked[what] += 1
        chance = random.Random(f"{self.seed} {what} {self._asked[what]}")  # noqa: S311 - a replay, not a secret
        if chance.random() >= rule.share:
            return None
        fault = chance.choice(sorted(faults))
        if self.met[rule.scope, fault] >= rule.limits.get(fault, 1_000_000):
            return None
        self.met[rule.scope, fault] += 1
        return fault

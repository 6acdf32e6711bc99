"""Owns what the planning of an offering has found, for the reservations that ask: a cache, made anew after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reserved_capacity.domain.conditions import ConditionValue
from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.gateway.usage import Usage


@dataclass(frozen=True, slots=True)
class AccountRate:
    """An account's limit for an offering: effective = base + added."""

    base: TokenRate
    added: TokenRate


@dataclass(frozen=True, slots=True)
class BackedBy:
    """The fleet instance behind a reservation, and the CU of it that its units need."""

    instance: str
    compute_units: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What concerns one reservation. `weighed` are its claims that were planned with, `counting` those of them that were
    read back from the published limits."""

    account: AccountRate
    weighed: frozenset[str]
    counting: frozenset[str]
    revision: int
    backed: ConditionValue
    published: ConditionValue
    backing: BackedBy | None = None


@dataclass(slots=True)
class LimitsBoard:
    """`gateway_away_until`: Envoy Gateway was looked for and is not installed; it is looked for again then."""

    gateway_away_until: datetime | None = None
    _findings: dict[str, Mapping[tuple[str, str], Finding]] = field(default_factory=dict)

    def post(self, offering: str, findings: Mapping[tuple[str, str], Finding]) -> set[tuple[str, str]]:
        """Replace an offering's findings; the reservations (namespace, name) for which something is new."""
        before = self._findings.get(offering, {})
        self._findings[offering] = findings
        return {place for place in {*before, *findings} if before.get(place) != findings.get(place)}

    def of(self, offering: str, namespace: str, name: str) -> Finding | None:
        return self._findings.get(offering, {}).get((namespace, name))


@dataclass(slots=True)
class UsageBoard:
    """What each reservation, by (namespace, name), used. What was not measured by this process is not on it."""

    _found: dict[tuple[str, str], Usage] = field(default_factory=dict)

    def post(self, found: Mapping[tuple[str, str], Usage]) -> list[tuple[str, str]]:
        """Replace everything; the reservations for which something is new."""
        before, self._found = self._found, dict(found)
        return sorted(place for place, usage in found.items() if before.get(place) != usage)

    def of(self, namespace: str, name: str) -> Usage | None:
        return self._found.get((namespace, name))

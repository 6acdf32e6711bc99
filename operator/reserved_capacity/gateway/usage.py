"""Owns what a gateway's counters say of use: samples of an hour become `status.usage` (ADR 0052).

Envoys count by account and offering, each for itself and since its own start. What is shown is what they counted in the
last hour, to the token: no rate is guessed between samples. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Final

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.gateway import ratelimit
from reserved_capacity.gateway.envoy import CACHED_DIRECTION, REJECTED, REQUESTS_COUNTER, SPILLED, TOKENS_COUNTER

MINUTES: Final = 60
LENGTH: Final = "1h"
BEFORE: Final = timedelta(minutes=5)
"""Of samples before a window, from which its first are counted on."""
_MINUTE: Final = timedelta(minutes=1)
_MINUTE_MS: Final = 60_000
_RECENT_MS: Final = (MINUTES - 2) * _MINUTE_MS
_DIGITS: Final = 10_000
_MOST: Final = Decimal("999999999.9999")

Samples = Sequence[tuple[int, int]]
"""(milliseconds after the window's start, value) of every scrape, in order of time; BEFORE it they are negative."""


@dataclass(frozen=True, slots=True)
class Window:
    """The MINUTES whole minutes before `end`, itself a whole minute."""

    end: datetime

    @classmethod
    def before(cls, now: datetime) -> Window:
        return cls(now.replace(second=0, microsecond=0))

    @property
    def start(self) -> datetime:
        return self.end - MINUTES * _MINUTE

    def minute(self, number: int) -> datetime:
        """When minute `number`, counted from 0, began."""
        return self.start + number * _MINUTE


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter of one Envoy, which `target` names. `kind` is its direction or its outcome."""

    name: str
    account: str
    kind: str
    target: str
    samples: Samples


@dataclass(frozen=True, slots=True)
class Readings:
    """What was read of an offering. `uptimes`: for how many seconds each target had been running, where it says so."""

    counters: tuple[Counter, ...] = ()
    uptimes: Mapping[str, Samples] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether some gateway was looked at when the window ended. Zeros of nobody would be invented."""
        seen = (*(each.samples for each in self.counters), *self.uptimes.values())
        return any(samples[-1][0] > _RECENT_MS for samples in seen if samples)


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one reservation. `window` is LENGTH while it is measured, and names its end once it no longer is."""

    window: str
    input_utilization: Decimal | None
    output_utilization: Decimal | None
    peak_minute: datetime | None
    spilled_requests: int
    rejected_requests: int


@dataclass(frozen=True, slots=True)
class AccountUse:
    """What an account used of an offering, by minute, in tokens as they count towards its limit."""

    input_tokens: Sequence[Fraction]
    output_tokens: Sequence[int]
    spilled: int
    rejected: int


def increases(counter: Counter, uptimes: Samples) -> list[int]:
    """By minute. A counter began anew at 0 where its Envoy did: where that has been up for less time than before, or counts
    less. One that is seen for the first time began in the window if its Envoy was seen without it before, or started in
    the window; otherwise nobody knows how much of it is older, and it counts from there on."""
    found = [0] * MINUTES
    restarts = [at for (_, up), (at, later) in pairwise(uptimes) if later < up]
    last: tuple[int, int] | None = None
    for at, value in counter.samples:
        if last is None:
            before = 0 if _is_new(at, uptimes) else value
        else:
            before = 0 if value < last[1] or any(last[0] < each <= at for each in restarts) else last[1]
        if at > 0:
            found[(at - 1) // _MINUTE_MS] += value - before  # a minute's end is of that minute
        last = (at, value)
    return found


def _is_new(at: int, uptimes: Samples) -> bool:
    return at > 0 and any(seen < at or (seen == at and up * 1000 < at) for seen, up in uptimes)


def account_uses(readings: Readings, accounts: Iterable[str], cached_input_weight: Decimal) -> Mapping[str, AccountUse]:
    """Of all Envoys together, by account."""
    counted: dict[str, dict[tuple[str, str], list[int]]] = {account: {} for account in accounts}
    for each in readings.counters:
        if (own := counted.get(each.account)) is not None:
            found = increases(each, readings.uptimes.get(each.target, ()))
            before = own.get((each.name, each.kind))
            own[each.name, each.kind] = found if before is None else [a + b for a, b in zip(before, found, strict=True)]
    return {account: _account_use(own, cached_input_weight) for account, own in counted.items()}


def _account_use(own: Mapping[tuple[str, str], list[int]], cached_input_weight: Decimal) -> AccountUse:
    def counted(name: str, kind: str) -> list[int]:
        return own.get((name, kind), [0] * MINUTES)

    total_input, output = (counted(TOKENS_COUNTER, direction) for direction in ratelimit.DIRECTIONS)
    cached, discount = counted(TOKENS_COUNTER, CACHED_DIRECTION), 1 - Fraction(cached_input_weight)
    return AccountUse(
        [tokens - part * discount for tokens, part in zip(total_input, cached, strict=True)],
        output,
        sum(counted(REQUESTS_COUNTER, SPILLED)),
        sum(counted(REQUESTS_COUNTER, REJECTED)),
    )


def usage_of(use: AccountUse, entitlement: TokenRate, window: Window) -> Usage:
    """`entitlement` is that of all the account's reservations of the offering: they share what is used, each by its units,
    so each is used to the same degree. More than 1 is what spilled. Where nothing was bought there is no utilization."""
    return Usage(
        LENGTH,
        _ratio(sum(use.input_tokens, Fraction()), entitlement.input_tpm),
        _ratio(Fraction(sum(use.output_tokens)), entitlement.output_tpm),
        _peak(use, entitlement, window),
        use.spilled,
        use.rejected,
    )


def aged(usage: Usage, end: datetime) -> Usage:
    """The same, once it is no longer measured: its window says where it ended. It stays that of the first time."""
    stamp = end.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
    return replace(usage, window=f"{LENGTH} to {stamp}") if usage.window == LENGTH else usage


def _ratio(tokens: Fraction, tpm: int) -> Decimal | None:
    """Four digits, rounded half up."""
    if not tpm:
        return None
    scaled = int(tokens * _DIGITS / (tpm * MINUTES) + Fraction(1, 2))
    return min(Decimal(scaled).scaleb(-4), _MOST)


def _peak(use: AccountUse, entitlement: TokenRate, window: Window) -> datetime | None:
    """The minute that took most of the entitlement in either direction; of equal ones the first; None: nothing was used."""

    def rank(number: int) -> tuple[Fraction, Fraction]:
        tokens = (use.input_tokens[number], Fraction(use.output_tokens[number]))
        shares = _shares(zip(tokens, (entitlement.input_tpm, entitlement.output_tpm), strict=True))
        return (max(shares, default=Fraction()), sum(tokens, Fraction()))

    busiest = max(range(MINUTES), key=lambda number: (rank(number), -number))
    return window.minute(busiest) if any(rank(busiest)) else None


def _shares(pairs: Iterable[tuple[Fraction, int]]) -> list[Fraction]:
    return [tokens / tpm for tokens, tpm in pairs if tpm]

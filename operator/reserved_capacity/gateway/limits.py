"""Owns the format of `limits.json`, the one thing that every gateway is made from: who may use how much of an offering.

One entry for each account, in tokens per minute; the entry of account `*` is for everybody who has none. An offering
without an entry for an account, and without `*`, does not serve it. More keys than are read here may be in an entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CONFIG_MAP_PREFIX = "limits-"
CONFIG_MAP_KEY = "limits.json"
EVERYBODY = "*"

_SPILL, _REJECT = "Spill", "Reject"
_ENFORCE, _SHADOW = "Enforce", "Shadow"


class LimitsInvalid(ValueError):
    """The document is not what it should be; the message says where."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens per minute by direction."""

    input_tpm: int = 0
    output_tpm: int = 0

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.input_tpm + other.input_tpm, self.output_tpm + other.output_tpm)


@dataclass(frozen=True, slots=True)
class Bought:
    """What one reservation adds. `reservation` is its namespace and name; the two switches are T3's."""

    reservation: str
    rate: Rate
    spills: bool = True
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """One account's entry of one offering."""

    account: str
    base: Rate = Rate()
    units: tuple[Bought, ...] = ()

    @property
    def bought(self) -> Rate:
        return sum((unit.rate for unit in self.units), Rate())

    @property
    def effective(self) -> Rate:
        """Purchased quota is added to the account's limit (T3)."""
        return self.base + self.bought


def parse_limits(text: str) -> tuple[AccountLimits, ...]:
    """What the document says. Raises LimitsInvalid: half a document is worse than the one before it."""
    try:
        entries = json.loads(text)
        parsed = tuple(_parsed(entry) for entry in entries)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LimitsInvalid(f"{CONFIG_MAP_KEY}: {type(error).__name__}: {error}") from error
    if len({each.account for each in parsed}) != len(parsed):
        raise LimitsInvalid(f"{CONFIG_MAP_KEY}: an account has more than one entry")
    return parsed


@dataclass(frozen=True, slots=True)
class InForce:
    """Limits by offering, and what was wrong with a document in whose place the one before it stays in force."""

    limits: Mapping[str, tuple[AccountLimits, ...]] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()


def in_force(config_maps: Iterable[Mapping[str, Any]], before: InForce) -> InForce:
    """Whatever ConfigMaps there are in the operator's namespace; those of limits are known by their name."""
    limits, complaints = {}, []
    for each in sorted(config_maps, key=lambda each: str(each["metadata"]["name"])):
        name = str(each["metadata"]["name"])
        offering = _offering(name)
        if offering is None:
            continue
        try:
            limits[offering] = parse_limits((each.get("data") or {}).get(CONFIG_MAP_KEY, ""))
        except LimitsInvalid as error:
            complaints.append(f"ConfigMap {name}: {error}")
            if offering in before.limits:
                limits[offering] = before.limits[offering]
    return InForce(limits, tuple(complaints))


def _offering(config_map: str) -> str | None:
    """The offering whose limits a ConfigMap of this name holds, or None if it is another ConfigMap."""
    return config_map.removeprefix(CONFIG_MAP_PREFIX) if config_map.startswith(CONFIG_MAP_PREFIX) else None


def _parsed(entry: Mapping[str, Any]) -> AccountLimits:
    units = tuple(
        Bought(
            unit["reservation"],
            _parsed_rate(unit),
            _one_of(unit["overflow"], _SPILL, _REJECT),
            _one_of(unit["enforcement"], _ENFORCE, _SHADOW),
        )
        for unit in entry["units"]
    )
    limits = AccountLimits(str(entry["account"]), _parsed_rate(entry["base"]), units)
    if _parsed_rate(entry["effective"]) != limits.effective:
        raise ValueError(f"account {limits.account}: effective is not base and units")
    return limits


def _parsed_rate(entry: Mapping[str, Any]) -> Rate:
    # A direction of 0 may be left out, as Kubernetes' own writers do.
    values = tuple(entry.get(key, 0) for key in ("inputTokensPerMinute", "outputTokensPerMinute"))
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"not tokens per minute: {values}")
    return Rate(*values)


def _one_of(word: str, yes: str, no: str) -> bool:
    if word not in (yes, no):
        raise ValueError(f"{word!r} is neither {yes} nor {no}")
    return word == yes

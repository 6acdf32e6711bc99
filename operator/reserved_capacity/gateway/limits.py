"""Owns the format of `limits.json`, the one thing that every gateway is made from: who may use how much of an offering.
The operator writes it and gateways read it, both with this module (docs/operations/token-limits.md).

One entry for each account, in tokens per minute; the entry of account `*` is for everybody who has none. An offering
without an entry for an account, and without `*`, does not serve it. More keys than are read here may be in an entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import AccountLimit, ActiveUnits, Enforcement, Overflow
from reserved_capacity.domain.tokens.lots import ReservationName

CONFIG_MAP_PREFIX: Final = "limits-"
CONFIG_MAP_KEY: Final = "limits.json"


class LimitsInvalid(ValueError):
    """The document is not what it should be; the message says where."""


def limits_document(limits: Sequence[AccountLimit]) -> list[dict[str, Any]]:
    """The same limits are the same document."""
    return [
        {
            "account": each.account,
            "base": _rate_document(each.base),
            "units": [
                {
                    "reservation": str(unit.reservation),
                    "snapshot": unit.snapshot,
                    **_rate_document(unit.rate),
                    "overflow": str(unit.overflow),
                    "enforcement": str(unit.enforcement),
                }
                for unit in each.units
            ],
            "effective": _rate_document(each.effective),
            "limit": {**_rate_document(each.limit), "enforcement": str(each.enforcement)},
        }
        for each in limits
    ]


def _rate_document(rate: TokenRate) -> dict[str, int]:
    return {"inputTokensPerMinute": rate.input_tpm, "outputTokensPerMinute": rate.output_tpm}


def parse_limits(text: str) -> tuple[AccountLimit, ...]:
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

    limits: Mapping[str, tuple[AccountLimit, ...]] = field(default_factory=dict)
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


def config_map_name(offering: str) -> str:
    return f"{CONFIG_MAP_PREFIX}{offering}"


def _offering(config_map: str) -> str | None:
    """The offering whose limits a ConfigMap of this name holds, or None if it is another ConfigMap."""
    return config_map.removeprefix(CONFIG_MAP_PREFIX) if config_map.startswith(CONFIG_MAP_PREFIX) else None


def _parsed(entry: Mapping[str, Any]) -> AccountLimit:
    account = str(entry["account"])
    units = tuple(
        ActiveUnits(
            account,
            ReservationName(*str(unit["reservation"]).split("/", 1)),
            str(unit.get("snapshot", "")),
            _parsed_rate(unit),
            Overflow(unit["overflow"]),
            Enforcement(unit["enforcement"]),
        )
        for unit in entry["units"]
    )
    found = AccountLimit(account, _parsed_rate(entry["base"]), units)
    if _parsed_rate(entry["effective"]) != found.effective:
        raise ValueError(f"account {account}: effective is not base and units")
    return found


def _parsed_rate(entry: Mapping[str, Any]) -> TokenRate:
    # A direction of 0 may be left out, as Kubernetes' own writers do.
    values = tuple(entry.get(key, 0) for key in ("inputTokensPerMinute", "outputTokensPerMinute"))
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"not tokens per minute: {values}")
    return TokenRate(*values)

"""Owns ConfigMaps of limits as the operator writes them, for tests that need no operator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Tokens = tuple[int, int]
"""Per minute: input, output."""


def units(reservation: str, added: Tokens, overflow: str = "Spill", enforcement: str = "Enforce") -> dict[str, Any]:
    return {"reservation": reservation, **rate(added), "overflow": overflow, "enforcement": enforcement}


def entry(account: str, base: Tokens, *bought: dict[str, Any]) -> dict[str, Any]:
    effective = [value + sum(each[key] for each in bought) for key, value in rate(base).items()]
    return {
        "account": account,
        "base": rate(base),
        "units": list(bought),
        "effective": rate((effective[0], effective[1])),
    }


def rate(tokens: Tokens) -> dict[str, int]:
    return {"inputTokensPerMinute": tokens[0], "outputTokensPerMinute": tokens[1]}


def config_map(offering: str, namespace: str, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"limits-{offering}", "namespace": namespace},
        "data": {"limits.json": json.dumps(list(entries))},
    }

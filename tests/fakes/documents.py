"""Owns copies and merge patches of JSON documents, as the fake API server makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reserved_capacity.ports import JsonObject


def merged(stored: JsonObject, merge: Mapping[str, Any]) -> JsonObject:
    """RFC 7386: None removes, objects merge, everything else (also a list) replaces. Shares what it does not alter."""
    result = dict(stored)
    for key, value in merge.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            inner = result.get(key)
            result[key] = merged(inner if isinstance(inner, dict) else {}, value)
        else:
            result[key] = cloned(value)
    return result


def cloned(value: Any) -> Any:
    """A copy of JSON, several times faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {key: cloned(each) if isinstance(each, dict | list) else each for key, each in value.items()}
    return [cloned(each) for each in value] if isinstance(value, list | tuple) else value

"""Owns the selectors that the fake API server understands: a subset, and an error for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_IN = re.compile(r"^(\S+) (in|notin) \(([^)]*)\)$")


def matches_labels(selector: str, labels: Mapping[str, str]) -> bool:
    """`a=b`, `a==b`, `a!=b` (true also without `a`), `a`, `!a`, `a in (b,c)`, `a notin (b,c)`; joined with commas."""
    return all(_matches(term.strip(), labels) for term in re.split(r",(?![^(]*\))", selector) if term.strip())


def matches_fields(selector: str, obj: Mapping[str, Any]) -> bool:
    """`path=value`, `path!=value`; joined with commas."""
    fields = {path: _field(obj, path) for path in re.findall(r"([\w.]+)!?=", selector)}
    return matches_labels(selector, fields)


def _field(obj: Any, path: str) -> str:
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    return "" if obj is None else str(obj)


def _matches(term: str, labels: Mapping[str, str]) -> bool:
    if listed := _IN.match(term):
        key, operator, values = listed.groups()
        return (labels.get(key) in [value.strip() for value in values.split(",")]) == (operator == "in")
    if "!=" in term:
        key, value = term.split("!=", 1)
        return labels.get(key) != value
    if "=" in term:
        key, value = re.split("==?", term, maxsplit=1)
        return labels.get(key) == value
    if term.startswith("!"):
        return term[1:] not in labels
    if " " in term:
        raise ValueError(f"selector not understood: {term}")
    return term in labels

"""Owns the selectors that the fake API server understands: a subset, and an error for the rest."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

_IN = re.compile(r"^(\S+) (in|notin) \(([^)]*)\)$")

_Term = Callable[[Mapping[str, str]], bool]


def matches_labels(selector: str, labels: Mapping[str, str]) -> bool:
    """`a=b`, `a==b`, `a!=b` (true also without `a`), `a`, `!a`, `a in (b,c)`, `a notin (b,c)`; joined with commas."""
    return not selector or all(term(labels) for term in _terms(selector))


def matches_fields(selector: str, obj: Mapping[str, Any]) -> bool:
    """`path=value`, `path!=value`; joined with commas."""
    if not selector:
        return True
    fields = {path: _field(obj, path) for path in re.findall(r"([\w.]+)!?=", selector)}
    return matches_labels(selector, fields)


def _field(obj: Any, path: str) -> str:
    for part in path.split("."):
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    return "" if obj is None else str(obj)


@functools.lru_cache(maxsize=1000)
def _terms(selector: str) -> tuple[_Term, ...]:
    return tuple(_term(term.strip()) for term in re.split(r",(?![^(]*\))", selector) if term.strip())


def _term(term: str) -> _Term:
    if listed := _IN.match(term):
        key, operator, values = listed.groups()
        among = {value.strip() for value in values.split(",")}
        return lambda labels: (labels.get(key) in among) == (operator == "in")
    if "!=" in term:
        key, value = term.split("!=", 1)
        return lambda labels: labels.get(key) != value
    if "=" in term:
        key, value = re.split("==?", term, maxsplit=1)
        return lambda labels: labels.get(key) == value
    if term.startswith("!"):
        return lambda labels: term[1:] not in labels
    if " " in term:
        raise ValueError(f"selector not understood: {term}")
    return lambda labels: term in labels

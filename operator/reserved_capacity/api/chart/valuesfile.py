"""Owns how the values model becomes `values.yaml`, with its docstrings as comments, and `values.schema.json`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any, Final

import yaml

from reserved_capacity.api.chart.values import Section, Values

_WIDTH: Final = 118
# What Helm 3 and 4 both take whatever their age; pydantic uses nothing newer.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"


def values_yaml() -> str:
    return "\n".join(_mapping(Values(), "")) + "\n"


def _mapping(section: Section, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        if description := " ".join((field.description or "").split()):
            yield from (f"{indent}# {line}" for line in textwrap.wrap(description, _WIDTH - len(indent)))
        value, key = getattr(section, name), field.alias
        if isinstance(value, Section):
            yield f"{indent}{key}:"
            yield from _mapping(value, f"{indent}  ")
        else:
            yield f"{indent}{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    # JSON is YAML: strings are quoted, so that a digest or a size is never read as a number.
    if isinstance(value, str) and value and yaml.safe_load(value) == value:
        return value
    return json.dumps(value)


def values_schema() -> str:
    schema = _without_titles(Values.model_json_schema(by_alias=True))
    return (
        json.dumps({"$schema": _DIALECT, "title": "Values of the chart reserved-capacity", **schema}, indent=2) + "\n"
    )


def _without_titles(schema: Any) -> Any:
    """pydantic gives every field a title that only repeats its name. `properties` holds names, which may be `title`."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_titles(item) for name, item in value.items()}
        if key in {"properties", "$defs"}
        else _without_titles(value)
        for key, value in schema.items()
        if key not in {"title", "default"}
    }

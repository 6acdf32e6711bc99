"""Owns how views leave the process: as JSON or YAML documents, or as lines on a terminal, in a file or a pipe."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

import yaml
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.text import Text

from reserved_capacity.cli.layout import ASCII, MIN_WIDTH, UNICODE, Page


class Format(StrEnum):
    """The values of -o."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def terminal() -> Console:
    """Standard output. No colour where it is no terminal or NO_COLOR is set; COLUMNS gives the width, else the terminal."""
    plain = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    return Console(highlight=False, soft_wrap=True, **plain)  # type: ignore[arg-type]


def page_of(console: Console, now: datetime) -> Page:
    signs = UNICODE if (console.encoding or "").lower().startswith("utf") else ASCII
    return Page(max(MIN_WIDTH, console.width), now, signs)


def show(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def write(document: Any, format_: Format) -> None:
    """A view as one document, field names in camelCase, times in RFC 3339. Absent values are left out."""
    wire = _wire(document)
    if format_ is Format.JSON:
        print(json.dumps(wire, indent=2), flush=True)
    else:
        print(yaml.safe_dump(wire, sort_keys=False, allow_unicode=True), end="", flush=True)


def _wire(value: Any) -> Any:
    if is_dataclass(value):
        named = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {to_camel(name): _wire(each) for name, each in named if each is not None}
    if isinstance(value, Mapping):
        return {str(key): _wire(each) for key, each in value.items()}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_wire(each) for each in value]
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return value.isoformat() if isinstance(value, date) else value

"""The reference pages that are made from the types: every field of the six kinds, and every reason with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from reserved_capacity.api import meta
from reserved_capacity.api.base import ApiObject
from reserved_capacity.api.conditions import CONDITION_REASONS
from reserved_capacity.api.crd import KIND_MODELS
from reserved_capacity.api.schema import object_schema
from reserved_capacity.domain.reasons.base import Ready

NOTICE: Final = "<!-- Generated from operator/reserved_capacity by `make generate`; do not edit. -->"


def pages() -> dict[str, str]:
    """File name and text of each page below docs/reference/."""
    return {"api.md": _api_page(), "reasons.md": _reasons_page()}


def _reasons_page() -> str:
    lines = [
        NOTICE,
        "# Reasons",
        "",
        (
            "What each condition may say, and what to do then. `Ready` takes the reason of the condition that decides it; "
            f"when all is well it says `{Ready.READY}`."
        ),
    ]
    for kind, conditions in CONDITION_REASONS.items():
        lines += ["", f"## {kind}"]
        for condition, reasons in conditions.items():
            lines += ["", f"### {condition}", "", "| reason | status | meaning | remedy |", "|---|---|---|---|"]
            lines += [
                f"| `{reason.value}` | {reason.status} | {_cell(reason.meaning)} | {_cell(reason.remedy)} |"
                for reason in reasons
            ]
    return "\n".join(lines) + "\n"


def _api_page() -> str:
    lines = [
        NOTICE,
        "# API reference",
        "",
        (
            f"Group `{meta.GROUP}`, version `{meta.VERSION}`. `kubectl explain <plural> --recursive` shows the same text. "
            "A list is written `field[]`; a field without *required* may be left out."
        ),
    ]
    for model in KIND_MODELS:
        lines += _kind(model)
    return "\n".join(lines) + "\n"


def _kind(model: type[ApiObject]) -> Iterator[str]:
    info, schema = model.info, object_schema(model)
    names = ", ".join(f"`{name}`" for name in (info.plural, *info.short_names))
    yield from ("", f"## {info.kind}", "", _cell(schema.get("description", "")), "")
    yield f"{names}; {'in a namespace' if info.namespaced else 'for the whole cluster'}."
    for part in ("spec", "status"):
        yield from ("", f"### {info.kind} {part}", "", "| field | type | description |", "|---|---|---|")
        yield from _fields(schema["properties"][part], part)


def _fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        place = f"{path}.{name}"
        need = " *required*" if name in required and path.startswith("spec") else ""
        yield f"| `{place}`{need} | {_type(field)} | {_cell(field.get('description', ''))} |"
        if name != "conditions":  # metav1.Condition is the same everywhere
            inner, step = (field["items"], "[]") if field.get("type") == "array" else (field, "")
            yield from _fields(inner, place + step)


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return "map"
    return str(field.get("format") or field.get("type", ""))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

"""Structural OpenAPI v3 schemas from the pydantic models, as a CustomResourceDefinition wants them.

Pydantic writes JSON Schema: references, titles, `anyOf: [X, null]`, bare integers. The API server accepts none of the
first three in a structural schema, so they are resolved here; nothing else about a field is decided in this module.
"""

from collections.abc import Iterable
from copy import deepcopy
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from reserved_capacity.api.base import VALIDATIONS, ApiModel, ApiObject
from reserved_capacity.api.fields import format_duration

Schema = dict[str, Any]

_REF_PREFIX: Final = "#/$defs/"
_KEPT: Final[tuple[str, ...]] = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "default",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    VALIDATIONS,
)
# A structural schema cannot speak about a map's keys; maxProperties bounds it.
_DROPPED: Final = frozenset({"title", "$defs", "const", "propertyNames"})


def without_empty(value: Any) -> Any:
    """An empty list or map says the same as an absent one, so it is no default: Git and live stay equal."""
    if isinstance(value, dict):
        cleaned = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item not in ({}, [], None)}
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    return value


class _WireDefaults(GenerateJsonSchema):
    """Defaults are written as they stand on the wire: aliases, decimal strings, durations, absent fields absent."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, ApiModel):
            return dft.to_wire()
        if isinstance(dft, tuple):
            return [self.encode_default(item) for item in dft]
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return super().encode_default(dft)


def object_schema(kind: type[ApiObject]) -> Schema:
    """The `openAPIV3Schema` of one kind."""
    raw = kind.model_json_schema(by_alias=True, schema_generator=_WireDefaults, mode="validation")
    raw["properties"]["metadata"] = {"type": "object"}
    schema = _structural(raw, raw.get("$defs", {}))
    properties = schema["properties"]
    properties["apiVersion"] = {"description": _API_VERSION_HELP, "type": "string"}
    properties["kind"] = {"description": _KIND_HELP, "type": "string"}
    properties["status"] = _without_defaults(properties["status"])
    schema["required"] = ["spec"]
    return schema


_API_VERSION_HELP: Final = "Version of the schema of this object."
_KIND_HELP: Final = "Kind of this object, in CamelCase."


def models_of(kind: type[ApiObject]) -> Iterable[type[BaseModel]]:
    """`spec` and `status` of a kind, for tests and the API reference."""
    for name in ("spec", "status"):
        annotation = kind.model_fields[name].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    merged = _required_or_null(_resolved(node, definitions), definitions)
    unknown = merged.keys() - set(_KEPT) - _DROPPED
    if unknown:
        raise ValueError(f"not structural: {sorted(unknown)} in {node}")
    out: Schema = {key: merged[key] for key in _KEPT if key in merged}
    _tidy(out)
    if "properties" in out:
        out["properties"] = {name: _structural(child, definitions) for name, child in out["properties"].items()}
    if "items" in out:
        out["items"] = _structural(out["items"], definitions)
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(out["additionalProperties"], definitions)
    else:
        out.pop("additionalProperties", None)
    return out


def _resolved(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """`$ref` replaced by what it names; a description or rule beside it adds to, or goes before, the definition's."""
    if "$ref" not in node:
        return deepcopy(node)
    target = _resolved(definitions[node["$ref"].removeprefix(_REF_PREFIX)], definitions)
    return _overlaid(target, {key: value for key, value in node.items() if key != "$ref"})


def _required_or_null(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """`X | None` is X that may be absent: the operator and its users leave a field out, nobody writes null."""
    if "anyOf" not in node:
        return node
    branches = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
    if len(branches) != 1:
        raise ValueError(f"a union has no structural schema: {node}")
    target = _required_or_null(_resolved(branches[0], definitions), definitions)
    return _overlaid(target, {key: value for key, value in node.items() if key != "anyOf"})


def _overlaid(target: Schema, over: Schema) -> Schema:
    rules = [*target.get(VALIDATIONS, []), *over.get(VALIDATIONS, [])]
    merged = {**target, **over}
    if rules:
        merged[VALIDATIONS] = rules
    return merged


def _tidy(out: Schema) -> None:
    if out.get("type") == "integer":
        out["format"] = "int64"
    if "description" in out:
        out["description"] = " ".join(out["description"].split())
    if "default" in out:
        default = without_empty(out.pop("default"))
        if default not in (None, "", [], {}):
            out["default"] = default


def _without_defaults(node: Schema) -> Schema:
    """Status is written whole by the operator: a default there would be a value that nobody observed."""
    out = {key: value for key, value in node.items() if key != "default"}
    if "properties" in out:
        out["properties"] = {name: _without_defaults(child) for name, child in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = _without_defaults(out[key])
    return out

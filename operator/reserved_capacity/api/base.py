"""What every kind shares: the frozen base model, object metadata, and the marks that only the CRD schema needs.

`Rule` and `ListMap` are put into `Annotated[...]` (fields) or `rules` (whole objects); Python ignores them, the schema
generator turns them into `x-kubernetes-*` extensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from reserved_capacity.api.fields import Timestamp
from reserved_capacity.api.meta import API_VERSION, KindInfo

VALIDATIONS: Final = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL validation. `message` stands when `message_expression` is absent or fails to evaluate."""

    rule: str
    message: str
    message_expression: str | None = None
    field_path: str | None = None

    def as_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"rule": self.rule, "message": self.message}
        if self.message_expression:
            schema["messageExpression"] = self.message_expression
        if self.field_path:
            schema["fieldPath"] = self.field_path
        return schema

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = dict(handler(core))
        schema[VALIDATIONS] = [*schema.get(VALIDATIONS, []), self.as_schema()]
        return schema


@dataclass(frozen=True, slots=True)
class ListMap:
    """A list that the API server merges and correlates by these keys (wire names)."""

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = dict(handler(core))
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(self.keys)}
        return schema


@dataclass(frozen=True, slots=True)
class ListType:
    """`set` for unique scalars, `atomic` for a list that is only ever replaced whole."""

    name: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(handler(core)) | {"x-kubernetes-list-type": self.name}


def immutable(field: str, remedy: str) -> Rule:
    """A required field that never changes; the message says what to do instead."""
    return Rule("self == oldSelf", f"{field} is immutable: {remedy}")


class ApiModel(BaseModel):
    """Frozen, camelCase on the wire, and tolerant: an unknown field is a newer CRD's and is ignored.

    The docstring below each field is its `kubectl explain` text.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        frozen=True,
        extra="ignore",
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def parse(cls, document: object) -> Self:
        """A decoded JSON or YAML document as a model. Raises pydantic.ValidationError."""
        return cls.model_validate(document)

    def to_wire(self) -> dict[str, Any]:
        """JSON-ready, wire names, absent fields left out (an absent field is never written as null)."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> dict[str, Any]:
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)[VALIDATIONS] = [rule.as_schema() for rule in cls.rules]
        return schema


class ObjectMeta(ApiModel):
    """The part of metav1.ObjectMeta that the operator reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column. `wide` ones appear with `-o wide` only. A future date must be `string`: `date` shows <invalid>."""

    name: str
    json_path: str
    type: str = "string"
    wide: bool = False
    description: str = ""


AGE: Final = Column("AGE", ".metadata.creationTimestamp", "date", description="Time since the object was made.")


def condition_column(name: str, condition: str) -> Column:
    path = f'.status.conditions[?(@.type=="{condition}")].status'
    return Column(name, path, description=f"Status of the condition {condition}.")


def reason_column(*, wide: bool) -> Column:
    path = '.status.conditions[?(@.type=="Ready")].reason'
    return Column("REASON", path, wide=wide, description="Reason of the condition Ready.")


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """JSON paths of the scale subresource."""

    spec_replicas: str
    status_replicas: str
    selector: str


class ApiObject(ApiModel):
    """apiVersion, kind, metadata. Each kind adds its `spec` and `status`, and how kubectl shows it."""

    info: ClassVar[KindInfo]
    columns: ClassVar[tuple[Column, ...]] = ()
    selectable: ClassVar[tuple[str, ...]] = ()
    scale: ClassVar[ScalePaths | None] = None

    api_version: str = API_VERSION
    kind: str
    metadata: ObjectMeta = ObjectMeta()

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Empty for cluster-scoped kinds."""
        return self.metadata.namespace

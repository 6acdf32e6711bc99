"""The generated CRDs: structural, bounded, described, and the same defaults as the Python models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reserved_capacity.api import generate, meta, reference
from reserved_capacity.api.base import ApiModel, ApiObject
from reserved_capacity.api.conditions import CONDITION_REASONS
from reserved_capacity.api.crd import KIND_MODELS, crd_document
from reserved_capacity.api.schema import without_empty

Schema = dict[str, Any]
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const", "propertyNames", "nullable"}
BOUNDS = {
    "string": ("maxLength", "enum"),
    "array": ("maxItems",),
    "integer": ("maximum",),
    "object": ("properties", "maxProperties"),
    "boolean": ("type",),
}


def schema_of(model: type[ApiObject]) -> Schema:
    version = crd_document(model)["spec"]["versions"][0]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def walk(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from walk(node["additionalProperties"], f"{path}{{}}")


def fields(model: type[ApiObject]) -> Iterator[tuple[str, Schema]]:
    """Everything below spec and status."""
    for part in ("spec", "status"):
        yield from walk(schema_of(model)["properties"][part], f".{part}")


every_kind = pytest.mark.parametrize("model", KIND_MODELS, ids=lambda model: model.info.kind)


@every_kind
def test_the_schema_is_structural(model: type[ApiObject]) -> None:
    for path, node in walk(schema_of(model)):
        assert not node.keys() & FORBIDDEN, path
        assert "type" in node, path
        assert "x-kubernetes-preserve-unknown-fields" not in node, path


@every_kind
def test_every_field_is_bounded(model: type[ApiObject]) -> None:
    for path, node in fields(model):
        assert any(bound in node for bound in BOUNDS[node["type"]]), path
        if node["type"] == "integer":
            assert node["format"] == "int64", path
            assert "minimum" in node, path


@every_kind
def test_every_field_is_described_in_a_full_sentence(model: type[ApiObject]) -> None:
    for path, node in fields(model):
        if path.endswith(("[]", "{}")):
            continue
        description = node.get("description", "")
        assert description, path
        assert description.endswith("."), path
        assert "\n" not in description, path


@every_kind
def test_every_list_says_how_it_merges_or_is_plain_scalars(model: type[ApiObject]) -> None:
    for path, node in fields(model):
        if node["type"] != "array":
            continue
        kind = node.get("x-kubernetes-list-type")
        assert kind in {"map", "set", "atomic"}, path
        if kind == "map":
            keys = node["x-kubernetes-list-map-keys"]
            assert set(keys) <= set(node["items"]["required"]), path


@every_kind
def test_every_rule_says_what_to_do(model: type[ApiObject]) -> None:
    for path, node in walk(schema_of(model)):
        for rule in node.get("x-kubernetes-validations", []):
            assert len(rule["message"].split()) >= 5, path
            # The API server takes the result of string() for unbounded: such a message is refused with the whole CRD.
            assert "string(" not in rule.get("messageExpression", ""), path


@every_kind
def test_rules_sit_only_on_paths_that_the_server_can_charge(model: type[ApiObject]) -> None:
    status = schema_of(model)["properties"]["status"]
    assert not any("x-kubernetes-validations" in node for _, node in walk(status))


@every_kind
def test_status_has_no_defaults(model: type[ApiObject]) -> None:
    for path, node in walk(schema_of(model)["properties"]["status"]):
        assert "default" not in node, path


def nested(model: type[ApiModel], schema: Schema, path: str = ".spec") -> Iterator[tuple[str, type[ApiModel], Schema]]:
    """Each model below spec together with its schema."""
    yield path, model, schema
    for field in model.model_fields.values():
        child = schema["properties"][str(field.alias)]
        for inner in _models_in(field.annotation):
            yield from nested(inner, child.get("items", child), f"{path}.{field.alias}")


def _models_in(annotation: Any) -> Iterator[type[ApiModel]]:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


@every_kind
def test_defaults_in_the_schema_equal_those_in_python(model: type[ApiObject]) -> None:
    spec_model = model.model_fields["spec"].annotation
    assert isinstance(spec_model, type)
    assert issubclass(spec_model, ApiModel)
    for path, nested_model, schema in nested(spec_model, schema_of(model)["properties"]["spec"]):
        required = {str(field.alias) for field in nested_model.model_fields.values() if field.is_required()}
        assert required == set(schema.get("required", [])), path
        blank = nested_model.model_construct()
        in_python = without_empty(
            {
                str(field.alias): blank.to_wire()[str(field.alias)]
                for field in nested_model.model_fields.values()
                if not field.is_required() and str(field.alias) in blank.to_wire()
            }
        )
        in_schema = {name: child["default"] for name, child in schema["properties"].items() if "default" in child}
        assert {name: value for name, value in in_python.items() if value != ""} == in_schema, path


def test_the_names_are_the_contract() -> None:
    names = {model.info.plural: crd_document(model)["spec"]["names"] for model in KIND_MODELS}
    assert list(names) == [
        "acceleratorclasses",
        "modelofferings",
        "pricebooks",
        "computeunitpools",
        "modelinstances",
        "tokenunitreservations",
    ]
    assert {plural: value["shortNames"] for plural, value in names.items() if "shortNames" in value} == {
        "computeunitpools": ["cup"],
        "modelinstances": ["mi"],
        "tokenunitreservations": ["tur"],
    }
    assert all(value["categories"] == ["reserved"] for value in names.values())


@pytest.mark.parametrize(
    ("kind", "shown", "wide"),
    [
        ("AcceleratorClass", "NODES CU-TOTAL CU-CLAIMED CU-FREE UNHEALTHY READY AGE", ""),
        ("ModelOffering", "CU MIN SNAPSHOTS INPUT-TPM OUTPUT-TPM PINNED VALID AGE", ""),
        ("PriceBook", "CURRENCY ENTRIES VALID AGE", ""),
        (
            "ComputeUnitPool",
            "PHASE CONTRACTED ALLOCATED IDLE UNHEALTHY ENDS READY AGE",
            "PROVISIONED PER-DAY NODES REASON",
        ),
        (
            "ModelInstance",
            "OFFERING SNAPSHOT DESIRED AVAILABLE CU UPTODATE READY REASON AGE",
            "NODES RETIRES ENDPOINT",
        ),
        (
            "TokenUnitReservation",
            "OFFERING SNAPSHOT IN-UNITS OUT-UNITS IN-TPM OUT-TPM IN-UTIL OUT-UTIL SLA READY AGE",
            "",
        ),
    ],
)
def test_the_columns_are_the_contract(kind: str, shown: str, wide: str) -> None:
    (model,) = [model for model in KIND_MODELS if model.info.kind == kind]
    columns = crd_document(model)["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == shown.split()
    assert [column["name"] for column in columns if column.get("priority")] == wide.split()


@every_kind
def test_every_column_shows_a_field_that_exists(model: type[ApiObject]) -> None:
    known = {path for path, _ in fields(model)}
    for column in model.columns:
        path = column.json_path
        if "conditions[" not in path and not path.startswith(".metadata"):
            assert path in known
        # `date` is for the past: a future one shows <invalid>.
        assert column.type != "date" or column.name == "AGE"


def test_only_an_instance_can_be_scaled() -> None:
    scaled = [model.info.kind for model in KIND_MODELS if model.scale]
    assert scaled == [meta.Kind.MODEL_INSTANCE]


def test_generating_twice_gives_the_same_bytes_and_check_sees_every_difference(tmp_path: Path) -> None:
    crds, places = tmp_path / "crds", ["--crds", str(tmp_path / "crds"), "--reference", str(tmp_path / "reference")]
    assert generate.main(places) == 0
    assert generate.main(["--check", *places]) == 0
    changed, stray = crds / "reservedcapacity.io_pricebooks.yaml", crds / "stray.yaml"
    changed.write_text(changed.read_text() + "#\n")
    stray.write_text("")
    assert generate.stale(crds, generate.rendered()) == [changed, stray]
    assert generate.main(["--check", *places]) == 1
    assert generate.main(places) == 0
    assert generate.main(["--check", *places]) == 0


def test_the_checked_in_crds_and_reference_are_up_to_date() -> None:
    assert generate.main(["--check"]) == 0, "run `make generate`"


def test_every_reason_has_its_row_in_the_reference() -> None:
    page = reference.pages()["reasons.md"]
    for conditions in CONDITION_REASONS.values():
        for reasons in conditions.values():
            for reason in reasons:
                assert f"| `{reason.value}` | {reason.status} | {reason.meaning} | {reason.remedy} |" in page


def test_the_kustomization_lists_every_crd() -> None:
    listed = yaml.safe_load((generate.CRDS / "kustomization.yaml").read_text())["resources"]
    assert listed == sorted(f"reservedcapacity.io_{info.plural}.yaml" for info in meta.KINDS)

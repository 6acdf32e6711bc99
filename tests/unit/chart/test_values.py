"""`values.schema.json` takes what the chart can be told, and refuses the rest with words that help."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from reserved_capacity import __main__ as command
from reserved_capacity.api.chart.values import Values

CHART = Path(__file__).resolve().parents[3] / "charts/reserved-capacity"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def merged(**changes: Any) -> dict[str, Any]:
    """The default values under changes given as `a__b=value`, as Helm merges them."""
    values = copy.deepcopy(DEFAULTS)
    for path, value in changes.items():
        target, keys = values, path.split("__")
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value
    return values


def message(values: dict[str, Any]) -> str:
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate(values, SCHEMA)
    error = refused.value
    return f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}"


def sections(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every mapping of the defaults whose keys are ours."""
    yield path
    for key, value in values.items():
        if (
            isinstance(value, dict)
            and value
            and (*path, key) not in {("resources", "requests"), ("resources", "limits")}
        ):
            yield from sections(value, (*path, key))


def test_the_defaults_pass_and_are_the_models() -> None:
    jsonschema.validate(DEFAULTS, SCHEMA)
    assert Values.model_validate(DEFAULTS) == Values()


@pytest.mark.parametrize("path", list(sections(DEFAULTS)), ids=lambda path: ".".join(path) or "top")
def test_a_misspelt_key_is_refused_everywhere(path: tuple[str, ...]) -> None:
    values = merged(**{"__".join((*path, "mispelt")): 1})
    assert "'mispelt' was unexpected" in message(values)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Values.model_validate(values)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", -1),
        ("replicas", "2"),
        ("leaderElection", "yes"),
        ("image__repository", ""),
        ("image__tag", "a b"),
        ("image__digest", "sha256:abc"),
        ("image__pullPolicy", "Sometimes"),
        ("database__url", "sqlite:///x"),
        ("database__url", "mysql://db/x"),
        ("billingUrl", "billing.example"),
        ("persistence__size", "5 GB"),
        ("persistence__accessMode", "ReadWriteMany"),
        ("ports__metrics", 0),
        ("ports__metrics", 70000),
        ("resources__limits", {"memory": "lots"}),
        ("terminationGracePeriodSeconds", 1),
        ("serviceAccount__name", "Not A Name"),
        ("podLabels", {"a": 1}),
        ("imagePullSecrets", ["name"]),
        ("networkPolicy__dns__ports", ["dns"]),
        ("monitoring__serviceMonitor__interval", "often"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(path: str, value: object) -> None:
    assert message(merged(**{path: value})).startswith(path.replace("__", "."))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image__digest", "sha256:" + "0" * 64),
        ("database__url", "postgresql+psycopg://u:p@db:5432/rc?sslmode=require"),
        ("resources__limits", {"cpu": 2, "memory": "1.5Gi"}),
        ("replicas", 0),
        ("tolerations", [{"operator": "Exists"}]),
        ("global", {"whatever": 1}),
    ],
)
def test_a_right_value_passes(path: str, value: object) -> None:
    jsonschema.validate(merged(**{path: value}), SCHEMA)


def test_every_flag_of_the_command_is_in_the_deployment_or_left_out_on_purpose() -> None:
    on_purpose = {
        "--help",
        "--kubeconfig",  # a pod has its account
        "--development",  # never in a cluster
        "--clock-offset-file",
    }
    parser = command._parser()
    (subcommands,) = (action for action in parser._actions if isinstance(action.choices, dict))
    assert isinstance(subcommands.choices, dict)
    flags = {flag for flag in subcommands.choices["run"]._option_string_actions if flag.startswith("--")}
    template = (CHART / "templates/deployment.yaml").read_text()
    assert {flag for flag in flags if f"- {flag}=" not in template} == on_purpose

"""The actions that Argo CD offers for a ModelInstance: its own tests of them, and that nothing but one field changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.argocd import argo

ACTIONS = argo.GROUP / "ModelInstance/actions"
TESTS = argo.load(ACTIONS / "action_test.yaml")


@pytest.mark.parametrize("test", TESTS["discoveryTests"], ids=lambda test: str(test["inputPath"]))
def test_argos_own_discovery_tests_pass(test: dict[str, Any]) -> None:
    assert argo.actions_of(argo.load(ACTIONS / test["inputPath"])) == test["result"]


@pytest.mark.parametrize("test", TESTS["actionTests"], ids=lambda test: str(test["action"]))
def test_argos_own_action_tests_pass(test: dict[str, Any]) -> None:
    acted = argo.acted_on(argo.load(ACTIONS / test["inputPath"]), test["action"])
    assert acted == argo.load(ACTIONS / test["expectedOutputPath"])


def test_every_action_that_is_offered_has_a_script_and_a_test() -> None:
    scripts = {path.parent.name for path in ACTIONS.glob("*/action.lua")}
    assert scripts == {test["action"] for test in TESTS["actionTests"]}
    assert scripts == {result["name"] for test in TESTS["discoveryTests"] for result in test["result"]}


@pytest.mark.parametrize("action", ["suspend", "resume"])
def test_an_action_changes_one_field_also_where_maps_and_lists_are_empty(action: str) -> None:
    before = argo.load(ACTIONS / "testdata/night.yaml")
    before["metadata"]["annotations"] = {}
    before["status"]["members"] = []
    wanted = copy.deepcopy(before)
    wanted["spec"]["suspend"] = action == "suspend"
    assert argo.acted_on(before, action) == wanted

"""manifests/install says the same names as the code, and gives no more rights than it lists."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reserved_capacity.api import meta
from reserved_capacity.domain.terms import CommitmentState

INSTALL = Path(__file__).resolve().parents[3] / "manifests" / "install"
POLICY = "ValidatingAdmissionPolicy"


def documents() -> Iterator[dict[str, Any]]:
    for path in sorted(INSTALL.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from (document for document in yaml.safe_load_all(path.read_text()) if document)


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in documents() if item["kind"] == kind}


@pytest.mark.parametrize("directory", [INSTALL, INSTALL / "policies"], ids=lambda path: path.name)
def test_the_kustomization_lists_every_file(directory: Path) -> None:
    listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
    present = {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in listed if name.endswith(".yaml")} == present


def test_every_policy_denies_and_fails_closed() -> None:
    policies, bindings = of_kind(POLICY), of_kind(f"{POLICY}Binding")
    assert policies.keys() == bindings.keys()
    for name, policy in policies.items():
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert bindings[name]["spec"] == {"policyName": name, "validationActions": ["Deny"]}
        for validation in policy["spec"]["validations"]:
            assert validation["reason"] == "Forbidden"
            assert validation.get("message") or validation["messageExpression"]


def test_policies_know_the_operators_account_and_keys() -> None:
    policies = of_kind(POLICY)
    for name in ("reserved-capacity-operator-kinds", "reserved-capacity-operator-nodes"):
        (condition,) = policies[name]["spec"]["matchConditions"]
        assert f"'{meta.OPERATOR_USER}'" in condition["expression"]
    nodes = str(policies["reserved-capacity-operator-nodes"])
    for key in (*meta.NODE_ANNOTATIONS, meta.CLAIMED_LABEL, meta.CLAIMED_TAINT):
        assert f"'{key}'" in nodes.replace('\\"', '"').replace("\\'", "'")
    assert meta.FLEET_LABEL in str(policies["reserved-capacity-operator-kinds"])
    assert meta.ALLOW_DELETE_ANNOTATION in str(policies["reserved-capacity-crd-deletion"])
    (account,) = of_kind("ServiceAccount").values()
    assert account["metadata"]["name"] == meta.OPERATOR_ACCOUNT
    assert account["metadata"]["namespace"] == meta.OPERATOR_NAMESPACE


def test_the_deletion_policy_knows_the_running_states() -> None:
    text = str(of_kind(POLICY)["reserved-capacity-pool-deletion"])
    named = {state for state in CommitmentState if f"'{state}'" in text}
    assert named == {state for state in CommitmentState if state.running}


def test_the_operator_is_limited_on_all_six_kinds() -> None:
    (rule,) = of_kind(POLICY)["reserved-capacity-operator-kinds"]["spec"]["matchConstraints"]["resourceRules"]
    assert set(rule["resources"]) - {"modelinstances/scale"} == {info.plural for info in meta.KINDS}


def test_no_role_has_a_wildcard_and_none_reads_secrets() -> None:
    for kind in ("ClusterRole", "Role"):
        for name, role in of_kind(kind).items():
            for rule in role["rules"]:
                assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], name
                assert "secrets" not in rule["resources"], name


def test_the_operator_writes_nothing_of_ours_but_status_and_its_own_fleet_instances() -> None:
    writing = {"create", "update", "patch", "delete", "deletecollection"}
    for rule in of_kind("ClusterRole")["reserved-capacity-operator"]["rules"]:
        if meta.GROUP in rule["apiGroups"] and writing & set(rule["verbs"]):
            # Which instances, the policy says that is tested on a real API server (T4).
            own = rule["resources"] == ["modelinstances"]
            assert own or all(resource.endswith("/status") for resource in rule["resources"])

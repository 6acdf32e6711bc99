"""The alerts by promtool, and that what they name is there: metrics, labels, words, runbooks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from reserved_capacity.adapters.gauges import CLASS_STATES, MEMBER_STATES, POOL_STATES
from reserved_capacity.api.conditions import CONDITION_REASONS, ConditionType
from reserved_capacity.api.meta import Kind
from reserved_capacity.domain.reasons.base import ConditionStatus
from tests.unit.monitoring.conftest import CHECKOUT
from tests.unit.monitoring.exporter import MATCHER, METRIC, full, labels_by_series
from tests.unit.monitoring.prometheus import Prometheus

MONITORING = CHECKOUT / "manifests/monitoring"
TESTS = MONITORING / "alerts_test.yaml"
RUNBOOKS = CHECKOUT / "docs/runbooks"
PLACEHOLDER = "https://runbooks.example.invalid/docs/runbooks"
Alerts = dict[str, dict[str, Any]]

# Words of `status: False` that are nobody's alarm by themselves, and why.
NO_ALERT_OF_THEIR_OWN = {
    ("ModelInstance", "Available", "ScaledToZero"): "asked for",
    ("ModelInstance", "Available", "Suspended"): "asked for",
    ("ModelInstance", "CapacityReserved", "NotYetProvisioned"): "not before the agreed day; then PoolProvisioningLate",
    ("ComputeUnitPool", "Provisioned", "PartiallyProvisioned"): "PoolProvisioningLate knows the agreed day, this not",
    ("ComputeUnitPool", "Provisioned", "ProvisioningLate"): "PoolProvisioningLate knows the agreed day, this not",
    ("ComputeUnitPool", "CommitmentSecure", "Expired"): "over and announced; what waits for it is InstanceWaiting",
    ("ComputeUnitPool", "Healthy", "TooManyMembers"): "the members beyond the limit are InstanceWaiting",
}
# What is not wrong, but must not last.
NOT_FOR_LONG = {
    ("ComputeUnitPool", "BillingCurrent", "CatchingUp"),
    ("TokenUnitReservation", "BillingCurrent", "CatchingUp"),
    ("TokenUnitReservation", "CapacityBacked", "FleetStarting"),
    ("TokenUnitReservation", "LimitPublished", "Publishing"),
}
# Conditions whose behaviour is not built are absent.
NOT_BUILT = {
    ("ModelInstance", "SnapshotCached"),
    ("TokenUnitReservation", "ServiceLevelMet"),
}


def test_prometheus_takes_the_rules(tools: Prometheus, rules_file: Path) -> None:
    code, said = tools.check("check", "rules", "--lint-fatal", str(rules_file))
    assert code == 0, said


def test_every_alert_fires_when_it_should_and_not_when_it_should_not(tools: Prometheus, rules_file: Path) -> None:
    shutil.copy(TESTS, rules_file.parent)
    code, said = tools.check("test", "rules", str(rules_file.parent / TESTS.name))
    assert code == 0, said


def test_no_alert_is_without_a_test_in_which_it_fires_and_one_in_which_it_is_silent(alerts: Alerts) -> None:
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(alerts)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(alerts)


def test_promtool_is_heard_when_a_rule_is_wrong(tools: Prometheus, rules_file: Path) -> None:
    rules_file.write_text(rules_file.read_text().replace("> 90", "> 9000"))
    shutil.copy(TESTS, rules_file.parent)
    code, said = tools.check("test", "rules", str(rules_file.parent / TESTS.name))
    assert code != 0
    assert "ReservedCapacityWatchStale" in said


def test_every_alert_says_how_bad_what_and_where_to_read_on(alerts: Alerts) -> None:
    for name, alert in alerts.items():
        assert name.startswith("ReservedCapacity")
        assert alert["labels"].keys() == {"severity"}
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert "Next:" in alert["annotations"]["description"], name
        assert alert["annotations"]["runbook_url"] == f"{PLACEHOLDER}/{name}.md"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert(alerts: Alerts) -> None:
    assert {path.name for path in RUNBOOKS.iterdir()} == {f"{name}.md" for name in alerts}


def test_a_runbook_has_what_is_looked_for_at_night(alerts: Alerts) -> None:
    for name, alert in alerts.items():
        text = (RUNBOOKS / f"{name}.md").read_text()
        assert text.startswith(f"# {name} ({alert['labels']['severity']})\n")
        headings = ["**Meaning.** ", "**Impact.** ", "## Diagnosis\n", "## Mitigation\n", "## Escalate\n"]
        places = [text.find(heading) for heading in headings]
        assert -1 not in places, f"{name}: {headings[places.index(-1)]}"
        assert places == sorted(places)
        assert "```sh\nkubectl " in text
        assert len(text.splitlines()) <= 60, f"{name}: too long for 3 a.m."


def test_runbooks_and_alerts_link_to_pages_and_commands_that_exist(alerts: Alerts) -> None:
    from reserved_capacity.cli.app import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    texts = {path: path.read_text() for path in RUNBOOKS.iterdir()}
    texts |= {RUNBOOKS / name: json.dumps(alert) for name, alert in alerts.items()}
    for path, text in texts.items():
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"
        assert set(re.findall(r"kubectl reserved (\w+)", text)) <= commands, path.name


def test_every_metric_and_label_in_an_alert_is_exported(alerts: Alerts) -> None:
    exported = labels_by_series(full().registry)
    for name, alert in alerts.items():
        texts = (alert["expr"], alert["annotations"]["description"])
        found = [match for text in texts for match in METRIC.finditer(text)]
        assert found, name
        for metric, matchers in (match.groups() for match in found):
            assert metric in exported, f"{name}: {metric}"
            assert {label for label, _, _ in MATCHER.findall(matchers or "")} <= exported[metric], f"{name}: {metric}"


def test_every_word_in_an_alert_is_one_that_the_operator_says(alerts: Alerts) -> None:
    reasons = {str(reason) for enums in CONDITION_REASONS.values() for enum in enums.values() for reason in enum}
    states = {
        "reservedcapacity_pool_compute_units": POOL_STATES,
        "reservedcapacity_class_compute_units": CLASS_STATES,
        "reservedcapacity_instance_members": MEMBER_STATES,
    }
    known = {
        "kind": set(map(str, Kind)),
        "type": set(map(str, ConditionType)),
        "status": set(map(str, ConditionStatus)),
    }
    for name, alert in alerts.items():
        for metric, matchers in (match.groups() for match in METRIC.finditer(alert["expr"])):
            words = known | {"reason": reasons, "state": set(states.get(metric, ()))}
            for label, _, value in MATCHER.findall(matchers or ""):
                assert label not in words or set(value.split("|")) <= words[label], f"{name}: {label} {value}"


@pytest.mark.parametrize("kind", list(Kind))
def test_every_reason_that_somebody_has_to_act_on_raises_an_alert(kind: Kind, alerts: Alerts) -> None:
    for type_, enum in CONDITION_REASONS[kind].items():
        if (kind, type_) in NOT_BUILT:
            continue
        for reason in enum:
            said = {"kind": kind, "type": str(type_), "status": str(reason.status), "reason": str(reason)}
            # A class has nothing but Ready; of offerings and price books Ready takes the reason of Valid.
            seen = [said, said | {"type": "Ready"}] if type_ is ConditionType.VALID else [said]
            raised = [name for name, alert in alerts.items() for each in seen if _selects(alert["expr"], each)]
            wanted = reason.status is ConditionStatus.FALSE or (kind, type_, reason) in NOT_FOR_LONG
            assert bool(raised) == (wanted and (kind, type_, reason) not in NO_ALERT_OF_THEIR_OWN), (said, raised)


def _selects(expression: str, labels: dict[str, str]) -> bool:
    """Does a selector of reservedcapacity_condition outside of `unless` match?"""
    for metric, matchers in (match.groups() for match in METRIC.finditer(re.sub(r"unless on .*", "", expression))):
        if metric == "reservedcapacity_condition" and all(
            _matches(labels[label], operator, value) for label, operator, value in MATCHER.findall(matchers or "")
        ):
            return True
    return False


def _matches(actual: str, operator: str, value: str) -> bool:
    equal = re.fullmatch(value, actual) is not None if "~" in operator else actual == value
    return equal != operator.startswith("!")


def test_the_base_of_the_runbooks_is_set_in_one_place(tmp_path: Path) -> None:
    for path in MONITORING.iterdir():
        shutil.copy(path, tmp_path)
    base = tmp_path / "runbook-base.yaml"
    base.write_text(base.read_text().replace("base: runbooks.example.invalid", "base: git.example.com/a/b/blob/main"))
    for directory, start in (
        (MONITORING, PLACEHOLDER),
        (tmp_path, "https://git.example.com/a/b/blob/main/docs/runbooks"),
    ):
        built = subprocess.run(["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=True)
        (document,) = yaml.safe_load_all(built.stdout)
        assert document["kind"] == "PrometheusRule"
        for group in document["spec"]["groups"]:
            for rule in group["rules"]:
                assert rule["annotations"]["runbook_url"] == f"{start}/{rule['alert']}.md"

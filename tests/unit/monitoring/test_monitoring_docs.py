"""docs/operations/monitoring.md against the exporter and the alerts. A table that is out of date is printed as it should be."""

from __future__ import annotations

import re
from typing import Any

from tests.unit.monitoring.conftest import CHECKOUT
from tests.unit.monitoring.exporter import METRIC, full, labels_by_series, labels_of

PAGE = CHECKOUT / "docs/operations/monitoring.md"
CONTRACT: dict[str, frozenset[str] | set[str] | None] = {
    "pool_compute_units": {"namespace", "pool", "state"},
    "instance_members": {"namespace", "instance", "state"},
    "condition": {"kind", "namespace", "name", "type", "status", "reason"},
    "class_compute_units": {"class", "state"},
    "api_writes_total": {"verb", "kind", "code"},
    "charges_minor_total": {"account", "currency"},
    "outbox_pending": {"account"},
    "outbox_oldest_seconds": set(),
    "rollout_phase": {"namespace", "instance", "phase"},
    "token_units": {"namespace", "reservation", "direction"},
    "queue_depth": set(),
    "watch_age_seconds": {"kind"},
}
NOT_BUILT = ("service_level",)


def test_the_metrics_of_the_contract_are_exported_with_its_labels_and_those_not_built_are_absent() -> None:
    exported = labels_by_series(full().registry)
    assert {name: exported.get(f"reservedcapacity_{name}") for name in CONTRACT} == CONTRACT
    assert "reservedcapacity_reconcile_seconds_bucket" in exported
    assert not [series for series in exported if any(word in series for word in NOT_BUILT)]


def test_the_table_of_metrics_is_what_the_exporter_says() -> None:
    rows = []
    for metric in full().registry.collect():
        if metric.name.startswith("reservedcapacity_"):
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = ", ".join(f"`{label}`" for label in labels_of(metric))
            rows.append(f"| `{name}` | {metric.type} | {labels} | {metric.documentation} |")
    expected = "\n".join(sorted(rows))
    found = "\n".join(re.findall(r"^\| `reservedcapacity_.*$", PAGE.read_text(), re.MULTILINE))
    assert found == expected, f"the table should be:\n{expected}"


def test_the_table_of_alerts_is_the_rules(alerts: dict[str, dict[str, Any]]) -> None:
    found = re.findall(
        r"^\| \[`?(\w+)`?\]\(\.\./runbooks/(\w+)\.md\) \| (\w+) \| (\S+) \|", PAGE.read_text(), re.MULTILINE
    )
    assert found == [
        (name, name, alert["labels"]["severity"], alert.get("for", "none")) for name, alert in alerts.items()
    ]


def test_what_the_page_queries_is_exported_and_what_it_links_to_is_there() -> None:
    text = PAGE.read_text()
    exported = labels_by_series(full().registry)
    for block in re.findall(r"```promql\n(.*?)```", text, re.DOTALL):
        for match in METRIC.finditer(block):
            assert match[1] in exported, match[1]
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / link).is_file(), link

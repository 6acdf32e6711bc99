from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.monitoring import prometheus
from tests.unit.monitoring.prometheus import NoPrometheus, Prometheus

CHECKOUT = Path(__file__).parents[3]
ALERTS = CHECKOUT / "manifests/monitoring/alerts.yaml"


@pytest.fixture(scope="session")
def tools() -> Prometheus:
    """promtool and prometheus; a machine that has none and can get none fails the tests that need them."""
    try:
        return prometheus.find()
    except NoPrometheus as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def rule() -> dict[str, Any]:
    """The PrometheusRule."""
    document: dict[str, Any] = yaml.safe_load(ALERTS.read_text())
    return document


@pytest.fixture(scope="session")
def alerts(rule: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {each["alert"]: each for group in rule["spec"]["groups"] for each in group["rules"]}


@pytest.fixture
def rules_file(rule: dict[str, Any], tmp_path: Path) -> Path:
    """What Prometheus itself reads: the groups alone."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"], sort_keys=False, width=10_000))
    return path

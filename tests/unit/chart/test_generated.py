"""The chart's generated files are what their sources say, and nothing in them is lost or run as a template by mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from reserved_capacity.api.chart import __main__ as generate
from reserved_capacity.api.chart import templates
from reserved_capacity.api.meta import OPERATOR_NAMESPACE, OPERATOR_USER

CHECKOUT = Path(__file__).resolve().parents[3]
CHART = CHECKOUT / generate.CHART
ACTION = re.compile(r"{{.*?}}")


def generated() -> dict[Path, str]:
    return generate.rendered(CHECKOUT)


def manifests(text: str) -> list[dict[str, Any]]:
    """A template's documents with actions blanked: what is in every release, whatever its values."""
    lines = [line for line in text.splitlines() if not line.strip().startswith("{{")]
    return [document for document in yaml.safe_load_all(ACTION.sub("x", "\n".join(lines))) if document]


def test_everything_is_up_to_date() -> None:
    assert generate.stale(CHECKOUT) == []


def test_a_changed_file_and_a_leftover_are_found(tmp_path: Path) -> None:
    for part in ("crds", "manifests/install"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).symlink_to(CHECKOUT / part)
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    chart = tmp_path / generate.CHART
    (chart / "values.yaml").write_text("replicas: 2\n")
    (chart / "templates/crds/old.yaml").write_text("")
    assert generate.stale(tmp_path) == [Path("templates/crds/old.yaml"), Path("values.yaml")]
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []


def test_every_crd_and_policy_of_the_manifests_is_in_the_chart() -> None:
    sources = [*CHECKOUT.glob("crds/reservedcapacity.io_*.yaml"), *CHECKOUT.glob("manifests/install/policies/*.yaml")]
    names = {path.name for path in sources} - {"kustomization.yaml"}
    assert {path.name for path in generated() if len(path.parts) == 3} == names


@pytest.mark.parametrize("source", sorted(CHECKOUT.glob("crds/reservedcapacity.io_*.yaml")), ids=lambda path: path.stem)
def test_a_crd_is_the_same_but_for_labels_and_annotations(source: Path) -> None:
    (original,) = yaml.safe_load_all(source.read_text())
    (crd,) = manifests(templates.crd("crds", source.read_text()))
    assert crd["spec"] == original["spec"]
    assert crd["metadata"]["name"] == original["metadata"]["name"]


def test_policies_and_roles_are_the_same_but_for_the_account() -> None:
    install = CHECKOUT / "manifests/install"
    files = {f"templates/policies/{path.name}": path for path in (install / "policies").glob("*-*.yaml")}
    files |= {
        "templates/rbac-operator.yaml": install / "operator-rbac.yaml",
        "templates/rbac-users.yaml": install / "roles.yaml",
    }
    for name, source in files.items():
        made = manifests(generated()[Path(name)])
        originals = [document for document in yaml.safe_load_all(source.read_text()) if document]
        for document, original in zip(made, originals, strict=True):
            assert document.get("rules") == original.get("rules")
            assert str(document.get("spec")) == str(original.get("spec")).replace(
                OPERATOR_USER, "system:serviceaccount:x:x"
            )


def test_no_template_names_the_account_or_the_namespace_of_the_manifests() -> None:
    for path in (CHART / "templates").rglob("*.yaml"):
        text = path.read_text()
        assert OPERATOR_USER not in text, path.name
        assert f"namespace: {OPERATOR_NAMESPACE}" not in text, path.name


def test_an_action_in_a_manifest_is_text_in_the_chart() -> None:
    text = "metadata:\n  name: n\n" + "# {{ $labels.pool }}\n" + "spec: {}\n"
    assert '# {{ "{{" }} $labels.pool }}' in templates.crd("crds/n.yaml", text)


def test_a_manifest_that_looks_otherwise_stops_the_generator() -> None:
    text = (CHECKOUT / "manifests/install/operator-rbac.yaml").read_text()
    with pytest.raises(templates.UnexpectedManifestError, match="is there 3 times, not 4"):
        templates.operator_rights("operator-rbac.yaml", text.replace("namespace: reserved-capacity", "namespace: n", 1))


def test_alerts_are_taken_from_a_rule_file_and_from_a_prometheus_rule() -> None:
    groups = {"groups": [{"name": "g", "rules": [{"alert": "A", "annotations": {"summary": "{{ $labels.pool }}"}}]}]}
    for document in (groups, {"kind": "PrometheusRule", "spec": groups}):
        assert yaml.safe_load(templates.alerts(yaml.safe_dump(document))) == groups


def test_the_chart_says_what_it_needs_and_which_kinds_it_brings() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == ">=1.33.0-0"
    listed = yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])
    assert {entry["name"] for entry in listed} == {
        path.stem.partition("_")[2] + ".reservedcapacity.io"
        for path in CHECKOUT.glob("crds/reservedcapacity.io_*.yaml")
    }

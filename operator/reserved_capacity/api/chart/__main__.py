"""`python -m reserved_capacity.api.chart [--check]`: writes the generated files of the chart, or says whether they are up
to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from reserved_capacity.api.chart import templates, valuesfile

CHECKOUT: Final = Path(__file__).resolve().parents[4]
CHART: Final = Path("charts/reserved-capacity")
ALERTS: Final = Path("manifests/monitoring/alerts.yaml")

# In these directories everything is generated: a file that no source gives any more is removed.
_OWNED: Final = ("templates/crds", "templates/policies")


def rendered(checkout: Path) -> dict[Path, str]:
    """Every generated file, by its path in the chart."""
    install = checkout / "manifests/install"
    files = {
        Path("values.yaml"): f"{templates.header('its pydantic models')}\n{valuesfile.values_yaml()}",
        Path("values.schema.json"): valuesfile.values_schema(),
        Path("templates/rbac-operator.yaml"): templates.operator_rights(
            *_read(checkout, install / "operator-rbac.yaml")
        ),
        Path("templates/rbac-users.yaml"): templates.user_roles(*_read(checkout, install / "roles.yaml")),
    }
    for path in sorted((checkout / "crds").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            files[Path("templates/crds") / path.name] = templates.crd(*_read(checkout, path))
    for path in sorted((install / "policies").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            files[Path("templates/policies") / path.name] = templates.policy(*_read(checkout, path))
    if (checkout / ALERTS).exists():
        source, text = _read(checkout, checkout / ALERTS)
        files[Path("files/alerts.yaml")] = f"{templates.header(source)}\n{templates.alerts(text)}"
    return files


def _read(checkout: Path, path: Path) -> tuple[str, str]:
    return str(path.relative_to(checkout)), path.read_text(encoding="utf-8")


def stale(checkout: Path) -> list[Path]:
    """Generated files that are missing or differ, and leftovers."""
    wanted = rendered(checkout)
    chart = checkout / CHART
    differing = {
        name for name, text in wanted.items() if not (chart / name).exists() or (chart / name).read_text() != text
    }
    return sorted(differing | set(_leftovers(chart, wanted)))


def write(checkout: Path) -> None:
    wanted = rendered(checkout)
    chart = checkout / CHART
    for name in _leftovers(chart, wanted):
        (chart / name).unlink()
    for name, text in wanted.items():
        (chart / name).parent.mkdir(parents=True, exist_ok=True)
        (chart / name).write_text(text, encoding="utf-8")


def _leftovers(chart: Path, wanted: dict[Path, str]) -> list[Path]:
    present = [path.relative_to(chart) for owned in _OWNED for path in (chart / owned).glob("*")]
    present += [Path("files/alerts.yaml")] if (chart / "files/alerts.yaml").exists() else []
    return [name for name in present if name not in wanted]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reserved_capacity.api.chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    if not parser.parse_args(argv).check:
        write(CHECKOUT)
        return 0
    outdated = stale(CHECKOUT)
    for name in outdated:
        sys.stderr.write(f"{CHART / name} is out of date: run `make generate`\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())

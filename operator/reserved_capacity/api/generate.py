"""`python -m reserved_capacity.api.generate [--check]`: writes `crds/`, or says whether it is up to date."""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from reserved_capacity.api.crd import crd_documents, kustomization

HEADER: Final = (
    "# Generated from operator/reserved_capacity/api by `python -m reserved_capacity.api.generate`; do not edit.\n"
)
CRDS: Final = Path(__file__).resolve().parents[3] / "crds"


def rendered() -> dict[str, str]:
    """File name and content of everything in `crds/`; the same models always give the same bytes."""
    documents: dict[str, Any] = {**crd_documents(), "kustomization.yaml": kustomization()}
    return {name: HEADER + _yaml(document) for name, document in documents.items()}


class _NoAliases(yaml.SafeDumper):
    """Shared sub-schemas are written out: an anchor in a CRD helps nobody who reads it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  PyYAML's hook
        return True


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.dump(document, Dumper=_NoAliases, sort_keys=False, width=120, allow_unicode=True)
    return text


def stale(directory: Path) -> list[str]:
    """Names of files that are missing, differ, or should not be there."""
    wanted = rendered()
    present = {path.name: path.read_text() for path in directory.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def write(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    wanted = rendered()
    for path in directory.glob("*.yaml"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reserved_capacity.api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    parser.add_argument("--directory", type=Path, default=CRDS, help="where the CRDs are (default: crds/)")
    options = parser.parse_args(argv)
    if not options.check:
        write(options.directory)
        return 0
    outdated = stale(options.directory)
    for name in outdated:
        sys.stderr.write(f"{options.directory / name} is out of date: run `make generate`\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())

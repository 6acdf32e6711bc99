"""`python -m reserved_capacity.api.generate [--check]`: writes `crds/` and `docs/reference/`, or says what is stale."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from reserved_capacity.api import reference
from reserved_capacity.api.crd import crd_documents, kustomization

HEADER: Final = (
    "# Generated from operator/reserved_capacity/api by `python -m reserved_capacity.api.generate`; do not edit.\n"
)
CHECKOUT: Final = Path(__file__).resolve().parents[3]
CRDS: Final = CHECKOUT / "crds"
REFERENCE: Final = CHECKOUT / "docs" / "reference"


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


def stale(directory: Path, wanted: Mapping[str, str]) -> list[Path]:
    """Files of a generated directory that are missing, differ, or should not be there."""
    present = {path.name: path.read_text() for path in directory.glob("*") if path.is_file()}
    names = wanted.keys() | present.keys()
    return sorted(directory / name for name in names if wanted.get(name) != present.get(name))


def write(directory: Path, wanted: Mapping[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for path in stale(directory, wanted):
        if path.name in wanted:
            path.write_text(wanted[path.name])
        else:
            path.unlink()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reserved_capacity.api.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    parser.add_argument("--crds", type=Path, default=CRDS, help="where the CRDs are (default: crds/)")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="where the pages are (docs/reference/)")
    options = parser.parse_args(argv)
    outputs = ((options.crds, rendered()), (options.reference, reference.pages()))
    if not options.check:
        for directory, wanted in outputs:
            write(directory, wanted)
        return 0
    outdated = [path for directory, wanted in outputs for path in stale(directory, wanted)]
    for path in outdated:
        sys.stderr.write(f"{path} is out of date: run `make generate`\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m manifests.argocd.generate [--check]`: writes `argocd-cm-patch.yaml` from the Lua files, or says whether it is up to date.

The files lie in Argo CD's own layout, `resource_customizations/<group>/<Kind>/{health.lua,actions/}`, so that they can be
contributed to it as they are; until then a ConfigMap brings them to an Argo CD that does not know our kinds.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).resolve().parent
CUSTOMIZATIONS: Final = HERE / "resource_customizations"
PATCH: Final = HERE / "argocd-cm-patch.yaml"
HEADER: Final = (
    "# Generated from resource_customizations by `python -m manifests.argocd.generate`; do not edit.\n"
    "# kubectl patch configmap argocd-cm -n argocd --patch-file manifests/argocd/argocd-cm-patch.yaml\n"
    "# It has no ignoreDifferences and no ignoreResourceUpdates, because nothing needs one (docs/guide/gitops.md).\n"
)


class _Block(str):
    """Text that YAML shows line by line."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Scripts as literal blocks: what a reviewer sees in the ConfigMap is what stands in the file."""


def _literal(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")


_Dumper.add_representer(_Block, _literal)


def rendered(customizations: Path = CUSTOMIZATIONS) -> str:
    """The patch; the same scripts always give the same bytes."""
    data: dict[str, str] = {}
    for health in sorted(customizations.glob("*/*/health.lua")):
        directory = health.parent
        key = f"{directory.parent.name}_{directory.name}"
        data[f"resource.customizations.health.{key}"] = _Block(health.read_text())
        if (directory / "actions" / "discovery.lua").exists():
            data[f"resource.customizations.actions.{key}"] = _Block(_yaml(_actions(directory / "actions")))
    metadata = {"name": "argocd-cm", "namespace": "argocd"}
    return HEADER + _yaml({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _actions(directory: Path) -> dict[str, Any]:
    """Argo CD's form of the actions of one kind: a script that says which are offered, and one for each."""
    return {
        "discovery.lua": _Block((directory / "discovery.lua").read_text()),
        "definitions": [
            {"name": script.parent.name, "action.lua": _Block(script.read_text())}
            for script in sorted(directory.glob("*/action.lua"))
        ],
    }


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m manifests.argocd.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the patch is out of date")
    parser.add_argument("--output", type=Path, default=PATCH, help="where the patch is (default: %(default)s)")
    options = parser.parse_args(argv)
    wanted = rendered()
    if not options.check:
        options.output.write_text(wanted)
        return 0
    if options.output.exists() and options.output.read_text() == wanted:
        return 0
    sys.stderr.write(f"{options.output} is out of date: run `make generate`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

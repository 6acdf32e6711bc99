"""The ConfigMap patch that brings the scripts to an Argo CD that does not know our kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.argocd import generate
from reserved_capacity.api.meta import GROUP, Kind
from tests.unit.argocd import argo

PREFIX = "resource.customizations"


def test_the_patch_is_what_the_generator_writes() -> None:
    assert generate.main(["--check"]) == 0


def test_a_patch_that_is_missing_or_was_edited_is_out_of_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = tmp_path / "patch.yaml"
    assert generate.main(["--check", "--output", str(patch)]) == 1
    assert generate.main(["--output", str(patch)]) == 0
    assert generate.main(["--check", "--output", str(patch)]) == 0
    patch.write_text(patch.read_text() + "# mine\n")
    assert generate.main(["--check", "--output", str(patch)]) == 1
    assert "make generate" in capsys.readouterr().err


def test_the_patch_has_each_script_to_the_byte_and_ignores_no_difference() -> None:
    data = argo.load(generate.PATCH)["data"]
    scripts = {f"{PREFIX}.health.{GROUP}_{kind}": (argo.GROUP / kind / "health.lua").read_text() for kind in Kind}
    applications = (argo.CUSTOMIZATIONS / "argoproj.io/Application/health.lua").read_text()
    scripts[f"{PREFIX}.health.argoproj.io_Application"] = applications
    actions = argo.parse(data.pop(f"{PREFIX}.actions.{GROUP}_ModelInstance"))[0]
    assert data == scripts

    directory = argo.GROUP / "ModelInstance/actions"
    assert actions["discovery.lua"] == (directory / "discovery.lua").read_text()
    found = {each["name"]: each["action.lua"] for each in actions["definitions"]}
    assert found == {path.parent.name: path.read_text() for path in directory.glob("*/action.lua")}

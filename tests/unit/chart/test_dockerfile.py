"""Rules of operator/Dockerfile that a build would not check."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
TEXT = (CHECKOUT / "operator/Dockerfile").read_text()
PIP = re.compile(r"pip(?: --python \S+)? (?:install|wheel)")


def instructions() -> list[tuple[str, str]]:
    """Keyword and arguments, comments left out and continued lines joined."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.strip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(keyword.upper(), rest) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines())]


def of(keyword: str) -> list[str]:
    return [rest for found, rest in instructions() if found == keyword]


def last_stage() -> list[tuple[str, str]]:
    listed = instructions()
    start = max(number for number, (keyword, _) in enumerate(listed) if keyword == "FROM")
    return listed[start:]


def test_every_base_is_pinned_by_tag_and_digest_and_the_digest_has_no_default() -> None:
    assert {base.split(" AS ")[0] for base in of("FROM")} == {"python:${PYTHON_TAG}@${PYTHON_DIGEST}"}
    arguments = of("ARG")
    assert "PYTHON_DIGEST" in arguments
    (tag,) = (argument for argument in arguments if argument.startswith("PYTHON_TAG="))
    assert re.fullmatch(r"PYTHON_TAG=3\.\d+-slim-[a-z]+", tag)


def test_the_base_runs_the_python_that_the_project_is_for() -> None:
    oldest = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert f"PYTHON_TAG={oldest}-slim" in TEXT


def test_it_runs_as_somebody_who_is_not_root_by_number() -> None:
    users = [rest for keyword, rest in last_stage() if keyword == "USER"]
    assert users == ["65532:65532"]


def test_the_entry_point_is_the_operator_without_a_shell() -> None:
    assert of("ENTRYPOINT") == ['["reserved-capacity"]']
    assert of("CMD") == ['["run"]']
    assert not of("SHELL")


def test_nothing_comes_from_the_network_but_what_a_lock_hashes() -> None:
    assert of("ADD") == []
    for command in of("RUN"):
        assert not re.search(r"\b(curl|wget|git|apt|apt-get)\b", command)
        for call in (part for part in command.split("&&") if PIP.search(part)):
            assert "--no-cache-dir" in call
            assert "--require-hashes" in call or "--no-index" in call, call


def test_the_last_stage_installs_nothing() -> None:
    assert [keyword for keyword, _ in last_stage() if keyword in {"RUN", "ADD"}] == []
    assert [rest for keyword, rest in last_stage() if keyword == "COPY"] == ["--from=build /venv /venv"]


@pytest.mark.parametrize("lock", ["requirements-run.lock", "requirements-build.lock"])
def test_what_is_installed_is_locked_with_hashes(lock: str) -> None:
    text = (CHECKOUT / lock).read_text()
    packages = re.findall(r"^[a-z0-9][^\n]*", text, re.MULTILINE)
    assert packages
    assert all("==" in package for package in packages)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(packages)
    # The same versions as in development and in the tests.
    everything = set(re.findall(r"^[a-z0-9][^\s;]*==\S+", (CHECKOUT / "requirements.lock").read_text(), re.MULTILINE))
    assert {re.split(r"[\s;]", package)[0] for package in packages} <= everything


def test_what_is_copied_is_let_through_by_dockerignore() -> None:
    ignore = (CHECKOUT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert ignore[1] == "*"
    copied = {source.rstrip("/") for rest in of("COPY") if "--from" not in rest for source in rest.split()[:-1]}
    assert {source.split("/")[0] for source in copied} == allowed

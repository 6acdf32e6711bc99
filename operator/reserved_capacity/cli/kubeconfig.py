"""Owns which kubeconfig, which context and which namespace: the same answers as kubectl's, without its defaults.

The first file of $KUBECONFIG that says something wins, file by file and context by context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reserved_capacity.cli.errors import CliError, near

_SEPARATOR = ":"


@dataclass(frozen=True, slots=True)
class Choice:
    """Files (none: there is no kubeconfig), context and that context's namespace ("" where it names none)."""

    files: tuple[Path, ...]
    context: str
    namespace: str

    @property
    def path(self) -> str:
        """The files as the library takes them."""
        return _SEPARATOR.join(str(file) for file in self.files)


def choose(kubeconfig: Path | None, context: str | None, environment: Mapping[str, str]) -> Choice:
    """From --kubeconfig, else $KUBECONFIG, else ~/.kube/config, and --context. Raises CliError."""
    files = _files(kubeconfig, environment)
    if not files:
        if context:
            raise CliError(f"there is no context {context!r}: there is no kubeconfig")
        return Choice((), "", "")
    documents = [_read(file) for file in files]
    contexts: dict[str, Mapping[str, Any]] = {}
    for document in documents:
        for entry in document.get("contexts") or ():
            contexts.setdefault(str(entry.get("name")), entry.get("context") or {})
    wanted = context or next((str(found) for each in documents if (found := each.get("current-context"))), "")
    names = ", ".join(sorted(contexts)) or "none"
    if not wanted:
        raise CliError(f"the kubeconfig has no current-context: choose one with --context (there are: {names})")
    if wanted not in contexts:
        raise CliError(f"the kubeconfig has no context {wanted!r} (there are: {names}).{near(wanted, contexts)}")
    return Choice(files, wanted, str(contexts[wanted].get("namespace") or ""))


def _files(kubeconfig: Path | None, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Those that exist. A file that was named by itself must."""
    if kubeconfig is not None:
        if not kubeconfig.expanduser().is_file():
            raise CliError(f"--kubeconfig {kubeconfig}: there is no such file")
        return (kubeconfig.expanduser(),)
    listed = [Path(each).expanduser() for each in environment.get("KUBECONFIG", "").split(_SEPARATOR) if each]
    if listed and not any(file.is_file() for file in listed):
        raise CliError(f"KUBECONFIG={environment['KUBECONFIG']}: there is no such file")
    candidates = listed or [Path.home() / ".kube" / "config"]
    return tuple(file for file in candidates if file.is_file())


def _read(file: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CliError(f"cannot read the kubeconfig {file}: {error}") from error
    if not isinstance(document, dict):
        raise CliError(f"cannot read the kubeconfig {file}: it is no YAML mapping")
    return document

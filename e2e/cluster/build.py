"""Builds the two binaries from pinned Go modules, once for each version, into the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.state import ClusterError, say

_HERE = Path(__file__).parent
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Module:
    """A Go module in this directory. Its go.mod is the only place that names the version, its go.sum pins the code."""

    name: str
    package: str
    pinned: str
    version_packages: tuple[str, ...]
    data: tuple[str, ...]
    announcement: str
    edits: tuple[tuple[str, str, str], ...] = ()
    """(file of the pinned module, words, what they are compiled as): where a program leaves something to nobody's choice."""

    @property
    def directory(self) -> Path:
        """Where go.mod is."""
        return _HERE / self.name

    @property
    def version(self) -> str:
        """The pinned version of the module that this is about."""
        text = (self.directory / "go.mod").read_text(encoding="utf-8")
        match = re.search(rf"^(?:require)?\s*{re.escape(self.pinned)} (v\S+)", text, re.MULTILINE)
        if match is None:
            raise ClusterError(f"{self.directory / 'go.mod'} does not pin {self.pinned}.")
        return match[1]

    @property
    def ldflags(self) -> str:
        """Strip the binary, and set the version that a release build of Kubernetes has."""
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor}
        settings = [f"-X {package}.{key}={value}" for package in self.version_packages for key, value in values.items()]
        return " ".join(["-s -w", *settings])

    @property
    def home(self) -> Path:
        """The cache directory of exactly this content on this kind of machine."""
        machine = f"{platform.system()} {platform.machine()}"
        digest = hashlib.sha256(f"{machine} {self.package} {self.ldflags} {self.data}".encode())
        if self.edits:
            digest.update(repr(self.edits).encode())
        for path in sorted(self.directory.iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return cache_root() / f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"


CONTROL_PLANE = Module(
    name="controlplane",
    package=".",
    pinned="k8s.io/kubernetes",
    version_packages=("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"),
    data=(),
    announcement="first run compiles Kubernetes, about 6 minutes on 2 cores; later runs start in seconds",
)

# Built from its module KWOK knows no stages, the rules by which nodes and pods become Ready, and ends at once; the files
# are kept beside the binary so that a warm start needs no Go.
KWOK = Module(
    name="kwok",
    package="sigs.k8s.io/kwok/cmd/kwok",
    pinned="sigs.k8s.io/kwok",
    version_packages=(),
    data=(
        "kustomize/stage/node/fast/node-initialize.yaml",
        "kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
        "kustomize/stage/pod/fast/pod-ready.yaml",
        "kustomize/stage/pod/fast/pod-complete.yaml",
        "kustomize/stage/pod/fast/pod-delete.yaml",
    ),
    announcement="first run compiles KWOK, about 1 minute on 2 cores",
    # KWOK starts what plays nodes and what plays pods in the order of a Go map, which is chance. Where pods come first, as in
    # one start of eight, nobody has told them yet who plays a node: they are played whoever has its Lease.
    edits=(
        (
            "pkg/kwok/controllers/controller.go",
            "for ref, stage := range c.conf.LocalStages {",
            "for _, ref := range []internalversion.StageResourceRef{nodeRef, podRef} {\n\t\t\tstage := c.conf.LocalStages[ref]",
        ),
    ),
)


def cache_root() -> Path:
    """Shared by all checkouts of a user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reserved-capacity" / "cluster"


def ensure(module: Module) -> Path:
    """Return the directory that holds the module's binary and data, building it first where it is missing."""
    home = module.home
    if home.is_dir():
        return home
    with _build_lock():
        if not home.is_dir():  # somebody else may have built it while this one waited
            _build(module, home)
    return home


def _build(module: Module, home: Path) -> None:
    say(f"cluster: {module.announcement}")
    if shutil.which("go") is None:
        raise ClusterError(
            f"Go 1.26 or newer is needed once, to build {module.name} {module.version}: https://go.dev/dl/"
        )
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache_root()) as scratch:
        result = Path(scratch) / module.name
        result.mkdir()
        _compile(module, result / module.name, _edited(module, Path(scratch)))
        if module.data:
            source = _go_output(module, "list", "-m", "-f", "{{.Dir}}", module.pinned)
            for name in module.data:
                shutil.copyfile(Path(source) / name, result / Path(name).name)
        # Renamed whole, so that the directory either is complete or does not exist.
        result.rename(home)


def _edited(module: Module, scratch: Path) -> list[str]:
    """The options that have Go compile an edited copy of the pinned module, which stays as it is in Go's cache."""
    if not module.edits:
        return []
    copy, modfile = scratch / "source", scratch / "go.mod"
    _copy(Path(_go_output(module, "list", "-m", "-f", "{{.Dir}}", module.pinned)), copy)
    for name, words, instead in module.edits:
        text = (copy / name).read_text(encoding="utf-8")
        if words not in text:
            raise ClusterError(f"{module.pinned} {module.version}: there is no {words!r} in {name} any more")
        (copy / name).write_text(text.replace(words, instead), encoding="utf-8")
    shutil.copyfile(module.directory / "go.mod", modfile)
    shutil.copyfile(module.directory / "go.sum", scratch / "go.sum")
    with modfile.open("a", encoding="utf-8") as file:
        file.write(f"\nreplace {module.pinned} => {copy}\n")
    return [f"-modfile={modfile}"]


def _copy(source: Path, copy: Path) -> None:
    """Go's cache is read-only, the copy is not; what only its own tests read stays behind."""
    shutil.copytree(
        source, copy, ignore=shutil.ignore_patterns("testdata", "site", "*_test.go"), copy_function=shutil.copyfile
    )
    for each in (copy, *copy.rglob("*/")):
        each.chmod(0o700)


def _compile(module: Module, output: Path, options: list[str]) -> None:
    # Without cgo and with trimmed paths every checkout and every user of a machine shares Go's own build cache.
    command = [
        "go",
        "build",
        "-v",
        "-mod=readonly",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags",
        module.ldflags,
        *options,
    ]
    began = time.monotonic()
    lines: deque[str] = deque(maxlen=30)
    compiled = 0
    with subprocess.Popen(
        [*command, "-o", str(output), module.package],
        cwd=module.directory,
        env=_go_environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as go:
        assert go.stderr is not None
        stderr = go.stderr

        def read() -> None:
            nonlocal compiled
            for line in stderr:
                lines.append(line.rstrip())
                compiled += not line.startswith("go: ")

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            while (code := _wait(go)) is None:
                elapsed = time.monotonic() - began
                say(
                    f"cluster: {elapsed:4.0f} s, {compiled} packages compiled, now {lines[-1] if lines else 'starting'}"
                )
        except BaseException:
            go.terminate()
            raise
        reader.join()
    if code != 0:
        raise ClusterError("\n".join([f"go build of {module.name} failed:", *lines]))
    say(f"cluster: {module.name} {module.version} built in {time.monotonic() - began:.0f} s")


def _wait(process: subprocess.Popen[str]) -> int | None:
    try:
        return process.wait(_PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _go_output(module: Module, *arguments: str) -> str:
    done = subprocess.run(
        ["go", *arguments], cwd=module.directory, env=_go_environment(), check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _go_environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


@contextmanager
def _build_lock() -> Iterator[None]:
    cache_root().mkdir(mode=0o700, parents=True, exist_ok=True)
    with (cache_root() / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("cluster: another build is running; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

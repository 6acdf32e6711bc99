"""Layers with this machine's Python and with packages for it, in the user's cache: there is no base image to start from."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from e2e.cluster.build import cache_root
from e2e.cluster.state import ClusterError, say
from e2e.node.image import oci
from e2e.node.packages import NotFetched

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = f"/usr/local/lib/{_VERSION}/site-packages"
PYTHON = f"/usr/local/bin/{_VERSION}"
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "/usr/local/lib", "PYTHONUNBUFFERED": "1"}
# Not needed by a server, or with libraries of a desktop.
_LEFT_OUT = re.compile(
    r"(site-packages|__pycache__|tests?|idlelib|tkinter|turtledemo|ensurepip|lib2to3|config-.*|_tkinter.*|_test.*)$"
)
# What a user needs to have a name, for those libraries that ask for it.
_ACCOUNTS = {
    "/etc/passwd": b"root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65532:65532:nobody:/:/usr/sbin/nologin\n",
    "/etc/group": b"root:x:0:\nnobody:x:65532:\n",
}


def base() -> Path:
    """The layer with interpreter, standard library and the shared libraries of both."""
    version = f"{sys.version} {platform.machine()} {Path(__file__).read_text(encoding='utf-8')}"
    return _cached("python", version, _write_base)


def packages(name: str, lock: Path) -> Path:
    """The layer with what a lock file with hashes lists, and the shared libraries that this needs."""

    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".packages-", dir=path.parent) as scratch:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
            try:
                _run([*pip, "--require-hashes", "--only-binary=:all:", "--target", scratch, "-r", str(lock)])
            except ClusterError as error:
                raise NotFetched(str(error)) from None
            _compile(Path(scratch))
            files = _tree(Path(scratch), SITE_PACKAGES)
            oci.write_layer(path, {**files, **_shared_libraries(files.values(), Path(scratch))})

    return _cached(name, f"{sys.version} {platform.machine()} {lock.read_text(encoding='utf-8')}", write)


def distribution(path: Path, checkout: Path) -> Path:
    """A layer, at this path, with the package of a checkout as a wheel of it holds it: with the metadata that it reads."""
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=path.parent) as scratch:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "wheel",
            "--no-deps",
            "--no-index",
        ]
        _run([*pip, "--no-build-isolation", "--wheel-dir", scratch, str(checkout)])
        (wheel,) = Path(scratch).glob("*.whl")
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        _compile(unpacked)
        oci.write_layer(path, _tree(unpacked, SITE_PACKAGES))
    return path


def _write_base(path: Path) -> None:
    libraries = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    copied = path.parent / "stdlib"
    shutil.copytree(libraries, copied, ignore=_left_out)
    _compile(copied)
    files: dict[str, Path | bytes] = {**_ACCOUNTS, PYTHON: Path(sys.executable).resolve()}
    files |= _tree(copied, f"/usr/local/lib/{_VERSION}")
    files |= _shared_libraries([each for each in files.values() if isinstance(each, Path)], copied)
    oci.write_layer(path, files)


def _left_out(_directory: str, names: list[str]) -> list[str]:
    return [name for name in names if _LEFT_OUT.match(name)]


def _compile(directory: Path) -> None:
    """What is imported in a container is never compiled there: its files are read-only, or go with it."""
    compiled = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "-j0",
        "--invalidation-mode",
        "unchecked-hash",
        str(directory),
    ]
    subprocess.run(compiled, capture_output=True, check=False)  # some packages ship files for other Pythons


def _tree(directory: Path, target: str) -> dict[str, Path]:
    found = {}
    for path in directory.rglob("*"):
        if path.is_file():
            found[f"{target}/{path.relative_to(directory)}"] = path
    return found


def _shared_libraries(files: Iterable[Path], home: Path) -> dict[str, Path]:
    """What the dynamic linker would load for these, at the place where it looks for it here, but for what lies in `home`
    and comes along anyway."""
    binaries = [str(path) for path in files if _is_elf(path)]
    done = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False)
    needed = {Path(each) for each in re.findall(r"(?:=>\s+|^\s+)(/\S+)\s+\(0x", done.stdout, re.MULTILINE)}
    needed = {path for path in needed if not path.is_relative_to(home)}
    inside = Path(sys.base_prefix) / "lib"
    # Those that came with this Python are where the image's is.
    return {f"/usr/local/lib/{path.name}" if path.is_relative_to(inside) else str(path): path for path in needed}


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _cached(name: str, key: str, write: Callable[[Path], None]) -> Path:
    """The layer of this key; written whole or not at all."""
    directory = cache_root() / "layers"
    path = directory / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.tar"
    if not path.exists():
        say(f"cluster: packing the layer {path.name}, once")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".packing-", dir=directory) as scratch:
            write(Path(scratch) / path.name)
            (Path(scratch) / path.name).rename(path)
    return path


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")

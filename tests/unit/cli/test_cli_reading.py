"""How the plugin finds its cluster, reads it, and says why it cannot."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from reserved_capacity.cli.connection import Reader, connected, default_namespace
from reserved_capacity.cli.errors import CliError, NotAllowed, Unreachable, from_api
from reserved_capacity.cli.kubeconfig import Choice, choose
from reserved_capacity.cli.progress import shown
from reserved_capacity.cli.world import Progress, Want, read, status_wants
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    NODES,
    PODS,
    ApiError,
    Forbidden,
    JsonObject,
    Listing,
    NotFound,
    Ref,
    Resource,
    Unavailable,
)
from reserved_capacity.store import FOREIGN_PODS
from tests.unit.cli.builders import pod, pool

SERVER = "https://example:6443"


class Shelves:
    """A ClusterReader with what it was given; `refused` are answered with their error."""

    def __init__(self, objects: Sequence[JsonObject] = (), refused: Mapping[Resource, ApiError] | None = None) -> None:
        self.objects = objects
        self.refused = refused or {}
        self.asked: list[tuple[str, str, str]] = []

    async def get(self, ref: Ref) -> JsonObject | None:
        raise AssertionError(f"the plugin lists, it does not get {ref}")

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        await asyncio.sleep(0)
        self.asked.append((resource.plural, namespace, label_selector or field_selector))
        if resource in self.refused:
            raise self.refused[resource]
        return Listing([each for each in self.objects if each["kind"] == resource.kind], "7")


def reader(*objects: JsonObject, refused: Mapping[Resource, ApiError] | None = None) -> Reader:
    return Reader(Shelves(objects, refused), SERVER)


# ---------------------------------------------------------------------------------------------------------- kubeconfig

CONFIG = """\
contexts:
- {{name: {name}, context: {{cluster: c, user: u, namespace: {namespace}}}}}
current-context: {name}
"""


def written(directory: Path, name: str, namespace: str = "acme") -> Path:
    file = directory / name
    file.write_text(CONFIG.format(name=name, namespace=namespace), encoding="utf-8")
    return file


def test_the_flag_wins_over_the_environment_and_the_context_gives_the_namespace(tmp_path: Path) -> None:
    mine, other = written(tmp_path, "mine"), written(tmp_path, "other", "globex")
    choice = choose(mine, None, {"KUBECONFIG": str(other)})
    assert choice == Choice((mine,), "mine", "acme")
    assert default_namespace(choice) == "acme"
    assert default_namespace(Choice((mine,), "mine", "")) == "default"


def test_of_several_files_the_first_that_names_a_current_context_wins_and_missing_ones_are_skipped(
    tmp_path: Path,
) -> None:
    first, second = written(tmp_path, "first"), written(tmp_path, "second", "globex")
    listed = {"KUBECONFIG": f"{tmp_path / 'absent'}:{first}:{second}"}
    assert choose(None, None, listed) == Choice((first, second), "first", "acme")
    assert choose(None, "second", listed).namespace == "globex"


def test_a_context_that_is_not_there_is_refused_with_the_near_ones(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"no context 'mien' \(there are: mine\)\. Did you mean mine\?"):
        choose(written(tmp_path, "mine"), "mien", {})


def test_a_kubeconfig_that_says_nothing_of_use_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "config"
    with pytest.raises(CliError, match="there is no such file"):
        choose(file, None, {})
    with pytest.raises(CliError, match=r"KUBECONFIG=.*there is no such file"):
        choose(None, None, {"KUBECONFIG": str(file)})
    file.write_text("contexts: [{name: a}]\n", encoding="utf-8")
    with pytest.raises(CliError, match=r"no current-context: choose one with --context \(there are: a\)"):
        choose(file, None, {})
    for broken in ("{", "just words"):
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(CliError, match="cannot read the kubeconfig"):
            choose(file, None, {})


async def test_without_any_kubeconfig_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    choice = choose(None, None, {})
    assert choice.files == ()
    with pytest.raises(CliError, match="give --kubeconfig, or set KUBECONFIG"):
        async with connected(choice):
            pass
    with pytest.raises(CliError, match="there is no context 'x': there is no kubeconfig"):
        choose(None, "x", {})


async def test_a_context_whose_cluster_is_missing_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="the context 'mine' of the kubeconfig cannot be used"):
        async with connected(choose(written(tmp_path, "mine"), None, {})):
            pass


# ------------------------------------------------------------------------------------------------------------- reading


async def test_everything_that_is_asked_for_is_in_the_store() -> None:
    seen = await read(reader(pool()), status_wants("acme"), Progress())
    assert [obj["metadata"]["name"] for obj in seen.store.all(COMPUTE_UNIT_POOLS)] == ["prod"]
    assert seen.store.synced(NODES)
    assert seen.unread == frozenset()


async def test_the_store_is_asked_for_our_pods_and_for_the_namespace_only() -> None:
    shelves = Shelves()
    await read(Reader(shelves, SERVER), status_wants("acme"), Progress())
    assert ("pods", "acme", "app.kubernetes.io/managed-by=reserved-capacity") in shelves.asked
    assert ("nodes", "", "") in shelves.asked


async def test_what_rbac_refuses_is_left_out_where_the_screen_is_of_use_without_it() -> None:
    refused = {NODES: Forbidden("no"), ACCELERATOR_CLASSES: Forbidden("no")}
    seen = await read(reader(pool(), refused=refused), status_wants("acme"), Progress())
    assert seen.unread == {NODES, ACCELERATOR_CLASSES}
    assert not seen.store.synced(NODES)


async def test_without_the_pools_there_is_no_screen() -> None:
    with pytest.raises(NotAllowed) as refused:
        await read(reader(refused={COMPUTE_UNIT_POOLS: Forbidden("no")}), status_wants("acme"), Progress())
    assert str(refused.value) == (
        "you may not list computeunitpools.reservedcapacity.io in namespace acme: ask for a role with the verb list on "
        "it, for example the ClusterRole reserved-capacity-viewer"
    )


async def test_of_several_refusals_the_first_that_was_wanted_is_reported() -> None:
    refused = {MODEL_INSTANCES: Forbidden("no"), COMPUTE_UNIT_POOLS: Forbidden("no")}
    with pytest.raises(NotAllowed, match="you may not list computeunitpools"):
        await read(reader(refused=refused), status_wants("acme"), Progress())


async def test_pods_of_others_are_kept_only_where_they_hold_gpus() -> None:
    stranger = pod("stranger", "", "", {})
    stranger["spec"]["containers"] = [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]
    idle = pod("idle", "", "", {})
    idle["spec"]["containers"] = [{"name": "a"}]
    seen = await read(reader(stranger, idle), [Want(FOREIGN_PODS)], Progress())
    assert [obj["metadata"]["name"] for obj in seen.store.all(FOREIGN_PODS)] == ["stranger"]


# ------------------------------------------------------------------------------------------------------------ messages


def message(error: ApiError, resource: Resource = COMPUTE_UNIT_POOLS) -> CliError:
    return from_api(error, verb="list", resource=resource, namespace="", server=SERVER)


def test_a_failed_call_says_what_and_where_and_what_next() -> None:
    assert str(message(Forbidden("no"), PODS)) == (
        "you may not list pods in all namespaces: ask for a role with the verb list on it"
    )
    assert "does not accept your credentials (401): log in again" in str(message(Forbidden("no", code=401)))
    assert "kubectl apply --server-side -k manifests/install" in str(message(NotFound("no")))
    assert isinstance(message(Unavailable("overloaded", code=503)), Unreachable)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (OSError(errno.ECONNREFUSED, "x"), "connection refused"),
        (TimeoutError(), "no answer in time"),
        (ValueError("odd"), "odd"),
    ],
)
def test_a_server_that_is_not_there_says_so_in_few_words(cause: Exception, words: str) -> None:
    error = Unavailable("GET /api: ...", code=0)
    error.__cause__ = cause
    assert str(message(error)) == f"cannot reach the API server {SERVER}: {words}"


def test_a_certificate_that_is_not_trusted_says_so() -> None:
    class Refused(OSError):
        os_error = ssl.SSLError(1, "self-signed certificate")

    error = Unavailable("x", code=0)
    error.__cause__ = Refused(1, "Operation not permitted")
    assert "no trust in its certificate, or none in ours" in str(message(error))


# ------------------------------------------------------------------------------------------------------------- progress


async def test_what_is_quick_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    async def quick() -> int:
        return 7

    assert await shown(quick(), Progress(SERVER)) == 7
    assert capsys.readouterr() == ("", "")


async def test_what_takes_longer_says_what_it_waits_for_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    async def slow() -> int:
        await asyncio.sleep(0.7)
        return 7

    assert await shown(slow(), Progress(SERVER, ["nodes", "pods"])) == 7
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"reading nodes, pods from {SERVER} ...\n"

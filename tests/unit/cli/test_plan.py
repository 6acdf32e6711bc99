"""`kubectl reserved plan`: what files would do, predicted with the operator's own planners, and nothing written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from reserved_capacity.cli import commands
from reserved_capacity.cli.app import app
from reserved_capacity.cli.connection import Reader
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.layout import Page
from reserved_capacity.cli.output import Format, write
from reserved_capacity.cli.plan import PlanView, load, objection, plan_view
from reserved_capacity.cli.render_plan import render_plan
from reserved_capacity.cli.world import World as Read
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    JsonObject,
    Ref,
)
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.snapshot.forecast_values import InstanceForecast, MoveAction, Units
from reserved_capacity.store import Store
from tests.integration.world import NOW, World, instance, pool, run

API = "reservedcapacity.io/v1alpha1"


def cluster(*instances: tuple[str, str, int]) -> World:
    """A settled cluster of the seed's catalogue: a pool of 600 CU, and instances on it."""
    world = World()
    world.seed()
    for name, model, count in instances:
        world.apply_instance(name, model, count)
    world.start_operator()
    run(world.settle)
    world.cluster.writes.clear()
    return world


def full() -> World:
    return cluster(("chat", "gpt-4-turbo", 2))


def written(folder: Path, *documents: tuple[str, JsonObject]) -> Path:
    for number, (kind, body) in enumerate(documents):
        text = yaml.safe_dump({"apiVersion": API, "kind": kind, **body})
        (folder / f"{number:02}.yaml").write_text(text, encoding="utf-8")
    return folder


def planned(world: World, path: Path) -> PlanView:
    store = Store(INDEXES)
    world.cluster.relist(store)
    return plan_view(Read(store, NOW), load(path, "acme"))


def of(view: PlanView, name: str) -> InstanceForecast:
    return next(each for each in view.instances if each.name == name)


def change_set(name: str, model: str, instances: int, members: int = 2) -> tuple[str, JsonObject]:
    return ("ModelInstance", instance(name, model, instances, changeSet={"id": "swap", "members": members}))


def test_the_seeds_example_as_a_change_set_ends_all_reserved(tmp_path: Path) -> None:
    world = full()
    view = planned(
        world, written(tmp_path, change_set("chat", "gpt-4-turbo", 0), change_set("fast", "gpt-3.5-turbo", 6))
    )
    assert objection(view) == ""
    assert [(each.name, each.reason, each.held.before, each.held.after) for each in view.instances] == [
        ("chat", "Reserved", 2, 0),
        ("fast", "Reserved", 0, 6),
    ]
    assert of(view, "fast").compute_units.after == 600
    assert [each.phase for each in view.pools[0].change_sets] == ["Done"]
    assert view.pools[0].before == view.pools[0].after == Units(600, 600, 600, 0, 0)
    actions = [move.action for move in view.moves]
    assert actions.count(MoveAction.RELEASE) == 2
    assert actions.count(MoveAction.GRANT) == 6
    assert world.writes() == []
    assert world.get_instance("chat")["spec"]["instances"] == 2


def test_the_prediction_is_what_the_operator_does(tmp_path: Path) -> None:
    world = full()
    documents = (change_set("chat", "gpt-4-turbo", 0), change_set("fast", "gpt-3.5-turbo", 6))
    view = planned(world, written(tmp_path, *documents))
    world.edit_instance("chat", documents[0][1]["spec"])
    world.cluster.user_create(MODEL_INSTANCES, documents[1][1])
    run(world.settle)
    for each in view.instances:
        assert world.instance_condition(each.name, "CapacityReserved")[1] == each.reason
        assert world.get_instance(each.name)["status"]["instances"]["held"] == each.held.after
    granted = {move.member: list(move.nodes) for move in view.moves if move.action is MoveAction.GRANT}
    assert world.holdings() == granted


def test_a_set_that_does_not_fit_is_refused_as_a_whole(tmp_path: Path) -> None:
    files = written(tmp_path, change_set("chat", "gpt-4-turbo", 0), change_set("fast", "gpt-3.5-turbo", 7))
    view = planned(full(), files)
    assert [each.refused for each in view.instances] == ["ChangeSetRejected"] * 2
    assert len({each.message for each in view.instances}) == 1
    assert [each.held.after for each in view.instances] == [2, 0]
    assert view.moves == ()
    assert "acme/fast (ChangeSetRejected)" in objection(view)


def test_an_incomplete_set_waits_for_somebody(tmp_path: Path) -> None:
    view = planned(full(), written(tmp_path, change_set("fast", "gpt-3.5-turbo", 6)))
    assert of(view, "fast").reason == "ChangeSetIncomplete"
    assert "ChangeSetIncomplete" in objection(view)


def test_a_full_pool_says_need_and_have(tmp_path: Path) -> None:
    view = planned(full(), written(tmp_path, ("ModelInstance", instance("fast", "gpt-3.5-turbo", 1))))
    fast = of(view, "fast")
    assert (fast.reason, fast.refused, fast.held.after) == ("WaitingForComputeUnits", None, 0)
    assert fast.message.startswith("need 100 CU, have 0 idle in pool prod")
    assert of(view, "chat").ok
    assert "acme/fast (WaitingForComputeUnits)" in objection(view)


def test_more_than_the_pool_has_exceeds_it(tmp_path: Path) -> None:
    view = planned(full(), written(tmp_path, ("ModelInstance", instance("chat", "gpt-4-turbo", 3))))
    assert (of(view, "chat").reason, of(view, "chat").refused) == ("ExceedsPool", "ExceedsPool")
    assert of(view, "chat").held.after == 2
    assert "chat (ExceedsPool)" in objection(view)


def test_a_new_pool_is_provisioned_over_two_nodes(tmp_path: Path) -> None:
    world = World()
    world.seed()
    world.cluster.user_delete(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"))
    world.start_operator()
    run(world.settle)
    documents = (("ComputeUnitPool", pool(cu=900)), ("ModelInstance", instance("fast", "gpt-3.5-turbo", 9)))
    view = planned(world, written(tmp_path, *documents))
    (new,) = view.pools
    assert new.reason == "Ready"
    assert (new.before, new.after) == (Units(), Units(900, 900, 900, 0, 0))
    assert sorted(node.compute_units.after for node in new.nodes) == [100, 800]
    assert of(view, "fast").reason == "Reserved"
    assert objection(view) == ""


def test_a_commitment_without_nodes_waits_for_the_provider(tmp_path: Path) -> None:
    view = planned(full(), written(tmp_path, ("ComputeUnitPool", pool("big", cu=2000, commitment="po-2"))))
    big = next(each for each in view.pools if each.name == "big")
    assert (big.reason, big.ok) == ("PartiallyProvisioned", False)
    assert big.after.provisioned == 1000
    assert "acme/big (PartiallyProvisioned)" in objection(view)


def test_scaling_down_makes_room_for_another(tmp_path: Path) -> None:
    documents = [("ModelInstance", instance("chat", "gpt-4-turbo", 0))]
    documents.append(("ModelInstance", instance("fast", "gpt-3.5-turbo", 6)))
    view = planned(full(), written(tmp_path, *documents))
    assert [each.reason for each in view.instances] == ["Reserved", "Reserved"]


def test_a_pool_that_does_not_exist(tmp_path: Path) -> None:
    files = written(tmp_path, ("ModelInstance", instance("lost", "gpt-3.5-turbo", 1, pool_ref="none")))
    assert of(planned(full(), files), "lost").reason == "PoolNotFound"


def test_an_immutable_field_is_refused(tmp_path: Path) -> None:
    files = written(tmp_path, ("ModelInstance", instance("chat", "gpt-3.5-turbo", 1)))
    with pytest.raises(CliError, match=r"document 1: the API server would refuse .*spec.offering is immutable"):
        planned(full(), files)


def test_the_document_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view = planned(full(), written(tmp_path, ("ModelInstance", instance("fast", "gpt-3.5-turbo", 1))))
    capsys.readouterr()  # the operator's own log
    write(view, Format.JSON)
    document = json.loads(capsys.readouterr().out)
    fast = next(each for each in document["instances"] if each["name"] == "fast")
    assert (fast["namespace"], fast["reason"]) == ("acme", "WaitingForComputeUnits")
    assert fast["computeUnits"] == {"before": 0, "after": 0}
    assert document["pools"][0]["before"]["allocated"] == 600


def test_a_set_of_many_steps_is_followed_to_its_end(tmp_path: Path) -> None:
    world = World()
    world.seed([f"gpu-{number:02}" for number in range(20)])
    order = {**pool()["spec"]["commitments"][0], "computeUnits": 12_000}
    world.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, "acme", "prod"), {"spec": {"commitments": [order]}})
    world.apply_instance("chat", "gpt-4-turbo", 30)
    world.start_operator()
    run(world.settle)
    files = written(tmp_path, change_set("chat", "gpt-4-turbo", 0), change_set("fast", "gpt-3.5-turbo", 120))
    view = planned(world, files)
    assert view.settled
    assert objection(view) == ""
    assert of(view, "fast").held.after == 120


@pytest.mark.parametrize(("instances", "code"), [(2, 0), (3, 1)])
def test_the_exit_code_says_whether_all_would_be_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instances: int, code: int
) -> None:
    world = full()

    @asynccontextmanager
    async def connected(_choice: object) -> AsyncIterator[Reader]:
        yield Reader(world.cluster, "https://example:6443")

    monkeypatch.setattr(commands, "connected", connected)
    path = written(tmp_path, ("ModelInstance", instance("chat", "gpt-4-turbo", instances)))
    result = CliRunner().invoke(app, ["plan", "-f", str(path), "-n", "acme", "-o", "json"])
    assert result.exit_code == code
    assert json.loads(result.stdout)["instances"][0]["reason"] == ("ExceedsPool" if code else "Reserved")
    assert ("ModelInstance acme/chat (ExceedsPool)" in result.stderr) == bool(code)
    assert world.writes() == []


@pytest.mark.parametrize("width", [60, 120])
def test_the_screen(tmp_path: Path, width: int) -> None:
    files = written(tmp_path, change_set("chat", "gpt-4-turbo", 0), change_set("fast", "gpt-3.5-turbo", 6))
    lines = [line.plain for line in render_plan(planned(full(), files), Page(width, NOW))]
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "✓ All that was given would be carried out" in text
    assert "release acme/chat-1: 300 CU on gpu-0" in text
    assert "grant acme/fast-5: 100 CU on gpu-0" in text


# ------------------------------------------------------------------------------------------------------------- the files


def test_other_kinds_are_counted_and_kustomizations_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("{ broken", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("{ broken", encoding="utf-8")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    body = {"apiVersion": API, "kind": "ModelInstance", **instance("fast", "gpt-3.5-turbo", 1)}
    del body["metadata"]["namespace"]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([config, None, body]), encoding="utf-8")
    given = load(tmp_path, "there")
    assert given.ignored == 1
    assert [str(each.ref) for each in given.documents] == ["ModelInstance there/fast"]


FINE = f"apiVersion: {API}\nkind: PriceBook\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\n---\nb: [1\n", "document 2: this is not YAML"),
        ("a: 1\n---\n- x\n", "document 2: this is no Kubernetes object"),
        (FINE, "document 1: the PriceBook has no metadata.name"),
        (FINE + "metadata: {name: x}\n", "document 1: PriceBook x: spec: Field required"),
        ("kind: Pod\n", "there is no object of"),
    ],
)
def test_what_cannot_be_planned_with_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CliError, match=words):
        load(file, "acme")


@pytest.mark.parametrize(("arguments", "code"), [(["plan"], 2), (["plan", "-f", "/absent", "-o", "xml"], 2)])
def test_wrong_usage(arguments: Sequence[str], code: int) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == code


def test_a_rollout_that_would_be_blocked_is_told_before_it_is_applied(tmp_path: Path) -> None:
    """S2: the pool is full and the upgrade says Block."""
    world = full()
    offered = world.get(MODEL_OFFERINGS, "gpt-4-turbo")["spec"]["snapshots"]
    second = {**offered[0], "name": "gpt-4-turbo-2"}
    world.cluster.user_patch(Ref(MODEL_OFFERINGS, "", "gpt-4-turbo"), {"spec": {"snapshots": [*offered, second]}})
    chat = instance("chat", "gpt-4-turbo", 2, snapshot="gpt-4-turbo-2")

    blocked = of(planned(world, written(tmp_path, ("ModelInstance", chat))), "chat")
    assert (blocked.reason, blocked.ok) == ("Reserved", False)
    assert "need 300 CU, spare 0" in blocked.message

    upgrade = {"whenNoSpare": "InPlace", "minAvailable": 1, "acceptBelowMinimum": True}
    chat["spec"]["upgrade"] = upgrade
    view = planned(world, written(tmp_path, ("ModelInstance", chat)))
    assert of(view, "chat").ok
    assert [each.action for each in view.moves] == [MoveAction.RELEASE, MoveAction.GRANT] * 2

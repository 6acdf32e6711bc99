"""pause, approve, rollback: what they would change, when they make no sense, and that they apply to what was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from reserved_capacity.cli.app import app
from reserved_capacity.cli.connection import Editor, Reader
from reserved_capacity.cli.editing import apply, change_of, to_commit
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.verbs import Verb
from reserved_capacity.cli.world import World
from reserved_capacity.ports import (
    MODEL_INSTANCES,
    ApiError,
    Conflict,
    Forbidden,
    JsonObject,
    Listing,
    OutcomeUnknown,
    Precondition,
    Ref,
    Resource,
)
from reserved_capacity.snapshot import parse_instance
from tests.unit.cli.builders import NEW, OLD, chat, offering, pool, record, rolling, serves, world

CHAT = Ref(MODEL_INSTANCES, "acme", "chat")
CANARY = {"canary": {"instances": 1}}


def judged(verb: Verb, told: JsonObject, *around: JsonObject) -> JsonObject | str:
    """The patch of the spec, or why there is none."""
    seen: World = world(told, *around)
    try:
        return change_of(verb, seen, parse_instance(seen.store, told)).spec
    except CliError as error:
        return str(error)


def running(phase: str = "Progressing", reason: str = "RollingOut", **more: Any) -> JsonObject:
    return rolling(phase, reason, **more)


def on_record(state: str = "Running", **more: Any) -> JsonObject:
    return pool(rollouts=[record(state, **more)])


def test_pause_sets_paused_also_ahead_of_a_rollout_and_off_takes_it_back() -> None:
    assert judged(Verb.PAUSE, running()) == {"upgrade": {"paused": True}}
    assert judged(Verb.PAUSE, chat()) == {"upgrade": {"paused": True}}
    held = running("Paused", "Paused", upgrade={"paused": True})
    assert judged(Verb.RESUME, held) == {"upgrade": {"paused": False}}
    assert "paused already; `kubectl reserved pause chat --off`" in judged(Verb.PAUSE, held)
    assert "nothing to resume: ModelInstance acme/chat: it is not paused but Progressing" in judged(
        Verb.RESUME, running()
    )
    assert "has halted, nothing moves" in judged(Verb.PAUSE, running("Halted", "RolloutFailed", status="False"))


def test_s4_approve_names_the_very_rollout_that_waits() -> None:
    told = running("AwaitingApproval", "AwaitingApproval", upgrade=CANARY)
    assert judged(Verb.APPROVE, told, on_record()) == {"upgrade": {"canary": {"approvedRollout": 4}}}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (chat(), "no rollout waits for an approval"),
        (running(), "is Progressing and has no canary"),
        (running("Canary", upgrade=CANARY), "there is no canary that serves to be approved yet: follow it with"),
        (running("Paused", "Paused", upgrade=CANARY | {"paused": True}), "first `kubectl reserved pause chat --off`"),
        (running("Canary", upgrade={"canary": {"approval": "Timer"}}), "goes on by itself"),
        (running(upgrade={"canary": {"approvedRollout": 4}}), "rollout 4 is approved already and is Progressing"),
        (
            running("AwaitingApproval", "AwaitingApproval", upgrade=CANARY, generation=2),
            "not looked at its newest spec",
        ),
    ],
)
def test_approve_makes_no_sense_where_nothing_waits_and_says_what_to_do(told: JsonObject, words: str) -> None:
    assert words in judged(Verb.APPROVE, told)


def test_s5_rollback_sets_back_what_ran_before_and_nothing_else() -> None:
    assert judged(Verb.ROLLBACK, running(), on_record()) == {"snapshot": OLD}
    profile = on_record(**{"from": {"snapshot": NEW, "profile": "slow"}})
    assert judged(Verb.ROLLBACK, running(), profile) == {"profile": "slow"}
    for state in ("Halted", "RollingBack", "RolledBack", "Done"):
        assert judged(Verb.ROLLBACK, running(), on_record(state)) == {"snapshot": OLD}


def test_s1_what_moved_by_itself_would_move_again_so_rollback_takes_the_opt_in_back() -> None:
    opted = chat(serves(), upgrade={"autoUpgrade": "AtDeprecation"})
    assert judged(Verb.ROLLBACK, opted, on_record("Done")) == {"upgrade": {"autoUpgrade": "Never"}}


def test_rollback_makes_no_sense_without_a_way_back_and_says_so() -> None:
    assert "no rollout of it is on its pool's record" in judged(Verb.ROLLBACK, running(), pool())
    assert "no rollout of it is on" in judged(Verb.ROLLBACK, running(), on_record(instanceUid="another"))
    assert f"asks for {OLD} already" in judged(Verb.ROLLBACK, running(snapshot=OLD), on_record())
    back = on_record(to={"snapshot": OLD, "profile": "default"})
    assert f"it goes back to {OLD} already" in judged(Verb.ROLLBACK, running("RollingBack", snapshot=OLD), back)
    gone = offering("gpt-4-turbo", NEW)
    assert "not listed by the offering any more" in judged(Verb.ROLLBACK, running(), on_record(), gone)
    retired = offering("gpt-4-turbo", OLD)
    retired["spec"]["snapshots"][0]["retiresAt"] = "2026-02-01T00:00:00Z"
    assert "is retired and nothing new is placed on it" in judged(Verb.ROLLBACK, running(), on_record(), retired)


def test_what_is_printed_is_yaml_to_commit_and_a_merge_patch_as_well() -> None:
    seen = world(running(), on_record())
    instance = parse_instance(seen.store, next(iter(seen.store.all(MODEL_INSTANCES))))
    printed = to_commit(instance, change_of(Verb.ROLLBACK, seen, instance))
    assert printed.startswith("# Set this in Git (or repeat with --apply): who has moved goes back to")
    assert yaml.safe_load(printed) == {
        "apiVersion": "reservedcapacity.io/v1alpha1",
        "kind": "ModelInstance",
        "metadata": {"name": "chat", "namespace": "acme"},
        "spec": {"snapshot": OLD},
    }


# ------------------------------------------------------------------------------------------------------------- --apply


class Server:
    """One ModelInstance and its pool. Each patch meets the next of `troubles`, if there is one (None: it goes through)."""

    def __init__(self, told: JsonObject, *troubles: ApiError | None, **edits: int) -> None:
        self.told, self.troubles, self.edits = told, [*troubles], edits
        self.patches: list[tuple[Precondition, Mapping[str, Any]]] = []

    async def get(self, ref: Ref) -> JsonObject | None:
        return self.told if ref == CHAT else None

    async def list(self, resource: Resource, **_: str) -> Listing:
        return Listing([each for each in (self.told, on_record()) if each["kind"] == resource.kind], "7")

    async def patch(self, _: Ref, precondition: Precondition, merge: Mapping[str, Any]) -> JsonObject:
        self.patches.append((precondition, merge))
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            metadata = self.told["metadata"]
            metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
            metadata["generation"] += self.edits.get("edits", 0)
            self.told["status"]["observedGeneration"] = metadata["generation"]
            raise trouble
        return self.told


async def applied(server: Server) -> None:
    await apply(Verb.ROLLBACK, Reader(server, "https://example"), Editor(server, "https://example"), CHAT)  # type: ignore[arg-type]


async def test_apply_writes_with_the_version_that_was_decided_on() -> None:
    server = Server(running())
    await applied(server)
    assert server.patches == [(Precondition("chat", "1"), {"spec": {"snapshot": OLD}})]


async def test_a_status_that_was_written_meanwhile_is_no_reason_to_give_up() -> None:
    server = Server(running(), Conflict("modified"))
    await applied(server)
    assert [each.resource_version for each, _ in server.patches] == ["1", "2"]


async def test_a_spec_that_was_changed_meanwhile_is_left_alone() -> None:
    server = Server(running(), Conflict("modified"), edits=1)
    with pytest.raises(CliError, match="somebody else changed the spec of ModelInstance acme/chat meanwhile"):
        await applied(server)
    assert len(server.patches) == 1


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (Forbidden("denied by a policy"), "you may not change ModelInstance acme/chat: denied by a policy"),
        (OutcomeUnknown("no answer"), "it may have been carried out, so look before you repeat"),
    ],
)
async def test_what_the_server_refuses_or_leaves_open_is_said(trouble: ApiError, words: str) -> None:
    with pytest.raises(CliError, match=words):
        await applied(Server(running(), trouble))


async def test_an_object_that_never_stands_still_is_given_up_on() -> None:
    with pytest.raises(CliError, match="changes all the time, and nothing was written"):
        await applied(Server(running(), *[Conflict("modified")] * 4))


@pytest.mark.parametrize("arguments", [["pause"], ["pause", "cup/prod"], ["approve", "mi/"], ["rollback", "a", "b"]])
def test_a_verb_takes_the_name_of_one_instance(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2

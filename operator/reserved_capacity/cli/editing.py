"""Owns `pause`, `approve` and `rollback`: the change as YAML to commit, or applied to the object that it was decided on."""

from __future__ import annotations

from typing import Any

import yaml

from reserved_capacity.api.meta import API_VERSION
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.cli.connection import Editor, Reader
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.rollouts import situation_of
from reserved_capacity.cli.verbs import Change, Senseless, Verb, decide
from reserved_capacity.cli.world import Progress, Want, World, read
from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    Conflict,
    JsonObject,
    Precondition,
    Ref,
)

_TRIES = 4


def verb_wants(namespace: str) -> list[Want]:
    return [
        Want(MODEL_INSTANCES, namespace),
        Want(COMPUTE_UNIT_POOLS, namespace, optional=True),
        Want(MODEL_OFFERINGS, optional=True),
    ]


def change_of(verb: Verb, world: World, instance: ModelInstance) -> Change:
    """Raises CliError where the verb makes no sense now."""
    decided = decide(verb, situation_of(world, instance))
    if isinstance(decided, Senseless):
        name = f"ModelInstance {instance.namespace}/{instance.name}"
        raise CliError(f"nothing to {verb.value.replace('pause --off', 'resume')}: {name}: {decided.message}")
    return decided


def to_commit(instance: ModelInstance, change: Change) -> str:
    """The fields to set, as YAML that is a merge patch as well; a comment says what follows from them."""
    document: JsonObject = {
        "apiVersion": API_VERSION,
        "kind": instance.kind,
        "metadata": {"name": instance.name, "namespace": instance.namespace},
        "spec": change.spec,
    }
    head = f"# Set this in Git (or repeat with --apply): {change.effect}.\n"
    return head + yaml.safe_dump(document, sort_keys=False, default_flow_style=False)


async def apply(verb: Verb, reader: Reader, editor: Editor, ref: Ref) -> Change:
    """Read, decide, write with the version that was read. The operator writes the status all the time: where nothing but that
    has changed, it is decided and tried again. Raises CliError."""
    generation = 0
    for _ in range(_TRIES):
        world = await read(reader, verb_wants(ref.namespace), Progress())
        obj = await editor.get(ref)
        if obj is None:
            raise CliError(f"{ref} is gone")
        instance = ModelInstance.parse(obj)
        generation = generation or instance.metadata.generation
        if instance.metadata.generation != generation:
            raise CliError(f"somebody else changed the spec of {ref} meanwhile: look at it, then repeat")
        change = change_of(verb, world, instance)
        try:
            await editor.patch(ref, _version_of(obj), {"spec": change.spec})
        except Conflict:
            continue
        return change
    raise CliError(f"{ref} changes all the time, and nothing was written: repeat in a moment")


def _version_of(obj: dict[str, Any]) -> Precondition:
    return Precondition(obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])

"""What the commands do: choose the cluster, read, build the view, show it. The only place where these meet."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from reserved_capacity.api.meta import Kind
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.cli import watching
from reserved_capacity.cli.connection import Reader, connected, default_namespace, editing
from reserved_capacity.cli.editing import apply, change_of, to_commit, verb_wants
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.explain import explanation, why_wants
from reserved_capacity.cli.kubeconfig import choose
from reserved_capacity.cli.output import Format, page_of, show, terminal, write
from reserved_capacity.cli.plan import load, objection, plan_view, plan_wants
from reserved_capacity.cli.progress import shown
from reserved_capacity.cli.render_plan import render_plan
from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.render_why import render_why
from reserved_capacity.cli.rollouts import Outcome, outcome_of
from reserved_capacity.cli.targets import kind_of, not_found, resource_of
from reserved_capacity.cli.values import StatusView
from reserved_capacity.cli.verbs import Verb
from reserved_capacity.cli.view import elsewhere_note, instance_screen, status_view
from reserved_capacity.cli.world import Progress, World, instance_wants, read, status_wants
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_INSTANCES, Ref, Resource
from reserved_capacity.snapshot import parse_instance


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command looks, as it was given on the command line."""

    kubeconfig: Path | None
    context: str
    namespace: str
    all_namespaces: bool = False


def is_instance(kind: str) -> bool:
    """Is this how a ModelInstance's kind is spelled?"""
    try:
        return kind_of(kind).kind is Kind.MODEL_INSTANCE
    except CliError:
        return False


async def status(place: Place, pool: str, format_: Format, *, watch: bool) -> None:
    """`kubectl reserved status`. Raises CliError."""
    choice = choose(place.kubeconfig, place.context or None, os.environ)
    async with connected(choice) as reader:
        namespace = "" if place.all_namespaces else place.namespace or default_namespace(choice)

        async def look(progress: Progress) -> StatusView:
            world = await read(reader, status_wants(namespace), progress)
            seen = status_view(world, namespace, pool)
            if seen.pools or not namespace:
                return seen
            there = elsewhere_note(await _namespaces(reader, COMPUTE_UNIT_POOLS))
            return replace(seen, notes=(*seen.notes, there)) if there else seen

        if watch:
            await watching.watch(look, terminal())
            return
        progress = Progress(reader.server)
        seen = await shown(look(progress), progress)
        if format_ is not Format.TABLE:
            write(seen, format_)
            return
        console = terminal()
        show(console, render_status(seen, page_of(console, seen.now)))


async def status_of(place: Place, name: str, format_: Format, *, watch: bool) -> None:
    """`kubectl reserved status mi/NAME`; with -w until its rollout has ended. Raises CliError, also where that failed."""
    choice = choose(place.kubeconfig, place.context or None, os.environ)
    async with connected(choice) as reader:
        namespace = place.namespace or default_namespace(choice)

        async def look(progress: Progress) -> StatusView:
            world = await read(reader, instance_wants(namespace), progress)
            return instance_screen(world, _instance(world, namespace, name), namespace)

        if watch:
            seen = await watching.watch(look, terminal(), lambda view: _outcome(view) is not Outcome.OPEN)
        else:
            progress = Progress(reader.server)
            seen = await shown(look(progress), progress)
            if format_ is Format.TABLE:
                console = terminal()
                show(console, render_status(seen, page_of(console, seen.now)))
            else:
                write(seen, format_)
    if watch and _outcome(seen) is Outcome.FAILED:
        raise CliError(f"the rollout of ModelInstance {namespace}/{name} has failed")


def _outcome(view: StatusView) -> Outcome:
    return outcome_of(view.instance.verdict, view.instance.rollout) if view.instance is not None else Outcome.OPEN


def _instance(world: World, namespace: str, name: str) -> ModelInstance:
    obj = world.store.get(Ref(MODEL_INSTANCES, namespace, name))
    if obj is None:
        names = [each["metadata"]["name"] for each in world.store.all(MODEL_INSTANCES)]
        raise not_found(kind_of("mi"), namespace, name, names, ())
    try:
        return parse_instance(world.store, obj)
    except ValidationError as error:
        raise CliError(f"an object is not as this version of the plugin knows it: {error}") from error


async def edit(place: Place, verb: Verb, name: str, *, applied: bool) -> None:
    """`kubectl reserved pause`, `approve`, `rollback`. Raises CliError where the verb makes no sense now."""
    choice = choose(place.kubeconfig, place.context or None, os.environ)
    namespace = place.namespace or default_namespace(choice)
    async with editing(choice) as (reader, editor):
        progress = Progress(reader.server)
        if not applied:
            world = await shown(read(reader, verb_wants(namespace), progress), progress)
            instance = _instance(world, namespace, name)
            print(to_commit(instance, change_of(verb, world, instance)), end="")
            return
        change = await shown(apply(verb, reader, editor, Ref(MODEL_INSTANCES, namespace, name)), progress)
    print(f"modelinstance/{name} changed: {change.effect}.")
    print("Set the same in Git, or the next sync undoes it. What follows:", end=" ")
    print(f"kubectl reserved status mi/{name} -n {namespace} -w")


async def why(place: Place, kind: str, name: str, format_: Format) -> None:
    """`kubectl reserved why`. Raises CliError."""
    info = kind_of(kind)
    resource = resource_of(info)
    choice = choose(place.kubeconfig, place.context or None, os.environ)
    async with connected(choice) as reader:
        namespace = (place.namespace or default_namespace(choice)) if info.namespaced else ""
        progress = Progress(reader.server)
        world = await shown(read(reader, why_wants(info, namespace), progress), progress)
        found = explanation(world, info, namespace, name)
        if found is None:
            names = [obj["metadata"]["name"] for obj in world.store.all(resource)]
            elsewhere = await _namespaces(reader, resource, name) if info.namespaced else ()
            raise not_found(info, namespace, name, names, elsewhere)
        if format_ is not Format.TABLE:
            write(found, format_)
            return
        console = terminal()
        show(console, render_why(found, page_of(console, found.now)))


async def plan(place: Place, path: Path, format_: Format) -> None:
    """`kubectl reserved plan`. Raises CliError, also once all is shown, where something given is refused or waits."""
    choice = choose(place.kubeconfig, place.context or None, os.environ)
    given = load(path, place.namespace or default_namespace(choice))
    async with connected(choice) as reader:
        progress = Progress(reader.server)
        world = await shown(read(reader, plan_wants(), progress), progress)
    found = plan_view(world, given)
    if format_ is not Format.TABLE:
        write(found, format_)
    else:
        console = terminal()
        show(console, render_plan(found, page_of(console, found.now)))
    if problem := objection(found):
        raise CliError(problem)


async def _namespaces(reader: Reader, resource: Resource, name: str = "") -> tuple[str, ...]:
    """Namespaces that have such an object, of that name if one is given; none where they may not be listed."""
    try:
        listing = await reader.list(resource, field_selector=f"metadata.name={name}" if name else "")
    except CliError:
        return ()
    return tuple(sorted({item["metadata"]["namespace"] for item in listing.items}))

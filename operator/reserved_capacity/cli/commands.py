"""What the commands do: choose the cluster, read, build the view, show it. The only place where these meet."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from reserved_capacity.cli import watching
from reserved_capacity.cli.connection import Reader, connected, default_namespace
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.explain import explanation, why_wants
from reserved_capacity.cli.kubeconfig import choose
from reserved_capacity.cli.output import Format, page_of, show, terminal, write
from reserved_capacity.cli.plan import load, objection, plan_view, plan_wants
from reserved_capacity.cli.progress import shown
from reserved_capacity.cli.render_plan import render_plan
from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.render_why import render_why
from reserved_capacity.cli.targets import kind_of, not_found, resource_of
from reserved_capacity.cli.values import StatusView
from reserved_capacity.cli.view import elsewhere_note, status_view
from reserved_capacity.cli.world import Progress, read, status_wants
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, Resource


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command looks, as it was given on the command line."""

    kubeconfig: Path | None
    context: str
    namespace: str
    all_namespaces: bool = False


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

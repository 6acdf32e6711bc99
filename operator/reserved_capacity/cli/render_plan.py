"""The prediction of `kubectl reserved plan` as lines. Pure."""

from __future__ import annotations

from rich.text import Text

from reserved_capacity.cli.findings import Level
from reserved_capacity.cli.layout import Column, Page, Row, flow, moment, paragraph, table
from reserved_capacity.cli.plan import PlanView, objection
from reserved_capacity.cli.render_plan_units import planned_reservation
from reserved_capacity.snapshot.forecast_values import Change, InstanceForecast, Move, MoveAction, PoolForecast

_MOST_NODES = 16  # of a pool that are listed one by one


def render_plan(view: PlanView, page: Page) -> list[Text]:
    ignored = f"{view.ignored_documents} of other kinds ignored" if view.ignored_documents else ""
    lines = flow((f"Plan of {view.documents} objects", ignored, moment(view.now), "nothing is written"), page, indent=0)
    problem = objection(view)
    level = Level.ACT if problem else Level.FINE
    verdict = problem or "all that was given would be carried out"
    lines += paragraph(f"{verdict[0].upper()}{verdict[1:]}", page, indent=0, first=page.mark(level))
    for pool in view.pools:
        lines += [Text(), *_pool(pool, page)]
    if view.instances:
        lines += [Text(), *_instances(view, page)]
    for reservation in view.reservations:
        lines += [Text(), *planned_reservation(reservation, page)]
    if view.moves:
        lines += [Text(), Text("Moves, in this order"), *(line for each in view.moves for line in _move(each, page))]
    for note in view.notes:
        lines += [Text(), *paragraph(note, page, indent=0)]
    return lines


def _pool(pool: PoolForecast, page: Page) -> list[Text]:
    lines = paragraph(f"POOL {pool.namespace}/{pool.name}   {pool.reason}", page, indent=0, first=_mark(pool.ok, page))
    amounts = ("contracted", "provisioned", "allocated", "idle", "unhealthy")
    chips = [
        f"{name} {_arrow(Change(getattr(pool.before, name), getattr(pool.after, name)), page)}" for name in amounts
    ]
    lines += flow(["CU:", *chips], page)
    if not pool.ok:
        lines += paragraph(pool.message, page, indent=4, first=page.mark(Level.ACT))
    changed = [each for each in pool.nodes if each.compute_units.before != each.compute_units.after]
    nodes = [f"{each.name} {_arrow(each.compute_units, page)}" for each in changed[:_MOST_NODES]]
    if len(changed) > _MOST_NODES:
        nodes.append(f"and {len(changed) - _MOST_NODES} more nodes")
    lines += flow(["nodes claimed:", *nodes], page) if nodes else []
    for each in pool.change_sets:
        lines += paragraph(f"change set {each.id}   {each.phase}: {each.message}", page)
    return lines


def _instances(view: PlanView, page: Page) -> list[Text]:
    columns = (
        Column("INSTANCE"),
        Column("OFFERING"),
        Column("DESIRED", right=True),
        Column("HELD", right=True),
        Column("CU", right=True),
        Column("CAPACITYRESERVED", prose=True),
    )
    return table(columns, [_instance(each, page) for each in view.instances], page)


def _instance(each: InstanceForecast, page: Page) -> Row:
    reason = each.reason if each.refused in (None, each.reason) else f"{each.reason}, refused: {each.refused}"
    cells = (
        f"{each.namespace}/{each.name}",
        each.offering,
        str(each.desired),
        _arrow(each.held, page),
        _arrow(each.compute_units, page),
    )
    last = Text.assemble(_mark(each.ok, page), f" {reason}")
    below = () if each.ok else tuple(paragraph(each.message, page, indent=4, first=page.mark(Level.ACT)))
    return Row((*map(Text, cells), last), below)


def _move(move: Move, page: Page) -> list[Text]:
    verb = "release" if move.action is MoveAction.RELEASE else "grant"
    place = f"{move.compute_units} CU on {', '.join(move.nodes)}"
    return paragraph(f"{verb} {move.namespace}/{move.member}: {place}", page)


def _mark(ok: bool, page: Page) -> Text:
    return page.mark(Level.FINE if ok else Level.ACT)


def _arrow(change: Change, page: Page) -> str:
    if change.before == change.after:
        return str(change.after)
    return f"{change.before} {page.signs.arrow} {change.after}"

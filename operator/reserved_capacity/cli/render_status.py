"""The status screen as lines. Pure: a StatusView and a Page in, lines out.

The order is that of the questions at night: what needs me, what is the pool worth, who holds it, what waits and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from rich.text import Text

from reserved_capacity.cli.findings import Level, Verdict
from reserved_capacity.cli.layout import STYLES, Column, Page, Row, ago, bar, flow, moment, paragraph, table
from reserved_capacity.cli.render_findings import finding_lines, ready_cell
from reserved_capacity.cli.render_instances import counted, instances_table
from reserved_capacity.cli.render_nodes import nodes_table
from reserved_capacity.cli.render_reservations import reservation_lines
from reserved_capacity.cli.reservations import ReservationView
from reserved_capacity.cli.values import (
    ClassView,
    CommitmentView,
    InstanceView,
    PoolView,
    StatusView,
    Units,
)

_BAR_CELLS = 72
_SOON = timedelta(days=60)
_ASKING = (
    (Level.ACT, "Somebody has to act on"),
    (Level.WARNING, "Goes on when a person says so:"),
    (Level.MOVING, "On its way by itself:"),
)


def render_status(view: StatusView, page: Page, *, brief: bool = False) -> list[Text]:
    """`brief`: only counts of what is healthy, for a window that is too low for everything."""
    lines = _headline(view, page)
    if view.instance is not None:
        return [*lines, Text(), *instances_table([view.instance], page, brief=brief, alone=True), *_notes(view, page)]
    for pool in view.pools:
        lines += [Text(), *_pool(view, pool, page, brief=brief)]
    if view.strays:
        strays = [replace(each, name=_placed(view, each)) for each in view.strays]
        lines += [Text(), Text("INSTANCES WITHOUT A POOL", "bold"), *instances_table(strays, page, brief=brief)]
    for each in view.reservations:
        lines += [Text(), *reservation_lines(each, page, name=_placed(view, each), brief=brief)]
    lines += _notes(view, page)
    if view.classes:
        lines += [Text(), *_classes(view.classes, page)]
    return lines


def _notes(view: StatusView, page: Page) -> list[Text]:
    lines = [Text()] if view.notes else []
    for note in view.notes:
        lines += paragraph(Text(note, "dim"), page, indent=0)
    return lines


# ------------------------------------------------------------------------------------------------------------- headline


def _headline(view: StatusView, page: Page) -> list[Text]:
    where = f"Namespace {view.namespace}" if view.namespace else "All namespaces"
    instances = sum(len(pool.instances) for pool in view.pools) + len(view.strays)
    counts = f"{counted(len(view.pools), 'pool')}, {counted(instances, 'instance')}" if view.instance is None else ""
    lines = flow([Text(where, "bold"), counts, Text(f"{view.now:%Y-%m-%d %H:%M:%S}Z", "dim")], page, indent=0)
    said = [(Level.ACT, warning) for warning in view.warnings]
    said += [(level, f"{words} {_named(asking)}") for level, words in _ASKING if (asking := view.asking(level))]
    if remarked := [who for who, verdict in view.verdicts if verdict.remark]:
        said.append((Level.WARNING, f"Serves, and something is left to do: {', '.join(remarked)}"))
    if not said and (view.pools or instances or view.instance):
        said.append((Level.FINE, "All is as it should be"))
    for level, words in said:
        lines += paragraph(Text(words, STYLES[level]), page, indent=0, first=page.mark(level))
    if not view.pools and not view.strays and view.instance is None:
        lines += paragraph("There is no ComputeUnitPool here.", page, indent=0)
    return lines


def _named(asking: Sequence[tuple[str, Verdict]]) -> str:
    return ", ".join(f"{who} ({verdict.reason})" if verdict.reason else who for who, verdict in asking)


def _placed(view: StatusView, each: PoolView | InstanceView | ReservationView) -> str:
    """The name, with its namespace where there are several."""
    return each.name if view.namespace else f"{each.namespace}/{each.name}"


# ---------------------------------------------------------------------------------------------------------------- pools


def _pool(view: StatusView, pool: PoolView, page: Page, *, brief: bool) -> list[Text]:
    chips: list[Text | str] = [
        Text(f"POOL {_placed(view, pool)}", "bold"),
        ready_cell(pool.verdict, page),
        pool.phase,
        f"account {pool.account}",
        f"class {pool.accelerator_class}",
    ]
    return [
        *flow(chips, page, indent=0),
        *units_lines(pool.units, page),
        *finding_lines(pool.verdict, page, indent=2),
        Text(),
        *_commitments(pool.commitments, page),
        Text(),
        *nodes_table(pool.nodes, pool.nodes_total, page, brief=brief),
        Text(),
        *instances_table(pool.instances, page, brief=brief),
    ]


def units_lines(units: Units, page: Page) -> list[Text]:
    """The bar of a pool's compute units, and the figures that are its legend."""
    signs = page.signs
    allocated = max(0, units.allocated_cu - units.releasing_cu)
    releasing = min(units.releasing_cu, units.allocated_cu)
    drawn = bar(
        (
            (signs.held, allocated, "green"),
            (signs.releasing, releasing, "yellow"),
            (signs.idle, units.idle_cu, "cyan"),
            (signs.sick, units.unhealthy_cu, "bold red"),
            (signs.none, units.missing_cu, "dim"),
        ),
        min(page.width - 4, _BAR_CELLS),
    )
    owed = [
        f"{units.contracted_cu} CU contracted",
        f"{units.provisioned_cu} provisioned",
        _figure(signs.none, units.missing_cu, "missing", "bold red") if units.missing_cu else "",
    ]
    used = [
        _figure(signs.held, units.allocated_cu, "allocated", "green"),
        _figure(
            signs.releasing, units.releasing_cu, "of it releasing" if units.releasing_cu else "releasing", "yellow"
        ),
        _figure(signs.idle, units.idle_cu, "idle", "cyan"),
        _figure(signs.sick, units.unhealthy_cu, "unhealthy", "bold red"),
    ]
    legend = flow([*owed, *used], page) if page.wide else [*flow(owed, page), *flow(used, page)]
    return [*([Text.assemble("  ", drawn)] if drawn.plain else []), *legend]


def _figure(sign: str, amount: int, word: str, style: str) -> Text:
    """`■ 600 allocated`: the sign of the bar, where it is in the bar."""
    return Text.assemble((f"{sign} ", style), f"{amount} {word}") if amount else Text(f"{amount} {word}", "dim")


_COMMITMENT_COLUMNS = (
    Column("COMMITMENT"),
    Column("CU", right=True),
    Column("PROVISIONED", right=True),
    Column("TERM"),
    Column("STATE"),
    Column("BILLED FROM"),
    Column("ENDS"),
)


def _commitments(commitments: Sequence[CommitmentView], page: Page) -> list[Text]:
    return table(_COMMITMENT_COLUMNS, [_commitment(each, page) for each in commitments], page)


def _commitment(commitment: CommitmentView, page: Page) -> Row:
    late = commitment.provisioned_cu < commitment.compute_units
    start = moment(commitment.billing_start) if commitment.billing_start else f"by {commitment.provision_by}"
    end = moment(commitment.term_end)
    left = f" ({ago(page, commitment.term_end)})" if page.wide and end else ""
    then = ", then renews" if commitment.renewal == "Renew" and end else ""
    soon = commitment.term_end is not None and commitment.term_end - page.now < _SOON
    return Row(
        (
            Text(commitment.id),
            Text(str(commitment.compute_units)),
            Text(str(commitment.provisioned_cu), "yellow" if late else ""),
            Text(commitment.term),
            Text(commitment.state or "not accepted", "" if commitment.state else "bold red"),
            Text(start),
            Text(end + left + then, "yellow" if soon else ""),
        )
    )


# --------------------------------------------------------------------------------------------------------------- others


def _classes(classes: Sequence[ClassView], page: Page) -> list[Text]:
    numbers = ("NODES", "READY", "CORDONED", "FAILED", "CU", "CLAIMED", "FREE", "UNHEALTHY")
    columns = [Column("CLASS"), *(Column(number, right=True) for number in numbers)]
    return table(columns, [_class(each, page) for each in classes], page, indent=0)


def _class(class_: ClassView, page: Page) -> Row:
    bad, odd = STYLES[Level.ACT], STYLES[Level.WARNING]
    return Row(
        (
            Text(class_.name, "bold"),
            Text(str(class_.nodes)),
            Text(str(class_.ready), odd if class_.ready < class_.nodes else ""),
            Text(str(class_.cordoned), odd if class_.cordoned else ""),
            Text(str(class_.failed), bad if class_.failed else ""),
            Text(str(class_.total_cu)),
            Text(str(class_.claimed_cu)),
            Text(str(class_.free_cu)),
            Text(str(class_.unhealthy_cu), bad if class_.unhealthy_cu else ""),
        ),
        below=tuple(finding_lines(class_.verdict, page, indent=2)),
    )

"""Instances and their members as lines, each with its rollout and what is not as it should be. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from reserved_capacity.cli.findings import Level
from reserved_capacity.cli.layout import STYLES, Column, Page, Row, paragraph, since, table
from reserved_capacity.cli.render_findings import finding_lines, ready_cell
from reserved_capacity.cli.render_rollout import rollout_lines, without_rollout
from reserved_capacity.cli.values import InstanceView, MemberView

_HEALTHY_SHOWN = 12  # members of one instance that serve and are listed before the rest is only counted


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_INSTANCE_COLUMNS = (
    Column("DESIRED", right=True),
    Column("HELD", right=True),
    Column("AVAILABLE", right=True),
    Column("CU", right=True),
    Column("READY"),
)
_MEMBER_COLUMNS = (Column(""), Column(""), Column(""), Column(""), Column("", prose=True))


def instances_table(instances: Sequence[InstanceView], page: Page, *, brief: bool, alone: bool = False) -> list[Text]:
    """`alone`: the instance is all that was asked for, so also its last rollout is told."""
    if not instances:
        return paragraph(Text("No ModelInstance uses the pool.", "dim"), page)
    models = (Column("OFFERING"), Column("SNAPSHOT")) if page.wide else (Column("OFFERING / SNAPSHOT"),)
    columns = (Column("INSTANCE"), *models, *_INSTANCE_COLUMNS)
    return table(columns, [_instance(each, page, brief=brief, alone=alone) for each in instances], page)


def _instance(instance: InstanceView, page: Page, *, brief: bool, alone: bool) -> Row:
    rollout = instance.rollout
    short = instance.available < instance.desired
    models = [instance.offering, instance.snapshot] if page.wide else [f"{instance.offering}\n{instance.snapshot}"]
    return Row(
        (
            Text(instance.name, "bold"),
            *map(Text, models),
            Text(str(instance.desired)),
            Text(str(instance.held), "yellow" if instance.held < instance.desired else ""),
            Text(str(instance.available), STYLES[instance.verdict.level] if short else ""),
            Text(str(instance.compute_units)),
            ready_cell(instance.verdict, page, reason=page.wide, phase=instance.phase),
        ),
        below=(
            *_members(instance, page, brief=brief),
            *(rollout_lines(rollout, page, indent=4) if rollout is not None and (alone or not rollout.settled) else ()),
            *finding_lines(without_rollout(instance.verdict, rollout), page, indent=4),
        ),
    )


def _members(instance: InstanceView, page: Page, *, brief: bool) -> list[Text]:
    """Those that do not serve, all; those that do, as long as it is a few."""
    rolling = any(member.runs for member in instance.members)
    # Who moves is of interest also while it serves.
    serving = [member for member in instance.members if member.phase == "Available" and not member.place]
    limit = 0 if brief else _HEALTHY_SHOWN
    hidden = {member.name for member in serving[limit:]}
    rows = [
        _member(instance, member, page, rolling=rolling) for member in instance.members if member.name not in hidden
    ]
    columns = _MEMBER_COLUMNS if rolling else _MEMBER_COLUMNS[1:]
    lines = table(columns, rows, page, indent=4) if rows else []
    if hidden:
        more = f"and {len(hidden)} more" if rows else counted(len(hidden), "member")
        lines += paragraph(Text(f"{more} Available", "dim"), page, indent=4)
    return lines


def _member(instance: InstanceView, member: MemberView, page: Page, *, rolling: bool) -> Row:
    style = {"Available": "green", "Unavailable": "bold red"}.get(member.phase, "yellow")
    differs = member.snapshot and member.snapshot != instance.snapshot and member.runs not in ("old", "new")
    other = f", runs {member.snapshot}" if differs else ""
    other += f", {member.place}" if member.place else ""
    cells = (
        Text(member.name),
        *((Text(member.runs, "green" if member.runs == "new" else "dim"),) if rolling else ()),
        Text(member.phase, style),
        Text(", ".join(member.nodes)),
        Text(f"{since(page, member.since)}{other}", "dim"),
    )
    trouble = Text(member.trouble, STYLES[Level.WARNING])
    return Row(cells, below=tuple(paragraph(trouble, page, indent=6)) if member.trouble else ())

"""Conditions that are not True, as lines: the reason, its message whole, and what to do. Pure."""

from __future__ import annotations

from rich.text import Text

from reserved_capacity.api.conditions import ConditionType
from reserved_capacity.cli.findings import Finding, Level, Verdict
from reserved_capacity.cli.layout import STYLES, Page, ago, paragraph


def ready_cell(verdict: Verdict, page: Page, *, reason: bool = True, phase: str = "") -> Text:
    """`✗ WaitingForComputeUnits`; without `reason` only what `Ready` says. A Ready object is called by its phase."""
    if not verdict.ready:
        return Text.assemble(page.mark(verdict.level), (" no status yet", STYLES[verdict.level]))
    not_ready = verdict.reason if reason else verdict.ready
    word = (phase or "Ready") if verdict.ready == "True" else not_ready
    return Text.assemble(page.mark(verdict.level), (f" {word}", STYLES[verdict.level]))


def finding_lines(verdict: Verdict, page: Page, *, indent: int) -> list[Text]:
    """All that is to be known about an object that is not as it should be, or cannot stay so; nothing for one that is."""
    lines = paragraph(Text(verdict.note, "yellow"), page, indent=indent) if verdict.note else []
    if verdict.remark:
        lines += paragraph(Text(verdict.remark, "bold"), page, indent=indent, first=page.mark(Level.WARNING))
    for finding in verdict.findings:
        lines += _finding(finding, page, indent)
    return lines


def _finding(finding: Finding, page: Page, indent: int) -> list[Text]:
    style = STYLES[finding.level]
    loud = finding.level in (Level.ACT, Level.MOVING)
    # `Ready` only repeats the one that decides.
    types = [type_ for type_ in finding.types if type_ != ConditionType.READY] or finding.types
    text = Text.assemble(
        (finding.reason, style),
        (f": {finding.message}", "bold" if loud else ""),
        (f" ({', '.join(types)}, {ago(page, finding.since)})", "dim"),
    )
    mark = page.mark(finding.level)
    lines = paragraph(text, page, indent=indent, first=mark)
    remedy = finding.remedy or finding.meaning
    if remedy:
        arrow = Text(page.signs.arrow, style)
        lines += paragraph(remedy, page, indent=indent + mark.cell_len + 1, first=arrow)
    return lines

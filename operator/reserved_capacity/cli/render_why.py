"""An explanation as lines: the answer, what decides and what to do, the chain, what is around it. Pure."""

from __future__ import annotations

from rich.text import Text

from reserved_capacity.cli.explain import Explanation, Link
from reserved_capacity.cli.findings import Level
from reserved_capacity.cli.layout import STYLES, Column, Page, Row, ago, moment, paragraph, table
from reserved_capacity.cli.sections import Section


def render_why(found: Explanation, page: Page) -> list[Text]:
    level = found.verdict.level
    lines = paragraph(Text(found.sentence, STYLES[level]), page, indent=0, first=page.mark(level))
    for warning in found.warnings:
        lines += paragraph(Text(warning, STYLES[Level.ACT]), page, indent=0, first=page.mark(Level.ACT))
    lines += _decider(found, page)
    lines += _chain(found, page)
    for section in found.sections:
        lines += [Text(), *_section(section, page)]
    if found.notes:
        lines.append(Text())
    for note in found.notes:
        lines += paragraph(Text(note, "dim"), page, indent=0)
    return lines


def _decider(found: Explanation, page: Page) -> list[Text]:
    """What the deciding condition says, and what follows for the reader."""
    decider = found.verdict.decider
    facts: list[tuple[str, str]] = []
    if found.verdict.note and found.verdict.ready:
        facts.append(("Note", found.verdict.note))
    if decider is not None:
        facts.append(("Now", decider.message))
        facts.append(("Next step", decider.remedy))
        facts.append(("Since", f"{moment(decider.since)} ({ago(page, decider.since)})"))
    rows = [Row((Text(label, "dim"), Text(text, "bold" if label != "Since" else ""))) for label, text in facts if text]
    return [Text(), *table((Column(""), Column("", prose=True)), rows, page)] if rows else []


def _chain(found: Explanation, page: Page) -> list[Text]:
    if not found.chain:
        return []
    columns = (Column(""), Column("CONDITION"), Column("STATUS"), Column("REASON"), Column("MESSAGE", prose=True))
    rows = [_link(found, link, page) for link in found.chain]
    title = Text("Conditions, in the order in which they decide", "bold")
    return [Text(), title, *table(columns, rows, page)]


def _link(found: Explanation, link: Link, page: Page) -> Row:
    finding = next((each for each in found.verdict.findings if link.type in each.types), None)
    level = finding.level if finding else Level.FINE
    style = STYLES[level]
    message = Text(link.message)
    if finding is not None and finding.decides:
        # What stands above already is not said again in full.
        message = Text("this decides, see above" if link.decides else "the same", "dim")
    return Row((page.mark(level), Text(link.type), Text(link.status, style), Text(link.reason, style), message))


def _section(section: Section, page: Page) -> list[Text]:
    lines = paragraph(Text(section.title, "bold"), page, indent=0)
    if section.text:
        lines += paragraph(section.text, page)
    if section.rows:
        lines += _rows(section, page)
    return lines


def _rows(section: Section, page: Page) -> list[Text]:
    """Messages stand below their row where there is no room beside it."""
    split = section.columns[-1] == _MESSAGE and not page.wide
    shown = section.columns[:-1] if split else section.columns
    columns = [Column(name, right=name in _NUMBERS, prose=name in _PROSE) for name in shown]
    rows = [
        Row(tuple(map(Text, row[: len(shown)])), below=tuple(paragraph(row[-1], page, indent=4)) if split else ())
        for row in section.rows
    ]
    return table(columns, rows, page)


_MESSAGE = "MESSAGE"
_PROSE = frozenset({_MESSAGE, "EFFECT", "POD", "STATE", "HELD BY", "CLAIMED BY"})
_NUMBERS = frozenset(
    {
        "CU",
        "PROVISIONED",
        "CONTRACTED",
        "IDLE",
        "FREE",
        "BLOCKS",
        "PRIORITY",
        "DESIRED",
        "HELD",
        "AVAILABLE",
        "PINNED BY",
        "UNITS",
        "A UNIT-DAY",
        "INPUT",
        "OUTPUT",
    }
)

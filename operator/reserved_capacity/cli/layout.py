"""Lines of text that fit a width: tables, paragraphs, flows, bars. Pure; nothing is ever cut off, only folded.

A line is a rich Text without trailing space. Colour only repeats what words and signs already say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from reserved_capacity.cli.findings import Level

MIN_WIDTH = 60
WIDE = 110
_GAP = 2
_MIN_COLUMN = 4
_MIN_PROSE = 20
_RULER = Console(width=10_000, color_system=None)  # Text.wrap wants one; it prints nothing

STYLES = {
    Level.FINE: "green",
    Level.ASKED: "dim",
    Level.WARNING: "yellow",
    Level.MOVING: "yellow",
    Level.ACT: "bold red",
}


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters that a terminal can show."""

    held: str
    releasing: str
    idle: str
    other: str
    sick: str
    none: str
    levels: dict[Level, str]
    arrow: str


UNICODE = Signs(
    held="■",
    releasing="▣",
    idle="□",
    other="▒",
    sick="✗",
    none="·",
    levels={Level.FINE: "✓", Level.ASKED: "○", Level.WARNING: "!", Level.MOVING: "…", Level.ACT: "✗"},
    arrow="→",
)
ASCII = Signs(
    held="#",
    releasing="%",
    idle="o",
    other="=",
    sick="x",
    none=".",
    levels={Level.FINE: "ok", Level.ASKED: "-", Level.WARNING: "!", Level.MOVING: "~", Level.ACT: "X"},
    arrow="->",
)


@dataclass(frozen=True, slots=True)
class Page:
    """Where the lines go: how wide, which signs, and what time it is there."""

    width: int
    now: datetime
    signs: Signs = UNICODE

    @property
    def wide(self) -> bool:
        return self.width >= WIDE

    def mark(self, level: Level) -> Text:
        return Text(self.signs.levels[level], STYLES[level])


@dataclass(frozen=True, slots=True)
class Column:
    """`prose` folds first where the width is short, down to what still reads well; then names do."""

    header: str
    right: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Cells, and lines that stand below them over the table's whole width."""

    cells: tuple[Text, ...]
    below: tuple[Text, ...] = ()


def table(columns: Sequence[Column], rows: Sequence[Row], page: Page, *, indent: int = 2) -> list[Text]:
    """Aligned columns under a heading (none where all headers are empty). Where the width is short, the widest columns fold."""
    heading = Row(tuple(Text(column.header, "dim") for column in columns))
    shown = [heading, *rows] if any(column.header for column in columns) else list(rows)
    widths = _widths(columns, [row.cells for row in shown], page.width - indent)
    lines: list[Text] = []
    for row in shown:
        lines += _row(row.cells, widths, columns, indent)
        lines += row.below
    return lines


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Text]], available: int) -> list[int]:
    widths = [
        max(cell_len(line) for cell in cells for line in cell.plain.split("\n")) for cells in zip(*rows, strict=True)
    ]
    least = [
        min(width, _MIN_PROSE if column.prose else _MIN_COLUMN) for column, width in zip(columns, widths, strict=True)
    ]
    while (over := sum(widths) + _GAP * (len(widths) - 1) - available) > 0:
        spare = [width - low for width, low in zip(widths, least, strict=True)]
        prose = [each if column.prose else 0 for column, each in zip(columns, spare, strict=True)]
        candidates = prose if any(prose) else spare
        if not any(candidates):
            break
        widest = max((width, place) for place, width in enumerate(widths) if candidates[place])[1]
        widths[widest] -= min(over, 1)
    return widths


def _row(cells: Sequence[Text], widths: Sequence[int], columns: Sequence[Column], indent: int) -> list[Text]:
    folded = [_folded(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for number in range(max(len(each) for each in folded)):
        line = Text(" " * indent)
        for column, width, parts in zip(columns, widths, folded, strict=True):
            part = parts[number] if number < len(parts) else Text()
            space = " " * (width - part.cell_len)
            line += Text.assemble(space, part) if column.right else Text.assemble(part, space)
            line.append(" " * _GAP)
        lines.append(_trimmed(line))
    return lines


def paragraph(text: Text | str, page: Page, *, indent: int = 2, first: Text | None = None) -> list[Text]:
    """Folded at words; `first` (a mark) stands before the first line, and the others hang under that line's text."""
    content = Text(text) if isinstance(text, str) else text
    lead = Text.assemble(first, " ") if first is not None else Text()
    start = indent + lead.cell_len
    lines = []
    for number, part in enumerate(_folded(content, max(_MIN_COLUMN, page.width - start))):
        before = Text.assemble(" " * indent, lead) if number == 0 else Text(" " * start)
        lines.append(_trimmed(Text.assemble(before, part)))
    return lines


def flow(chips: Iterable[Text | str], page: Page, *, indent: int = 2, gap: int = 3) -> list[Text]:
    """Phrases one after the other, none broken over two lines unless it is longer than a line. Empty ones are left out."""
    lines: list[Text] = []
    line = Text()
    for chip in chips:
        piece = Text(chip) if isinstance(chip, str) else chip
        if not piece.plain:
            continue
        if line.plain and indent + line.cell_len + gap + piece.cell_len > page.width:
            lines += paragraph(line, page, indent=indent)
            line = Text()
        line = Text.assemble(line, " " * gap, piece) if line.plain else piece.copy()
    return lines + paragraph(line, page, indent=indent) if line.plain else lines


def bar(parts: Sequence[tuple[str, int, str]], cells: int) -> Text:
    """`parts` (sign, amount, style) in proportion over `cells` characters. An amount that is not 0 gets at least one."""
    total = sum(amount for _, amount, _ in parts)
    if not total:
        return Text()
    ends = [cells * sum(amount for _, amount, _ in parts[: place + 1]) // total for place in range(len(parts))]
    sizes = [end - start for start, end in pairwise((0, *ends))]
    for place, (_, amount, _) in enumerate(parts):
        if amount and not sizes[place]:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[place] = 1
    return Text.assemble(*((sign * size, style) for (sign, _, style), size in zip(parts, sizes, strict=True)))


def ago(page: Page, then: datetime | None) -> str:
    """`3m ago`, `in 366d`; the largest unit that gives at least 2."""
    if then is None:
        return ""
    passed = page.now - then
    return f"{length(passed)} ago" if passed >= timedelta() else f"in {length(-passed)}"


def length(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(then: datetime | None) -> str:
    """UTC; only the day where it is a midnight, as all contract dates are."""
    if then is None:
        return ""
    return f"{then:%Y-%m-%d}" if (then.hour, then.minute, then.second) == (0, 0, 0) else f"{then:%Y-%m-%d %H:%M:%S}Z"


def since(page: Page, then: datetime | None) -> str:
    """`since 14:58:55Z (14m ago)`, with the day where it is not today."""
    if then is None:
        return ""
    when = f"{then:%H:%M:%S}Z" if then.date() == page.now.date() else moment(then)
    return f"since {when} ({ago(page, then)})"


def _folded(text: Text, width: int) -> list[Text]:
    return [_trimmed(line) for line in text.wrap(_RULER, max(1, width), overflow="fold")] or [Text()]


def _trimmed(line: Text) -> Text:
    line.rstrip()
    return line

"""A pool's nodes as lines, one sign for each block. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from reserved_capacity.cli.layout import Column, Page, Row, bar, paragraph, table
from reserved_capacity.cli.values import NodeView

_MOST_SIGNS = 32  # a node of more blocks is drawn in proportion
_HEALTHY_SHOWN = 16  # nodes without trouble that are listed before the rest is only counted
_SICK = frozenset({"Unhealthy", "Replacing"})
_STATE_STYLES = {"Free": "cyan", "Held": "green", "Cordoned": "yellow", "Unhealthy": "bold red", "Replacing": "yellow"}


def nodes_table(nodes: Sequence[NodeView], total: int, page: Page, *, brief: bool) -> list[Text]:
    """Nodes with trouble, all; the others as long as it is a few. `total` counts also those that the status leaves out."""
    if not nodes:
        return paragraph(Text("No node is claimed yet.", "dim"), page)
    healthy = [node for node in nodes if not node.trouble and node.state in ("Free", "Held")]
    hidden = {node.name for node in healthy[0 if brief else _HEALTHY_SHOWN :]}
    rows = [_node(node, page) for node in nodes if node.name not in hidden]
    columns = (Column("NODE"), Column("BLOCKS"), Column("", prose=True), Column("STATE", prose=True))
    lines = table(columns, rows, page) if rows else []
    unlisted = max(0, total - len(nodes))
    if hidden:
        blocks = sum(node.our_blocks for node in nodes if node.name in hidden)
        more = f"and {len(hidden)} more" if rows else f"{len(hidden)} {'node' if len(hidden) == 1 else 'nodes'}"
        lines += paragraph(Text(f"{more} with {blocks} blocks, all well", "dim"), page)
    if unlisted:
        lines += paragraph(Text(f"and {unlisted} nodes that the status does not list", "dim"), page)
    return lines


def _node(node: NodeView, page: Page) -> Row:
    state = Text(node.state, _STATE_STYLES.get(node.state, ""))
    if node.trouble:
        state.append(f": {node.trouble}", "")
    return Row((Text(node.name), _signs(node, page), Text(_words(node)), state))


def _words(node: NodeView) -> str:
    """`6 of 8 ours: chat-0 3, 3 idle; other pools 2`."""
    ours = (
        f"{node.our_blocks} of {node.total_blocks} ours" if node.total_blocks is not None else f"{node.our_blocks} ours"
    )
    parts = [f"{each.member} {each.blocks}{' releasing' if each.releasing else ''}" for each in node.holders]
    if node.idle_blocks:
        parts.append(f"{node.idle_blocks} {'not held' if node.state in _SICK else 'idle'}")
    others = f"; other pools {node.other_blocks}" if node.other_blocks else ""
    return f"{ours}: {', '.join(parts)}{others}"


def _signs(node: NodeView, page: Page) -> Text:
    signs = page.signs
    sick = node.state in _SICK
    releasing = min(node.held_blocks, sum(each.blocks for each in node.holders if each.releasing))
    total = node.total_blocks if node.total_blocks is not None else node.our_blocks + node.other_blocks
    unclaimed = max(0, total - node.our_blocks - node.other_blocks)
    parts = (
        (signs.sick if sick else signs.held, node.held_blocks - releasing, "bold red" if sick else "green"),
        (signs.releasing, releasing, "yellow"),
        (signs.sick if sick else signs.idle, node.idle_blocks, "bold red" if sick else "cyan"),
        (signs.other, node.other_blocks, "dim"),
        (signs.none, unclaimed, "dim"),
    )
    return bar(parts, min(_MOST_SIGNS, sum(amount for _, amount, _ in parts)))

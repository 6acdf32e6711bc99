"""A rollout as lines: from what to what, where it stands, what it waits for since when, and the ways on. Pure."""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text

from reserved_capacity.api.conditions import ConditionType
from reserved_capacity.cli.findings import Level, Verdict
from reserved_capacity.cli.layout import STYLES, Column, Page, Row, flow, since, table
from reserved_capacity.cli.rollouts import RolloutView

_FACTS = (Column(""), Column("", prose=True))
_BY_ITSELF = frozenset({"Prefetching", "AwaitingWindow", "Canary", "Progressing", "RollingBack"})


def rollout_lines(rollout: RolloutView, page: Page, *, indent: int) -> list[Text]:
    """The whole of it, for a rollout that is under way or has failed; one line for one that has ended well."""
    arrow = page.signs.arrow
    way = (
        f"{rollout.source} {arrow} {rollout.target}"
        if rollout.source != rollout.target
        else f"{arrow} {rollout.target}"
    )
    title = Text(f"Rollout {rollout.id}" if rollout.id else "Rollout", "bold")
    if rollout.settled:
        brought = f"throughput per CU x {rollout.throughput}" if rollout.throughput else ""
        done = Text("done", STYLES[Level.FINE])
        missed = rollout.unavailable
        return flow([title, way, rollout.strategy, done, brought, missed], page, indent=indent)
    lines = flow([title, way, rollout.strategy], page, indent=indent)
    rows = [Row((Text(label, "dim"), text)) for label, text in _facts(rollout, page) if text.plain]
    return lines + table(_FACTS, rows, page, indent=indent + 2)


def without_rollout(verdict: Verdict, rollout: RolloutView | None) -> Verdict:
    """The findings less those that the rollout's own lines say."""
    if rollout is None or rollout.settled:
        return verdict
    told = {ConditionType.UP_TO_DATE, ConditionType.SNAPSHOT_CACHED}
    others = tuple(each for each in verdict.findings if told.isdisjoint(each.types))
    return replace(verdict, findings=others)


def _facts(rollout: RolloutView, page: Page) -> list[tuple[str, Text]]:
    loud = "bold" if rollout.level in (Level.ACT, Level.WARNING) else ""
    when = since(page, rollout.since)
    return [
        (
            "State",
            Text.assemble(page.mark(rollout.level), (f" {_word(rollout)}", STYLES[rollout.level]), f" {when}".rstrip()),
        ),
        ("Step", Text(rollout.step)),
        ("Waits for", Text(rollout.waits_for, loud)),
        ("Failure", Text(rollout.failure, STYLES[Level.ACT])),
        ("Throughput", Text(rollout.compared)),
        ("Unavailable", Text(rollout.unavailable)),
        ("Why", Text(rollout.why, "dim")),
        ("Started", Text(since(page, rollout.started_at).removeprefix("since "), "dim")),
        *_go_on(rollout),
    ]


def _word(rollout: RolloutView) -> str:
    """The phase; of an instance that went back after a failure the condition's reason."""
    return rollout.reason or rollout.phase if rollout.phase == "Idle" else rollout.phase


def _go_on(rollout: RolloutView) -> list[tuple[str, Text]]:
    facts = [("Go on", Text("by itself"))] if rollout.phase in _BY_ITSELF else []
    for way in rollout.ways:
        facts.append(("" if facts else "Go on", Text(way.command)))
        facts.append(("", Text(way.effect, "dim")))
    return facts

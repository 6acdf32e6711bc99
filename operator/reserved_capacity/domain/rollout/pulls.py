"""Pulls of a snapshot's artifact to nodes, before any capacity is released for it (behaviour.md S3; ADR 0063).

One pull is one Job. A Job that has completed is the record that its node has the artifact, so it stays until the rollout
is over; one that did not make it in time is followed by another, after a while that doubles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from reserved_capacity.domain.notices import moment

from .values import Prefetched

FIRST_WAIT: Final = timedelta(minutes=1)
LONGEST_WAIT: Final = timedelta(minutes=30)


class PullState(StrEnum):
    """Where one pull is."""

    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Pull:
    """One Job. `node_uid` is that of the Node as it was: a machine that was registered anew may be empty. `recipe` stands for
    what is pulled with which rights. `trouble` is what its pod says, `ended_at` when it was over."""

    name: str
    uid: str
    node: str
    node_uid: str
    snapshot: str
    recipe: str
    attempt: int
    state: PullState
    trouble: str = ""
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WantedPulls:
    """Of a rollout that moves toward `snapshot`: the nodes that need it now and have not got it. `recipe` is empty where
    nobody can say what to pull."""

    snapshot: str
    recipe: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CreatePull:
    node: str
    node_uid: str
    attempt: int


@dataclass(frozen=True, slots=True)
class PullsPlan:
    """`deletes` come after `creates`: so the number of attempts is not lost between the two. `next_moment`: when one is to be
    tried again."""

    creates: tuple[CreatePull, ...] = ()
    deletes: tuple[Pull, ...] = ()
    next_moment: datetime | None = None


def prefetched_of(
    pulls: Sequence[Pull], snapshot: str, nodes: Mapping[str, str], running: Iterable[str], *, patience: str
) -> Prefetched:
    """Where the snapshot's artifact is: where a pull of it has come to its end, and where members run it already.

    `nodes` are all that there are, with their uids; `patience` says how long a pull may take.
    """
    mine = _current(pulls, snapshot, nodes)
    there = {each.node for each in mine if each.state is PullState.DONE} | set(running)
    failures = {}
    for pull in sorted(mine, key=lambda each: each.attempt):  # the last one is what there is to say
        failures[pull.node] = _failure(pull, patience)
    return Prefetched(
        frozenset(there), {node: told for node, told in sorted(failures.items()) if told and node not in there}
    )


def _current(pulls: Iterable[Pull], snapshot: str, nodes: Mapping[str, str]) -> list[Pull]:
    """Those of the snapshot, to nodes that are the same machines still."""
    return [each for each in pulls if each.snapshot == snapshot and nodes.get(each.node) == each.node_uid]


def _failure(pull: Pull, patience: str) -> str:
    if pull.state is PullState.FAILED:
        again = f", tried again at {moment(at)}" if (at := _next_attempt(pull)) is not None else ""
        return f"not there within {patience}{again}"
    return pull.trouble if pull.state is PullState.RUNNING else ""


def plan_pulls(
    pulls: Sequence[Pull], wanted: WantedPulls | None, nodes: Mapping[str, str], *, now: datetime
) -> PullsPlan:
    """Which Jobs to make and which to remove. `wanted` None: no rollout needs any, so all go."""
    if wanted is None:
        return PullsPlan(deletes=tuple(pulls))
    mine = _current(pulls, wanted.snapshot, nodes)
    kept = {each.name for each in _kept(mine, wanted.recipe)}
    creates, moments = [], []
    for node in wanted.nodes if wanted.recipe else ():
        last = next((each for each in mine if each.node == node and each.name in kept), None)
        if node not in nodes or (last is not None and last.state is not PullState.FAILED):
            continue
        at = _next_attempt(last) if last is not None else None
        if at is not None and at > now:
            moments.append(at)
        else:
            creates.append(CreatePull(node, nodes[node], last.attempt + 1 if last is not None else 1))
    again = {each.node for each in creates}
    gone = [
        each for each in pulls if each.name not in kept or (each.node in again and each.snapshot == wanted.snapshot)
    ]
    return PullsPlan(tuple(creates), tuple(gone), min(moments, default=None))


def _kept(pulls: Sequence[Pull], recipe: str) -> list[Pull]:
    """One for each node: one that is done, else the last attempt at what is pulled now."""
    best: dict[str, Pull] = {}
    for pull in sorted(pulls, key=lambda each: (each.state is PullState.DONE, each.attempt, each.name)):
        if pull.state is PullState.DONE or not recipe or pull.recipe == recipe:
            best[pull.node] = pull
    return list(best.values())


def _next_attempt(failed: Pull) -> datetime | None:
    if failed.ended_at is None:
        return None
    doubled: int = 2 ** min(failed.attempt - 1, 10)
    return failed.ended_at + min(FIRST_WAIT * doubled, LONGEST_WAIT)

"""Owns what the checker has seen of the cluster so far: the newest objects, and of the past what excuses what."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields
from typing import Any, Self

from reserved_capacity.ports import JsonObject
from tests.fakes.cluster import FakeCluster
from tests.simulation.facts import PoolName

FOR_EVER = 1 << 62
A_WHILE = 15  # versions


class Violation(Exception):
    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class Wish:
    """What a ModelInstance asked for from `version` on; `uid` empty: it was gone, or going. `least`: minAvailable.
    `canary`: of so many instances, 0 without one; `approved` is the rollout that may go on."""

    version: int
    uid: str
    desired: int
    target: tuple[str, str] = ("", "")
    least: int = 0
    accepts_fewer: bool = False
    paused: bool = False
    suspended: bool = False
    canary: int = 0
    approval: str = "Manual"
    approved: int = 0


@dataclass(slots=True)
class Sightings:
    """`one_leader`: nobody but one operator writes, ever; sums over several objects hold only then (D7 of the report)."""

    cluster: FakeCluster
    one_leader: bool = True
    actor: Any = None
    broken: list[Violation] = field(default_factory=list)
    _nodes: dict[str, JsonObject] = field(default_factory=dict)
    _most_gpus: dict[str, int] = field(default_factory=dict)
    _node_made_anew: set[str] = field(default_factory=set)
    _trouble: dict[str, int] = field(default_factory=dict)
    _pool_made_anew: set[PoolName] = field(default_factory=set)
    _pools: dict[PoolName, JsonObject] = field(default_factory=dict)
    _granted: dict[tuple[str, str], int] = field(default_factory=dict)
    _wishes: dict[PoolName, list[Wish]] = field(default_factory=dict)
    _before: JsonObject = field(default_factory=dict)
    _pods: dict[PoolName, JsonObject] = field(default_factory=dict)
    _members: dict[PoolName, JsonObject] = field(default_factory=dict)
    _unrecorded: set[str] = field(default_factory=set)
    _foreign: dict[PoolName, tuple[int, str, int]] = field(default_factory=dict)
    looked: dict[tuple[str, str], int] = field(default_factory=dict)
    _serving_by_slice: dict[PoolName, set[tuple[str, str]]] = field(default_factory=dict)
    _serves_since: dict[tuple[str, str], int] = field(default_factory=dict)
    _served_until: dict[tuple[str, str], int] = field(default_factory=dict)
    _moving: set[str] = field(default_factory=set)
    _returning: set[str] = field(default_factory=set)
    _artifacts: set[tuple[str, str, str, str]] = field(default_factory=set)  # namespace, instance, snapshot, node

    def copy(self, cluster: FakeCluster) -> Self:
        """One that knows the same of a copy of the cluster, and goes on from there."""
        known = {
            each.name: copy.copy(getattr(self, each.name))
            for each in fields(self)
            if each.name not in ("cluster", "actor", "_wishes")
        }
        return type(self)(cluster, _wishes={at: [*wishes] for at, wishes in self._wishes.items()}, **known)

    def _looked_at(self, what: str) -> int:
        """The version at which the author of a write had its last look at a node's pods, or at a pool's record; 0: never."""
        return self.looked.get((getattr(self.actor, "name", ""), what), 0)

    def found(self, message: str, invariant: str = "no exceptions") -> None:
        self.broken.append(Violation(invariant, message))

    def raise_if_broken(self) -> None:
        if self.broken:
            raise self.broken[0]

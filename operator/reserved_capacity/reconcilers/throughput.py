"""Compares old and new members of a rollout while both serve (behaviour.md S7, ADR 0046).

It looks every few seconds and keeps what it saw in memory: a new process begins anew. The result is in the status once the
rollout has ended, and stays there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.rollout.values import RolloutRecord
from reserved_capacity.domain.throughput import Comparison, Counters, Window, compared
from reserved_capacity.domain.units import cu_of
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import Clock, TokenCounters
from reserved_capacity.snapshot import members_of, serving_endpoints
from reserved_capacity.store import Store

EVERY = timedelta(seconds=5)
TOLD_EVERY = timedelta(minutes=1)
_VISIBLE = 10  # thousandths
_AT_MOST = 4
"""Members of each version that are looked at: as good as all, and quick."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A rollout, and who may be asked about it. `port` is the Service's."""

    instance: ModelInstance
    offering: ModelOffering
    holdings: tuple[Holding, ...]
    port: int
    record: RolloutRecord

    @property
    def key(self) -> tuple[str, str]:
        return (self.instance.namespace, self.instance.name)


@dataclass(frozen=True, slots=True)
class _Target:
    pod_uid: str
    url: str
    version: Version
    compute_units: int


@dataclass(slots=True)
class _Comparison:
    rollout: int
    windows: dict[str, Window] = field(default_factory=dict)
    told: Comparison | None = None
    told_at: datetime | None = None


@dataclass(slots=True)
class ThroughputMeter:
    """What has been seen of each instance's newest rollout, by (namespace, name) of the instance."""

    counters: TokenCounters
    clock: Clock
    _comparisons: dict[tuple[str, str], _Comparison] = field(default_factory=dict)

    def forget(self, namespace: str, name: str) -> None:
        self._comparisons.pop((namespace, name), None)

    async def look(self, store: Store, subject: Subject) -> datetime | None:
        """Read the counters while there is something to compare; when to look again."""
        record = subject.record
        if not record.moving or record.goes_back:
            return None
        targets = _targets(store, subject)
        if {each.version for each in targets} == {record.source, record.target}:
            seen = self._of(subject)
            found = await asyncio.gather(*(self.counters.read(each.url) for each in targets))
            for target, counted in zip(targets, found, strict=True):
                if counted is not None:
                    _note(seen, target, Counters(self.clock.now(), *counted))
        return self.clock.now() + EVERY

    def result(self, subject: Subject) -> Comparison | None:
        """None: it was not measured, or not by this process."""
        seen, record = self._comparisons.get(subject.key), subject.record
        if seen is None or seen.rollout != record.id:
            return None
        return compared(seen.windows.values(), record.source, record.target)

    def so_far(self, subject: Subject) -> Comparison | None:
        """The result as people are to see it meanwhile: another one not before a minute has gone by, and only if the ratio
        differs in what one can see of it. A status is not written for every look."""
        seen, now = self._comparisons.get(subject.key), self.clock.now()
        found = self.result(subject)
        if seen is None or found is None:
            return None
        if seen.told is not None and seen.told_at is not None and now < seen.told_at + TOLD_EVERY:
            return seen.told
        if seen.told is None or abs(seen.told.ratio - found.ratio) >= _VISIBLE:
            seen.told, seen.told_at = found, now
        return seen.told

    def _of(self, subject: Subject) -> _Comparison:
        if (seen := self._comparisons.get(subject.key)) is None or seen.rollout != subject.record.id:
            seen = self._comparisons[subject.key] = _Comparison(subject.record.id)
        return seen


def _note(seen: _Comparison, target: _Target, counters: Counters) -> None:
    window = seen.windows.get(target.pod_uid)
    if window is None:
        window = Window(target.version, target.compute_units, counters, counters)
    seen.windows[target.pod_uid] = window.until(counters)


def _targets(store: Store, subject: Subject) -> list[_Target]:
    """A few serving members of both versions, in the order of their names."""
    instance = subject.instance
    serving = serving_endpoints(store, instance.namespace, instance.name)
    versions = {each.name: each.version for each in members_of(store, instance.namespace, instance.name)}
    path, found = subject.offering.spec.reserved.serving.metrics_path, []
    for version in (subject.record.source, subject.record.target):
        of_version = [
            _Target(
                endpoint.pod_uid, f"http://{_host(endpoint.address)}:{subject.port}{path}", version, cu_of(held.blocks)
            )
            for held in sorted(subject.holdings, key=lambda each: each.member)
            if held.held and versions.get(held.member) == version
            if (endpoint := serving.get(held.member)) is not None and endpoint.address
        ]
        found += of_version[:_AT_MOST]
    return found


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address

"""Owns the periodic LISTs that repair what the watches missed, and the first ones, without which nothing is decided.

A watch can lose an event, and what was deleted while it had lost its place (research/reliability.md E1, E2). So every
resource is listed every 30 or 60 seconds and compared; what differs is routed as any other change. Streams begin where
a LIST of ours ended (docs/adr/0018).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    OUR_KINDS,
    PODS,
    WATCHED,
    ApiError,
    ClusterReader,
    Listing,
    Resource,
    Throttled,
    Unavailable,
)
from reserved_capacity.store import FOREIGN_PODS, LABEL_SELECTORS, Store
from reserved_capacity.trimming import foreign_gpu_pods

log = structlog.get_logger(__name__)

RESOURCES: Sequence[Resource] = (*WATCHED, FOREIGN_PODS)
OWN_SECONDS = 30.0
OTHERS_SECONDS = 60.0
_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 15.0
# So long after the last sign of life of any kind a call without an answer says that the API server is away.
AWAY_SECONDS = 10.0
# Finished pods hold nothing and unbound ones nowhere: the server need not send them.
_HOLDING = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"


def _uncounted(_kind: str, _changes: int) -> None:
    pass


@dataclass(slots=True)
class Freshness:
    """When the API server was last heard of each resource: a piece of a watch stream (also a bookmark), or a LIST. And
    whether it is away altogether, which no restart of ours would mend (docs/adr/0013)."""

    monotonic: Callable[[], float]
    _heard: dict[Resource, float] = field(default_factory=dict)
    _away_at: float = float("-inf")

    def expect(self, resources: Iterable[Resource]) -> None:
        """Count the age of these from now on."""
        for resource in resources:
            self._heard.setdefault(resource, self.monotonic())

    def heard(self, resource: Resource) -> None:
        self._heard[resource] = self.monotonic()

    def unanswered(self) -> None:
        """A call was not answered, or only that it cannot be now. Where others are, the fault is not the server's."""
        now = self.monotonic()
        if now - max(self._heard.values(), default=float("-inf")) >= AWAY_SECONDS:
            self._away_at = now

    @property
    def away(self) -> bool:
        """Whether the API server answers nothing: nothing was heard since a call showed that it is away."""
        return self._away_at > max(self._heard.values(), default=float("-inf"))

    def since_away(self) -> float:
        """Seconds since it was last seen to be away."""
        return self.monotonic() - self._away_at

    def ages(self) -> dict[str, float]:
        """Seconds by resource name."""
        now = self.monotonic()
        return {str(resource): max(0.0, now - at) for resource, at in self._heard.items()}


def jittered(seconds: float, chance: random.Random) -> float:
    """`seconds` give or take a fifth, so that what started together does not stay together."""
    return seconds * chance.uniform(0.8, 1.2)


@dataclass(slots=True)
class Resync:
    """`missed(kind, changes)` is told what a LIST found that the watch had not told, the first LIST excepted."""

    cluster: ClusterReader
    store: Store
    freshness: Freshness
    missed: Callable[[str, int], None] = _uncounted
    own_seconds: float = OWN_SECONDS
    others_seconds: float = OTHERS_SECONDS
    chance: random.Random = field(default_factory=random.Random)
    _begun: dict[Resource, str] = field(default_factory=dict)

    def synced(self) -> bool:
        """Whether every resource has been listed once."""
        return all(self.store.synced(resource) for resource in RESOURCES)

    async def first(self) -> None:
        """List every resource; return when all have answered. Until then nothing may be decided."""
        self.freshness.expect(RESOURCES)
        # Classes say which resources are GPUs, so foreign pods come after them.
        await asyncio.gather(*(self._until_listed(resource) for resource in WATCHED))
        await self._until_listed(FOREIGN_PODS)
        log.info("synced", objects=sum(len(self.store.all(resource)) for resource in RESOURCES))

    async def where_to_watch_from(self, resource: Resource) -> str | None:
        """The version of a LIST that is in the store. A watch asks once for each: when it asks again, it has lost its
        place (410 Gone), and what happened meanwhile, deletions above all, only another LIST can tell."""
        if self._begun.get(resource) == self.store.listed_version(resource) is not None:
            try:
                await self.once(resource)
            except ApiError as error:  # the watch will fail of the same, and ask again
                log.warning("list failed", resource=str(resource), kind=type(error).__name__, error=str(error))
        version = self.store.listed_version(resource)
        if version is not None:
            self._begun[resource] = version
        return version

    async def forever(self, resource: Resource) -> None:
        """List one resource again and again."""
        period = self.own_seconds if resource in OUR_KINDS else self.others_seconds
        while True:
            await asyncio.sleep(jittered(period, self.chance))
            await self._until_listed(resource)

    async def once(self, resource: Resource) -> int:
        """List one resource and take in the difference; how many objects changed. Raises ApiError."""
        known, before = self.store.synced(resource), self.store.listed_version(resource)
        listing = await self._list(resource)
        if self.store.is_restored(resource, listing):
            if self.store.listed_version(resource) != before:
                return 0  # it only looks so: another LIST has overtaken this one
            self.store.distrust(resource)
            listing = await self._list(resource)  # what was known by its version was not read; now nothing is
        changes = len(self.store.replace(resource, listing))
        self.freshness.heard(resource)
        if known and changes and resource != FOREIGN_PODS:
            log.debug("list found what the watch had not told", resource=str(resource), changes=changes)
            self.missed(resource.kind, changes)
        return changes

    async def _until_listed(self, resource: Resource) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self.once(resource)
                return
            except ApiError as error:
                if isinstance(error, Unavailable | Throttled):
                    self.freshness.unanswered()
                log.warning("list failed", resource=str(resource), kind=type(error).__name__, error=str(error))
            except Exception:
                # A listing that we cannot take in is a defect; to stop looking would make it a blindness.
                log.exception("list not understood", resource=str(resource))
            await asyncio.sleep(jittered(delay, self.chance))
            delay = min(_LONGEST_RETRY_SECONDS, delay * 2)

    async def _list(self, resource: Resource) -> Listing:
        selector = LABEL_SELECTORS.get(resource, "")
        if resource != FOREIGN_PODS:
            return await self.cluster.list(resource, label_selector=selector)
        pods = await self.cluster.list(PODS, label_selector=selector, field_selector=_HOLDING)
        specs = (obj.get("spec") or {} for obj in self.store.all(ACCELERATOR_CLASSES))
        return foreign_gpu_pods(pods, frozenset(str(spec["gpuResource"]) for spec in specs if spec.get("gpuResource")))

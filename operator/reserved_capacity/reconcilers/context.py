"""What every reconciler has in hand: the ports, the store, and the board on which pools leave their verdicts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reserved_capacity.api.conditions import Condition, StatusModel
from reserved_capacity.domain.conditions import ConditionValue, merged
from reserved_capacity.domain.downtime import NodeHealth
from reserved_capacity.domain.eligibility import Refusal
from reserved_capacity.domain.holdings import BlockedMove, Request, Wait
from reserved_capacity.domain.rollout.values import RolloutReport
from reserved_capacity.ports import EVENTS, ApiError, Clock, Cluster, JsonObject, Precondition, Ref
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers import events
from reserved_capacity.reconcilers.billing.board import Billing
from reserved_capacity.reconcilers.throughput import ThroughputMeter
from reserved_capacity.reconcilers.tokens.board import LimitsBoard, UsageBoard
from reserved_capacity.settings import DEFAULT_NAMESPACE, DEFAULT_PULL_IMAGE
from reserved_capacity.store import Store

CAPACITY, POOL, INSTANCE = "capacity", "pool", "instance"
OFFERING, PRICE_BOOK, TOKENS, LIMITS, USAGE = "offering", "pricebook", "tokens", "limits", "usage"


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the pool's plan said of one ModelInstance: of which generation, and why it is refused or waits.

    `spare`: members that a drain may evict at once. `short_of_nodes`: what it waits for is on nodes that take nobody."""

    uid: str
    generation: int
    refusal: Refusal | None
    wait: Wait | None
    move: BlockedMove | None
    overdue: bool
    spare: int = 0
    short_of_nodes: NodeHealth = NodeHealth.FINE
    rollout: RolloutReport | None = None


@dataclass(slots=True)
class Board:
    """The newest assessment of every instance, by (namespace, pool).

    A cache of pure results, not a record: a restart computes it anew from the same world. Until a pool has been
    planned, its instances say PendingEvaluation, unless they have said more of the same spec already.
    """

    _pools: dict[tuple[str, str], Mapping[str, Assessment]] = field(default_factory=dict)
    _wanted: dict[tuple[str, str], tuple[Request, ...]] = field(default_factory=dict)

    def post(self, namespace: str, pool: str, assessments: Mapping[str, Assessment]) -> set[str]:
        """Replace a pool's assessments; returns the names of the instances for which something is new."""
        before = self._pools.get((namespace, pool), {})
        self._pools[namespace, pool] = assessments
        return {name for name in {*before, *assessments} if before.get(name) != assessments.get(name)}

    def knows(self, namespace: str, pool: str) -> bool:
        """Has the pool been planned by this process?"""
        return (namespace, pool) in self._pools

    def want(self, namespace: str, pool: str, wanted: tuple[Request, ...]) -> bool:
        """Say what room the pool's idle claims should be re-arranged for; tells whether that is new."""
        before = self._wanted.pop((namespace, pool), ())
        if wanted:
            self._wanted[namespace, pool] = wanted
        return bool(wanted) and wanted != before

    def wanted(self, namespace: str, pool: str) -> tuple[Request, ...]:
        return self._wanted.get((namespace, pool), ())

    def of(self, namespace: str, pool: str, instance: str) -> Assessment | None:
        return self._pools.get((namespace, pool), {}).get(instance)


@dataclass(frozen=True, slots=True)
class Context:
    """`namespace` is the operator's own. `cluster` is one that puts what it reads and writes into `store`
    (adapters.remembering). `billing` None: no books are kept, as in tests of capacity; `meter` None: nobody compares the
    throughput of old and new. `pull_image`: what the pods run that bring artifacts to nodes."""

    cluster: Cluster
    store: Store
    clock: Clock
    enqueue: Callable[[Key], None]
    billing: Billing | None = None
    namespace: str = DEFAULT_NAMESPACE
    meter: ThroughputMeter | None = None
    pull_image: str = DEFAULT_PULL_IMAGE
    board: Board = field(default_factory=Board)
    limits: LimitsBoard = field(default_factory=LimitsBoard)
    usage: UsageBoard = field(default_factory=UsageBoard)
    _domains: dict[str, asyncio.Lock] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def domain(self, accelerator_class: str) -> AsyncIterator[None]:
        """Held while a class, or a pool of it, is planned and the plan written: a claim that is being given back must
        not be granted to a member meanwhile (architecture.md, the flow, 3). Two objects have no common precondition.

        So every plan must know what the one before it wrote: an answer that was lost is looked up first.
        """
        async with self._domains.setdefault(accelerator_class, asyncio.Lock()):
            for ref in self.store.doubts.all():
                await self.cluster.get(ref)
            yield

    async def patch(self, ref: Ref, observed: JsonObject, merge: Mapping[str, Any]) -> None:
        """Change what was observed, provided that it is still that."""
        await self.cluster.patch(ref, precondition_of(observed), merge)

    async def publish(self, ref: Ref, observed: JsonObject, status: StatusModel) -> None:
        """Write a status unless it is there already: settled means silent."""
        wanted = status.to_wire()
        before = observed.get("status") or {}
        if wanted == before:
            return
        await self.cluster.replace_status(ref, precondition_of(observed), {**observed, "status": wanted})
        event = events.of_transition(observed, before.get("conditions") or [], wanted["conditions"], self.clock.now())
        if event is not None:
            with contextlib.suppress(ApiError):  # a courtesy to people: the status has said it already
                await self.cluster.create(EVENTS, event)


def precondition_of(observed: JsonObject) -> Precondition:
    return Precondition(observed["metadata"]["uid"], observed["metadata"]["resourceVersion"])


def condition_list(
    previous: StatusModel, current: tuple[ConditionValue, ...], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions to write: `current`, each since its status last changed."""
    before = [
        ConditionValue(each.type, each.status, each.reason, each.message, each.last_transition_time)
        for each in previous.conditions
    ]
    return tuple(
        Condition(
            type=value.type,
            status=value.status,
            observed_generation=generation,
            last_transition_time=value.since or now,
            reason=value.reason,
            message=value.message,
        )
        for value in merged(before, current, now=now)
    )

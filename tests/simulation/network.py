"""Owns the network between one simulated process and the API server: what is slow, lost, refused, or told too late."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    PODS,
    ApiError,
    Conflict,
    JsonObject,
    Listing,
    OutcomeUnknown,
    Precondition,
    Ref,
    Resource,
    Throttled,
    Unavailable,
)
from tests.fakes.cluster import FakeCluster

_FAULTS = ("write_faults", "read_faults", "late_writes", "lost_events", "twice_told", "shuffled")
_ON_NODE = "spec.nodeName="
Call = Callable[[], Coroutine[Any, Any, Any]]
Note = Callable[..., None]


@types.coroutine
def pause(before: str = "") -> Generator[str, None, None]:
    """Let the scheduler decide who goes on; it is told which call comes `before` anything else, if one does."""
    yield before


@dataclass(slots=True)
class Weather:
    """How bad the world is to one run: chances per call, per event, per step."""

    write_faults: float = 0.0
    read_faults: float = 0.0
    late_writes: float = 0.0
    lost_events: float = 0.0
    twice_told: float = 0.0
    shuffled: float = 0.0
    delivery: float = 0.5
    workers: int = 2

    def storm(self) -> dict[str, float]:
        """Calm down; what the weather was like."""
        was = {name: getattr(self, name) for name in _FAULTS}
        self.blow(dict.fromkeys(_FAULTS, 0.0))
        return was

    def blow(self, faults: Mapping[str, float]) -> None:
        for name, chance in faults.items():
            setattr(self, name, chance)


@dataclass(slots=True, eq=False)
class Request:
    """A write that has left the process: it is carried out some time, whether anybody still waits for it or not."""

    words: str
    coroutine: Coroutine[Any, Any, Any]
    patience: int
    done: bool = False
    answer: Any = None
    error: ApiError | None = None

    def carry_out(self) -> None:
        try:
            self.answer = _carried_out(self.coroutine)
        except ApiError as error:
            self.error = error
        self.done = True


def _carried_out(write: Coroutine[Any, Any, Any]) -> Any:
    """A write takes effect at once: its moment is that of the call."""
    try:
        while True:
            write.send(None)
    except StopIteration as end:
        return end.value


class FaultyPort:
    """The Cluster port of one process: every call may fail in every way that it can, and others may go on
    before it is carried out and before its answer arrives."""

    def __init__(
        self,
        cluster: FakeCluster,
        weather: Weather,
        chance: random.Random,
        late: list[Request],
        note: Note,
        looked: Callable[[str, int], None],
    ) -> None:
        self._cluster, self._weather, self._chance = cluster, weather, chance
        self._late, self._note, self._looked = late, note, looked

    async def get(self, ref: Ref) -> JsonObject | None:
        await self._read("get", ref)
        found = self._cluster.peek(ref)
        if ref.resource == COMPUTE_UNIT_POOLS:
            self._looked(f"{ref.namespace}/{ref.name}", self._cluster.version)
        await pause()
        return found

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        await self._read("list", resource)
        found = self._cluster.listing(
            resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        if resource == PODS and field_selector.startswith(_ON_NODE):
            self._looked(field_selector.removeprefix(_ON_NODE), self._cluster.version)
        await pause()
        return found

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> JsonObject:
        words = f"create {Ref(resource, body['metadata'].get('namespace', ''), body['metadata']['name'])}"
        made: JsonObject = await self._write(words, lambda: self._cluster.create(resource, body))
        return made

    async def patch(self, ref: Ref, precondition: Precondition, merge: Mapping[str, Any]) -> JsonObject:
        made: JsonObject = await self._write(f"patch {ref}", lambda: self._cluster.patch(ref, precondition, merge))
        return made

    async def replace_status(self, ref: Ref, precondition: Precondition, body: Mapping[str, Any]) -> JsonObject:
        words = f"status {ref}"
        made: JsonObject = await self._write(words, lambda: self._cluster.replace_status(ref, precondition, body))
        return made

    async def delete(self, ref: Ref, precondition: Precondition) -> None:
        await self._write(f"delete {ref}", lambda: self._cluster.delete(ref, precondition))

    async def _read(self, verb: str, what: object) -> None:
        await pause(f"{verb} {what}")
        if self._chance.random() < self._weather.read_faults:
            self._note("read fault", verb, str(what))
            raise Unavailable("simulated: no answer to a read")

    async def _write(self, words: str, call: Call) -> Any:
        weather, chance = self._weather, self._chance
        await pause(words)
        if weather.late_writes and chance.random() < weather.late_writes:
            return await self._late_write(words, call)
        fault = chance.randrange(6) if chance.random() < weather.write_faults else None
        if fault is not None:
            self._note("write fault", ("503", "409", "429", "504 not done", "504 done", "reset done")[fault], words)
        match fault:
            case 0:
                raise Unavailable("simulated: connection refused")
            case 1:
                raise Conflict("simulated: conflict")
            case 2:
                raise Throttled("simulated: too many requests", retry_after=chance.uniform(0.5, 5.0))
            case 3:
                raise OutcomeUnknown("simulated: time-out, not carried out")
        answer = _carried_out(call())
        self._note("wrote", words)
        await pause()
        if fault is not None:
            raise OutcomeUnknown("simulated: time-out, carried out")
        return answer

    async def _late_write(self, words: str, call: Call) -> Any:
        request = Request(words, call(), patience=self._chance.randrange(12))
        self._late.append(request)
        self._note("write is slow", words)
        while not request.done:
            await pause()
            request.patience -= 1
            if request.patience < 0:
                raise OutcomeUnknown("simulated: time-out, still under way")
        if request.error is not None:
            raise request.error
        return request.answer

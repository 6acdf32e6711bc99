from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from reserved_capacity.adapters.joining import JointReads
from reserved_capacity.ports import COMPUTE_UNIT_POOLS, JsonObject, NotFound, Ref

POOL = Ref(COMPUTE_UNIT_POOLS, "acme", "prod")
OTHER = Ref(COMPUTE_UNIT_POOLS, "acme", "batch")


@dataclass
class Server:
    """Answers a read when it is told to, with what was there when the read began."""

    version: int = 0
    reads: list[asyncio.Future[None]] = field(default_factory=list)

    async def read(self, _ref: Ref) -> JsonObject | None:
        version, answered = self.version, asyncio.get_running_loop().create_future()
        self.reads.append(answered)
        await answered
        return {"version": version}


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_read_answers_only_those_who_asked_before_it_began() -> None:
    server = Server()
    joint = JointReads(server.read)
    first = asyncio.create_task(joint.get(POOL))
    await settle()
    server.version = 1
    later = [asyncio.create_task(joint.get(POOL)) for _ in range(5)]
    await settle()
    assert len(server.reads) == 1
    server.version = 2
    server.reads[0].set_result(None)
    await settle()
    assert len(server.reads) == 2, "one for all who asked meanwhile"
    latest = asyncio.create_task(joint.get(POOL))
    await settle()
    server.version = 3
    server.reads[1].set_result(None)
    await settle()
    server.reads[2].set_result(None)
    assert await first == {"version": 0}
    assert await asyncio.gather(*later) == [{"version": 2}] * 5
    assert await latest == {"version": 3}


async def test_objects_do_not_wait_for_each_other() -> None:
    server = Server()
    joint = JointReads(server.read)
    both = [asyncio.create_task(joint.get(ref)) for ref in (POOL, OTHER)]
    await settle()
    assert len(server.reads) == 2
    for read in server.reads:
        read.set_result(None)
    assert await asyncio.gather(*both) == [{"version": 0}] * 2


async def test_a_failure_is_everybodys_and_the_next_read_is_a_new_one() -> None:
    server = Server()
    joint = JointReads(server.read)
    first = asyncio.create_task(joint.get(POOL))
    await settle()
    shared = [asyncio.create_task(joint.get(POOL)) for _ in range(2)]
    await settle()
    server.reads[0].set_exception(NotFound("gone"))
    await settle()
    server.reads[1].set_exception(NotFound("gone"))
    for task in (first, *shared):
        with pytest.raises(NotFound):
            await task
    again = asyncio.create_task(joint.get(POOL))
    await settle()
    server.reads[2].set_result(None)
    assert await again == {"version": 0}


async def test_who_is_cancelled_leaves_the_read_to_the_others() -> None:
    server = Server()
    joint = JointReads(server.read)
    first = asyncio.create_task(joint.get(POOL))
    await settle()
    shared = [asyncio.create_task(joint.get(POOL)) for _ in range(2)]
    await settle()
    first.cancel()
    shared[0].cancel()
    await settle()
    server.reads[0].set_result(None)
    await settle()
    server.reads[1].set_result(None)
    assert await shared[1] == {"version": 0}

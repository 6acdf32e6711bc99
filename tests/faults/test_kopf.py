"""What our pattern does under the faults that make Kopf lose things (research/reliability.md, E1 to E15).

A Kopf upgrade that changes what we rely on fails here.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from reserved_capacity.ports import MODEL_INSTANCES, WATCHED
from tests.faults.conftest import Running, instance, start


async def test_a_change_is_reconciled_through_the_watch_long_before_the_next_list(running: Running) -> None:
    running.operator.resync.own_seconds = 60.0
    await asyncio.sleep(1.5)  # the lists that were under way are done
    running.make("a", x=1)
    assert await running.until(lambda: running.settled("a")) < 1.0


@pytest.mark.parametrize("status", [500, 503, 409, 422, 403, 429])
async def test_a_refused_write_is_tried_again_after_the_api_server_has_healed(running: Running, status: int) -> None:
    """E1: Kopf's own handlers lose the event here, for ever."""
    forbidden_waits_a_minute = status == 403
    running.server.fault("PUT", "/modelinstances/", status=status, headers={"Retry-After": "1"})
    running.make("a", x=1)
    await running.until(lambda: bool(running.server.mutations))
    await asyncio.sleep(0.5)
    running.server.heal()
    if forbidden_waits_a_minute:
        running.cluster.user_patch(instance("a"), {"spec": {"x": 2}})  # any change ends the wait
    assert await running.until(lambda: running.settled("a")) < 6.0


async def test_a_single_conflict_costs_nothing(running: Running) -> None:
    """E1d, E15: to Kopf one 409 is enough to lose the event, or to stop a timer for ever."""
    running.server.fault("PUT", "/modelinstances/", status=409, times=1)
    running.make("a", x=1)
    assert await running.until(lambda: running.settled("a")) < 1.0


async def test_a_write_whose_answer_is_lost_is_not_sent_again(running: Running) -> None:
    running.server.fault("PUT", "/modelinstances/", drop=True, applied=True, times=1)
    running.make("a", x=1)
    await running.until(lambda: running.settled("a"))
    await asyncio.sleep(1.0)
    applied = [write for write in running.cluster.writes if write.outcome == "ok"]
    assert len(applied) == 1


async def test_a_deletion_that_every_watch_missed_is_seen_by_the_next_list(running: Running) -> None:
    """E2: Kopf's index keeps the object for ever."""
    for name in "abc":
        running.make(name)
    await running.until(lambda: all(running.settled(name) for name in "abc"))
    running.cluster.hold_events()
    running.cluster.user_delete(instance("b"))
    running.server.compact()
    running.cluster.lose_events()
    running.server.drop_watches()
    store = running.operator.store
    assert await running.until(lambda: store.get(instance("b")) is None) < 3.0
    assert [obj["metadata"]["name"] for obj in store.all(MODEL_INSTANCES)] == ["a", "c"]


async def test_a_change_that_every_watch_missed_is_seen_by_the_next_list(running: Running) -> None:
    running.make("a", x=1)
    await running.until(lambda: running.settled("a"))
    running.cluster.hold_events()
    running.cluster.user_patch(instance("a"), {"spec": {"x": 2}})
    running.cluster.lose_events()
    assert await running.until(lambda: running.settled("a")) < 3.0


async def test_kopf_is_sent_nothing_that_we_have_listed(tmp_path: Path) -> None:
    """ADR 0018: a stream begins where our own LIST ended; Kopf would make a worker for each object that exists."""
    async with start(tmp_path, resync_seconds=60.0) as running:
        listed = [one.path for one in running.server.requests if one.verb == "LIST" and not one.path.endswith("/pods")]
        assert sorted(set(listed)) == sorted(listed)


async def test_a_deletion_that_was_lost_with_the_place_of_a_watch_is_seen_when_it_asks_again(tmp_path: Path) -> None:
    async with start(tmp_path, resync_seconds=60.0) as running:
        running.make("a")
        await running.until(lambda: running.settled("a"))
        running.cluster.hold_events()
        running.cluster.user_delete(instance("a"))
        running.server.compact()
        running.cluster.lose_events()
        running.server.drop_watches()
        assert await running.until(lambda: running.operator.store.get(instance("a")) is None) < 6.0


async def test_dropped_and_expired_watches_are_taken_up_again(running: Running) -> None:
    running.operator.resync.own_seconds = 60.0
    await asyncio.sleep(1.5)
    for round_number, compacted in enumerate((False, True)):
        if compacted:
            running.server.compact()
        running.server.drop_watches()
        running.make(f"a{round_number}")
        await running.until(lambda name=f"a{round_number}": running.settled(name))  # type: ignore[misc]
    assert not running.task.done()


async def test_nobody_but_our_reconciler_writes_and_it_writes_once(running: Running) -> None:
    """E12: no finalizer, no annotation, no progress, no event of the framework."""
    for name in "abc":
        running.make(name, x=1)
    await running.until(lambda: all(running.settled(name) for name in "abc"))
    running.cluster.user_patch(instance("a"), {"spec": {"x": 2}})
    running.cluster.user_delete(instance("b"))
    await running.until(lambda: running.settled("a"))
    await asyncio.sleep(2.5)  # at least one more LIST of everything
    assert {(one.verb, one.path.rsplit("/", 1)[-1]) for one in running.server.mutations} == {("PUT", "status")}
    assert len(running.server.mutations) == 4
    for obj in running.cluster.objects(MODEL_INSTANCES):
        assert not {"annotations", "finalizers"} & set(obj["metadata"])


async def test_every_kind_has_a_stream_and_bookmarks_alone_keep_it_fresh(running: Running) -> None:
    """The liveness probe sees Kopf's streams themselves, not only that handlers are called."""
    running.operator.resync.own_seconds = running.operator.resync.others_seconds = 60.0
    watched = {one.path for one in running.server.requests if one.verb == "WATCH"}
    assert len(watched) == len(WATCHED)
    await asyncio.sleep(3.5)
    ages = running.operator.freshness.ages()
    assert max(age for name, age in ages.items() if "#" not in name) < 2.0


@pytest.mark.parametrize("fault", ["half a line", "an error of etcd"])
async def test_a_stream_that_breaks_is_taken_up_where_it_was(running: Running, fault: str) -> None:
    """To Kopf itself either is the end of the process."""
    running.operator.resync.own_seconds = 60.0
    await asyncio.sleep(1.5)
    if fault == "half a line":
        running.server.send_raw(MODEL_INSTANCES, b'{"type": "ADDED", "obj')
        running.server.drop_watches()
    else:
        status = b'{"kind": "Status", "code": 500, "message": "etcdserver: no leader"}'
        running.server.send_raw(MODEL_INSTANCES, b'{"type": "ERROR", "object": %s}\n' % status)
    running.make("a")
    await running.until(lambda: running.settled("a"))
    assert not running.task.done()


async def test_a_stream_that_ends_as_soon_as_it_begins_is_not_asked_for_without_a_pause(running: Running) -> None:
    before = sum(one.verb == "WATCH" for one in running.server.requests)
    started = time.monotonic()
    while time.monotonic() - started < 2.5:
        running.server.drop_watches()
        await asyncio.sleep(0.02)
    streams = len(WATCHED)
    assert sum(one.verb == "WATCH" for one in running.server.requests) - before <= 4 * streams


@pytest.mark.parametrize("fault", ["deep-object", "refused"])
async def test_a_watch_that_cannot_go_on_ends_the_process(tmp_path: Path, fault: str) -> None:
    """E4, E13: better a restart than an operator that lives and is blind."""
    async with start(tmp_path) as running:
        if fault == "refused":
            running.server.fault("WATCH", "/modelinstances", status=404)
            running.server.drop_watches()
        else:
            deep = b'{"a":' * 1500 + b"1" + b"}" * 1500
            body = (
                b'{"metadata": {"name": "d", "namespace": "acme", "uid": "u", "resourceVersion": "9999"}, "spec": %s}'
            )
            running.server.send_raw(MODEL_INSTANCES, b'{"type": "ADDED", "object": %s}\n' % (body % deep))
        code = await asyncio.wait_for(asyncio.shield(running.task), 20)
        assert code != 0


async def test_told_to_stop_it_stops_within_ten_seconds_and_finishes_the_write_in_flight(tmp_path: Path) -> None:
    async with start(tmp_path) as running:
        running.server.fault("PUT", "/modelinstances/", delay=1.5, times=1)
        running.make("a", x=1)
        await running.until(lambda: bool(running.server.mutations))
        started = time.monotonic()
        running.operator.stop.set()
        assert await asyncio.wait_for(asyncio.shield(running.task), 10) == 0
        assert time.monotonic() - started < 10
        assert running.settled("a")

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from reserved_capacity.queue import BEGUN_IN_A_ROW, LONGEST_RETRY_SECONDS, Deadlines, Key, WorkQueue

A, B = Key("pool", "acme", "a"), Key("pool", "acme", "b")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def queue(time: Time) -> WorkQueue:
    return WorkQueue(time, jitter=random.Random(1))


def test_a_key_waits_once_however_often_it_is_added(queue: WorkQueue) -> None:
    for _ in range(3):
        queue.add(A)
    assert queue.depth == 1
    assert queue.take() == A
    assert queue.take() is None


def test_keys_are_taken_in_the_order_they_became_due(queue: WorkQueue, time: Time) -> None:
    queue.add(A, after=2)
    queue.add(B, after=1)
    assert queue.take() is None
    time.now = 3
    assert [queue.take(), queue.take()] == [B, A]


def test_the_earlier_of_two_times_stands(queue: WorkQueue, time: Time) -> None:
    queue.add(A, after=10)
    queue.add(A, after=1)
    queue.add(A, after=5)
    time.now = 1
    assert queue.take() == A
    queue.done(A)
    time.now = 20
    assert queue.take() is None


def test_a_key_added_while_it_is_worked_on_runs_again_and_never_twice_at_once(queue: WorkQueue) -> None:
    queue.add(A)
    assert queue.take() == A
    queue.add(A)
    assert queue.take() is None
    queue.done(A)
    assert queue.take() == A
    queue.done(A)
    assert queue.take() is None


def named(name: str) -> Key:
    return Key("instance", "acme", name)


def test_what_goes_on_with_something_comes_before_what_begins(queue: WorkQueue) -> None:
    one, other = named("one"), named("other")
    queue.add(one)
    queue.add(other, begun=True)
    assert [queue.take(), queue.take()] == [other, one]


def test_a_key_that_waits_moves_forward_when_it_goes_on_with_something_and_not_back(
    queue: WorkQueue, time: Time
) -> None:
    one, other = named("one"), named("other")
    queue.add(one)
    queue.add(other)
    queue.add(other, after=10, begun=True)
    queue.add(other, after=20)
    assert [queue.take(), queue.take()] == [other, one]
    time.now = 30
    assert queue.take() is None, "nobody is worked on twice for it"


def test_a_key_added_while_it_is_worked_on_keeps_its_place_among_what_is_begun(queue: WorkQueue) -> None:
    one, other = named("one"), named("other")
    queue.add(other)
    assert queue.take() == other
    queue.add(one)
    queue.add(other, begun=True)
    queue.add(other)
    queue.done(other)
    assert queue.take() == other


def test_what_fails_goes_on_when_its_time_has_come(queue: WorkQueue, time: Time) -> None:
    one, other = named("one"), named("other")
    delay = queue.retry(other)
    queue.add(one)
    assert queue.take() == one
    time.now = delay
    queue.add(named("late"))
    assert queue.take() == other


def test_what_goes_on_for_ever_starves_nobody(queue: WorkQueue) -> None:
    for number in range(3):
        queue.add(named(f"new-{number}"))
    taken = []
    for number in range(4 * BEGUN_IN_A_ROW):
        queue.add(named(f"begun-{number}"), begun=True)
        key = queue.take()
        assert key is not None
        taken.append(key.name.split("-")[0])
        queue.done(key)
    assert [at for at, name in enumerate(taken) if name == "new"] == [16, 33, 50]


def test_of_a_thousand_that_come_at_once_the_first_is_done_before_the_last_begins(queue: WorkQueue) -> None:
    turns: dict[Key, int] = {}
    for number in range(1000):
        queue.add(named(str(number)))
    order = []
    while (key := queue.take()) is not None:
        turns[key] = turns.get(key, 0) + 1
        if turns[key] < 5:
            queue.add(key, begun=True)  # its own write, or what became of it
        order.append((key, turns[key]))
        queue.done(key)
    assert order.index((named("0"), 5)) == 4
    assert len(order) == 5000


def test_the_back_off_doubles_up_to_half_a_minute_and_starts_again_after_success(queue: WorkQueue, time: Time) -> None:
    delays = []
    for _ in range(14):
        delays.append(queue.retry(A))
        time.now += delays[-1]
        assert queue.take() == A
        queue.done(A)
    assert delays[0] == 0.05
    assert all(
        0.5 * limit <= delay <= limit for delay, limit in zip(delays[1:9], [0.1 * 2**n for n in range(8)], strict=True)
    )
    assert all(LONGEST_RETRY_SECONDS / 2 <= delay <= LONGEST_RETRY_SECONDS for delay in delays[11:])
    queue.forget(A)
    assert queue.retry(A) == 0.05


def test_equal_seeds_give_equal_delays(time: Time) -> None:
    runs = []
    for _ in range(2):
        queue = WorkQueue(time, jitter=random.Random(7))
        runs.append([queue.retry(A) for _ in range(8)])
    assert runs[0] == runs[1]


def test_a_key_is_old_from_when_it_was_due_until_its_worker_lets_go(queue: WorkQueue, time: Time) -> None:
    assert queue.oldest_due_age() == 0
    queue.add(A, after=5)
    assert queue.oldest_due_age() == 0
    time.now = 65
    assert queue.oldest_due_age() == 60
    assert queue.take() == A
    assert queue.oldest_due_age() == 60
    queue.done(A)
    assert queue.oldest_due_age() == 0


async def test_whoever_waits_gets_the_key_when_it_is_due() -> None:
    loop = asyncio.get_running_loop()
    queue = WorkQueue(loop.time)
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add(A, after=0.05)
    queue.add(B)
    done, _ = await asyncio.wait(waiting, timeout=1, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == [B]
    await asyncio.sleep(0.1)
    assert {task.result() for task in waiting if task.done()} == {A, B}
    queue.close()
    assert None in await asyncio.gather(*waiting)


def test_a_long_queue_that_moves_is_not_stuck(queue: WorkQueue, time: Time) -> None:
    queue.add(A)
    queue.add(B)
    time.now = 100
    assert queue.stuck_for() == 100, "nobody takes anything"
    key = queue.take()
    assert queue.stuck_for() == 0
    assert queue.oldest_due_age() == 100
    time.now = 130
    assert queue.stuck_for() == 30, "a turn that does not end, and a key that nobody else takes"
    queue.done(key or A)
    assert queue.stuck_for() == 30
    queue.take()
    assert queue.stuck_for() == 0
    queue.done(B)
    queue.add(A, 1000)
    time.now = 500
    assert queue.stuck_for() == 0, "nothing is due"


def test_a_deadline_is_due_once_and_a_new_one_replaces_it() -> None:
    deadlines = Deadlines()
    deadlines.set(A, NOON)
    deadlines.set(A, NOON + timedelta(hours=1))
    deadlines.set(B, NOON)
    assert deadlines.next() == NOON
    assert deadlines.due(NOON) == [B]
    assert deadlines.due(NOON + timedelta(minutes=59)) == []
    assert deadlines.due(NOON + timedelta(hours=1)) == [A]
    assert deadlines.due(NOON + timedelta(hours=2)) == []


def test_a_removed_deadline_never_comes() -> None:
    deadlines = Deadlines()
    deadlines.set(A, NOON)
    deadlines.set(A, None)
    assert deadlines.due(NOON + timedelta(days=1)) == []
    assert deadlines.next() is None


def test_a_clock_that_jumps_makes_everything_between_due_in_order() -> None:
    deadlines = Deadlines()
    deadlines.set(B, NOON + timedelta(days=365))
    deadlines.set(A, NOON + timedelta(days=90))
    assert deadlines.due(NOON - timedelta(days=30)) == []  # it went back
    assert deadlines.due(NOON + timedelta(days=400)) == [A, B]


def test_deadlines_that_are_set_for_ever_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for minute in range(10_000):
        deadlines.set(A, NOON + timedelta(minutes=minute))
    assert len(deadlines._heap) < 200
    assert deadlines.due(NOON + timedelta(days=30)) == [A]


def test_a_deadline_without_a_time_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Deadlines().set(A, datetime(2026, 1, 1))  # noqa: DTZ001

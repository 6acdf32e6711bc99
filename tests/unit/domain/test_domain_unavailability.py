"""For how long too few served in a rollout (ADR 0065): counted at transitions, and never twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.rollout.unavailability import Unavailability, counted
from reserved_capacity.domain.rollout.values import RolloutRecord, RolloutState
from reserved_capacity.domain.versions import Version

NOW = datetime(2026, 3, 7, 12, tzinfo=UTC)


def record(**more: object) -> RolloutRecord:
    made = RolloutRecord("chat", "uid", 3, Version("v1"), Version("v2"), NOW, "attempt")
    return replace(made, **more)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(1, 900), st.booleans()), max_size=12), st.integers(0, 11))
def test_unavailable_seconds_are_those_between_the_looks_that_saw_it_whenever_the_operator_restarts(
    looks: list[tuple[int, bool]], restart: int
) -> None:
    """A look at which nothing has changed writes nothing (I8)."""
    seen, now, was_down, expected = Unavailability(), NOW, False, 0
    for number, (seconds, down) in enumerate(looks):
        now += timedelta(seconds=seconds)
        expected += seconds if was_down else 0
        before = seen
        seen = counted(seen, record(), down=down, now=now)
        assert down != was_down or seen in (before, Unavailability(3))
        if number == restart:
            seen = Unavailability(seen.rollout, seen.seconds, seen.since)  # what the status holds is all that there is
        was_down = down
    ended = record(state=RolloutState.DONE, ended_at=now + timedelta(seconds=7))
    done = counted(seen, ended, down=was_down, now=now + timedelta(hours=1))
    assert (done.seconds, done.since) == (expected + (7 if was_down else 0), None)


def test_an_outage_that_was_seen_counts_a_second_and_another_rollout_begins_at_none() -> None:
    down = counted(Unavailability(), record(), down=True, now=NOW)
    assert counted(down, record(), down=False, now=NOW + timedelta(milliseconds=300)).seconds == 1
    assert counted(Unavailability(2, 99, None), record(), down=False, now=NOW) == Unavailability(3)


def test_what_comes_after_the_end_of_the_rollout_is_not_its_doing() -> None:
    """It halted, and nobody has corrected it yet."""
    halted = record(state=RolloutState.HALTED, ended_at=NOW + timedelta(minutes=45))
    down = Unavailability(3, 0, NOW)
    told = counted(down, halted, down=True, now=NOW + timedelta(days=1))
    assert (told.seconds, told.since) == (45 * 60, None)
    assert counted(told, halted, down=True, now=NOW + timedelta(days=2)) == told

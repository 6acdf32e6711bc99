"""What gateways' counters say of use (behaviour.md T3; ADR 0052): to the token, whoever started anew."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.gateway.usage import (
    MINUTES,
    AccountUse,
    Counter,
    Readings,
    Usage,
    Window,
    account_uses,
    aged,
    increases,
    usage_of,
)

END = datetime(2026, 3, 1, 10, tzinfo=UTC)
WINDOW = Window(END)
ONE = Decimal(1)
UP_ALWAYS: dict[float, int] = {minute: 100_000 + 60 * minute for minute in range(MINUTES + 1)}


def counter(samples: Mapping[float, int], *, kind: str = "input", account: str = "acme", target: str = "e1") -> Counter:
    """Samples by minute."""
    name = "tokens" if kind in ("input", "output", "cached_input") else "requests"
    return Counter(name, account, kind, target, scrapes(samples))


def scrapes(samples: Mapping[float, int]) -> list[tuple[int, int]]:
    return [(int(at * 60_000), value) for at, value in sorted(samples.items())]


def steady(*values: int) -> dict[int, int]:
    """The last minutes of a window; before them what the first says."""
    first = MINUTES + 1 - len(values)
    return {**dict.fromkeys(range(first), values[0]), **dict(enumerate(values, first))}


def by_minute(use: dict[int, int]) -> list[int]:
    return [use.get(minute, 0) for minute in range(MINUTES)]


def test_a_window_is_the_sixty_whole_minutes_before_now() -> None:
    window = Window.before(END + timedelta(seconds=59, microseconds=7))
    assert (window.start, window.end) == (END - timedelta(hours=1), END)
    assert window.minute(MINUTES - 1) == END - timedelta(minutes=1)


@pytest.mark.parametrize(
    ("samples", "uptimes", "found"),
    [
        pytest.param({}, {}, {}, id="nobody counted"),
        pytest.param(steady(100, 130, 130), UP_ALWAYS, {58: 30}, id="what was there before the window is not of it"),
        pytest.param(steady(100, 130, 20), UP_ALWAYS, {58: 30, 59: 20}, id="an Envoy that starts anew counts from 0"),
        pytest.param({0: 5, 60: 25}, {}, {59: 20}, id="what was counted in a gap is seen at its end"),
        pytest.param({60: 40}, {59: 100, 60: 160}, {59: 40}, id="the first request of an account"),
        pytest.param({60: 40}, {60: 30}, {59: 40}, id="an Envoy that has just started"),
        pytest.param({60: 40}, {60: 86_400}, {}, id="a Prometheus that has just begun to look"),
        pytest.param({60: 40}, {}, {}, id="an Envoy of which no start is known"),
        pytest.param({-4: 7, 0.25: 9}, {}, {0: 2}, id="what was seen shortly before the window is counted from"),
        pytest.param({9: 50, 9.25: 80, 9.5: 90, 10: 5}, {}, {9: 45}, id="an Envoy that starts anew in mid-minute"),
        pytest.param(
            {9: 56, 9.25: 280}, {8: 30, 9: 90, 9.25: 5}, {8: 56, 9: 280}, id="an Envoy that has overtaken itself since"
        ),
        pytest.param({59.5: 40}, {59: 10_000, 60: 10_060}, {59: 40}, id="the first request, not yet a minute ago"),
        pytest.param(
            {59.5: 40, 60: 41}, {59.5: 10_060, 60: 10_090}, {59: 1}, id="a Prometheus that began in this minute"
        ),
        pytest.param({0: 40}, {0: 10}, {}, id="the sample at the start is before the window"),
    ],
)
def test_increases_are_those_of_the_window(
    samples: dict[int, int], uptimes: dict[float, int], found: dict[int, int]
) -> None:
    assert increases(counter(samples), scrapes(uptimes)) == by_minute(found)


@given(
    st.lists(st.integers(0, 50), min_size=MINUTES, max_size=MINUTES),
    st.sets(st.integers(1, MINUTES)),
    st.sets(st.integers(1, MINUTES)),
    st.integers(0, 1_000_000),
)
def test_nothing_is_lost_and_nothing_counted_twice_whoever_restarts(
    asked: list[int], restarts: set[int], missed: set[int], before: int
) -> None:
    """But for what was counted and not yet seen when an Envoy ended, which nobody can know."""
    value, samples, seen, lost = before, {0: before}, before, 0
    for minute, tokens in enumerate(asked, 1):
        if minute in restarts - missed and tokens < seen:  # a smaller number is all that shows a restart
            lost += value - seen
            value = 0
        value += tokens
        if minute not in missed:
            samples[minute] = seen = value
    lost += value - seen
    assert sum(increases(counter(samples), ())) == sum(asked) - lost


def test_all_envoys_count_together_and_nobody_else_s_tokens() -> None:
    readings = Readings(
        (
            counter(steady(0, 10)),
            counter(steady(1_000, 1_005), target="e2"),
            counter(steady(7, 9), kind="output"),
            counter(steady(0, 8), account="beta"),
            counter(steady(2, 5), kind="spilled"),
            counter(steady(0, 4), kind="rejected"),
            counter(steady(0, 9), kind="served"),
        )
    )
    use = account_uses(readings, ["acme"], ONE)["acme"]
    assert (sum(use.input_tokens), sum(use.output_tokens), use.spilled, use.rejected) == (15, 2, 3, 4)


def test_cached_tokens_count_as_the_limit_counts_them() -> None:
    readings = Readings((counter(steady(0, 100)), counter(steady(0, 80), kind="cached_input")))
    assert sum(account_uses(readings, ["acme"], Decimal("0.25"))["acme"].input_tokens) == 40
    assert sum(account_uses(readings, ["acme"], ONE)["acme"].input_tokens) == 100


def used(tokens: dict[int, tuple[int, int]], spilled: int = 0, rejected: int = 0) -> AccountUse:
    found = [tokens.get(minute, (0, 0)) for minute in range(MINUTES)]
    return AccountUse([Fraction(each[0]) for each in found], [each[1] for each in found], spilled, rejected)


def test_utilization_is_of_an_hour_of_the_entitlement_and_above_one_where_it_spilled() -> None:
    found = usage_of(used({10: (270_000, 1_200_000)}, 5, 6), TokenRate(90_000, 10_000), WINDOW)
    assert found == Usage("1h", Decimal("0.0500"), Decimal("2.0000"), WINDOW.minute(10), 5, 6)


def test_nothing_bought_in_a_direction_has_no_utilization_there() -> None:
    found = usage_of(used({3: (60, 60)}), TokenRate(0, 10), WINDOW)
    assert (found.input_utilization, found.output_utilization) == (None, Decimal("0.1000"))


def test_the_busiest_minute_is_the_one_nearest_to_the_entitlement_in_either_direction() -> None:
    entitled = TokenRate(1_000, 10)
    assert usage_of(used({1: (900, 0), 2: (0, 10), 3: (500, 9)}), entitled, WINDOW).peak_minute == WINDOW.minute(2)
    assert usage_of(used({4: (7, 0), 9: (7, 0)}), entitled, WINDOW).peak_minute == WINDOW.minute(4)
    assert usage_of(used({4: (7, 0), 9: (8, 0)}), TokenRate(), WINDOW).peak_minute == WINDOW.minute(9)


def test_an_hour_without_a_request_is_an_hour_of_zeros_without_a_busiest_minute() -> None:
    assert usage_of(used({}), TokenRate(10, 10), WINDOW) == Usage(
        "1h", Decimal("0.0000"), Decimal("0.0000"), None, 0, 0
    )


@given(st.integers(0, 10**18), st.integers(1, 10**12))
def test_a_ratio_fits_its_field_whatever_was_used(tokens: int, tpm: int) -> None:
    ratio = usage_of(used({0: (tokens, 0)}), TokenRate(tpm, 0), WINDOW).input_utilization
    assert ratio is not None
    assert len(format(ratio, "f")) <= 16
    assert "E" not in format(ratio, "f")
    if ratio < 999_999_999:
        assert abs(Fraction(ratio) - Fraction(tokens, tpm * MINUTES)) <= Fraction(1, 20_000)


def test_use_is_measured_only_where_somebody_was_looked_at_when_the_window_ended() -> None:
    assert not Readings().measured
    assert not Readings((counter({0: 5, 58: 9}),)).measured
    assert Readings((counter({60: 9}),)).measured
    assert Readings(uptimes={"e1": scrapes({60: 5})}).measured, "an Envoy that nobody asked says that nothing was used"


def test_what_is_not_measured_any_more_says_when_it_was_and_says_it_once() -> None:
    usage = usage_of(used({}), TokenRate(10, 10), WINDOW)
    old = aged(usage, END)
    assert old.window == "1h to 2026-03-01T10:00Z"
    assert aged(old, END + timedelta(hours=5)) == old

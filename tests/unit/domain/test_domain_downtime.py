"""Downtime, told as stories: when an outage begins and ends, and whose it is (behaviour.md N4, T6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reserved_capacity.domain.downtime import (
    Cause,
    DowntimeSeconds,
    MissingMember,
    MonthOfService,
    NodeHealth,
    ServiceFacts,
    ServiceRecord,
    cause_of,
    end_of_month,
    observed,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
FINE = ServiceFacts(wanted=2, serving=2, held=2)
NOTHING_WANTED = ServiceFacts(wanted=0, serving=0, held=0)
STARTING = MissingMember()
ON_SICK = MissingMember(NodeHealth.SICK)
ON_CORDONED = MissingMember(NodeHealth.CORDONED)
FELL = MissingMember(served=True)
FAILING = MissingMember(failing=True)
PROVIDER, PLANNED, CUSTOMER = Cause.PROVIDER_FAULT, Cause.PLANNED_MAINTENANCE, Cause.CUSTOMER_CHANGE


def down(*missing: MissingMember, held: int = 2, short: NodeHealth | None = NodeHealth.FINE) -> ServiceFacts:
    return ServiceFacts(
        wanted=2, serving=2 - len(missing) - (2 - held), held=held, missing=missing, short_of_nodes=short
    )


def lived(*looks: tuple[float, ServiceFacts], start: datetime = START) -> ServiceRecord:
    """The record after these looks, each so many seconds after the one before."""
    record, now = observed(None, FINE, now=start), start
    for seconds, facts in looks:
        now += timedelta(seconds=seconds)
        record = observed(record, facts, now=now)
    assert record is not None
    return record


# ------------------------------------------------------------------------------------------------------------- counting


def test_n4_nothing_is_measured_before_an_instance_first_serves() -> None:
    assert observed(None, down(STARTING, STARTING), now=START) is None
    assert observed(None, NOTHING_WANTED, now=START) is None
    assert observed(None, FINE, now=START) == ServiceRecord(MonthOfService("2026-03"), START)


def test_n4_an_outage_is_added_up_when_it_ends() -> None:
    open_ = lived((10, down(ON_SICK)), (50, down(ON_SICK)))
    assert (open_.cause, open_.counted_until) == (PROVIDER, START + timedelta(seconds=10))
    assert open_.current.downtime == DowntimeSeconds()
    over = lived((10, down(ON_SICK)), (50, FINE))
    assert (over.cause, over.current.downtime) == (None, DowntimeSeconds(provider_fault=50))


def test_i8_while_nothing_changes_nothing_is_written() -> None:
    once = lived((10, down(ON_SICK)))
    assert lived((10, down(ON_SICK)), (1, down(ON_SICK)), (86_400, down(ON_SICK, FELL))) == once
    assert lived((86_400, FINE), (86_400, FINE)) == lived()


def test_n4_when_another_cause_takes_over_each_has_its_part() -> None:
    record = lived((10, down(ON_CORDONED)), (30, down(ON_SICK)), (5, FINE))
    assert record.current.downtime == DowntimeSeconds(provider_fault=5, planned_maintenance=30)


def test_n4_what_is_not_meant_to_serve_is_not_down() -> None:
    record = lived((10, down(ON_SICK)), (20, NOTHING_WANTED), (1000, NOTHING_WANTED), (5, FINE))
    assert record.current.downtime == DowntimeSeconds(provider_fault=20)


def test_n4_seconds_are_whole_and_fractions_are_not_lost_between_two_looks() -> None:
    record = lived((0.4, down(ON_SICK)), (0.4, FINE), (0.4, down(ON_SICK)), (0.4, FINE))
    assert record.current.downtime.total in (0, 1)
    assert record.counted_until.microsecond == 0


def test_m5_a_clock_that_goes_back_counts_nothing_twice() -> None:
    record = lived(
        (10, down(ON_SICK)), (50, FINE), (-40, down(ON_SICK)), (10, FINE), (-1000, down(ON_SICK)), (990, FINE)
    )
    assert record.current.downtime.total == 50
    assert lived((-40 * 86_400, down(ON_SICK)), (40 * 86_400, FINE)).current.month == "2026-03"


# --------------------------------------------------------------------------------------------------------------- months


def test_n4_at_the_end_of_the_month_the_count_starts_anew_and_the_month_before_is_kept() -> None:
    record = lived((60, down(ON_SICK)), (40, FINE), (31 * 86_400, FINE))
    assert record.current == MonthOfService("2026-04")
    assert record.last_closed == MonthOfService("2026-03", DowntimeSeconds(provider_fault=40))
    assert record.counted_until == datetime(2026, 4, 1, tzinfo=UTC)


def test_n4_an_outage_over_the_end_of_the_month_is_split_there() -> None:
    start = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
    record = lived((0, down(ON_SICK)), (90, FINE), start=start)
    assert record.last_closed == MonthOfService("2026-03", DowntimeSeconds(provider_fault=60))
    assert record.current == MonthOfService("2026-04", DowntimeSeconds(provider_fault=30))


def test_n4_an_operator_that_was_away_for_months_counts_what_was_open_when_it_left() -> None:
    """What nobody saw begin is not counted; what was open counts until somebody looks again."""
    away = (70 * 86_400, FINE)
    open_ = lived((0, down(ON_SICK)), away)
    assert open_.last_closed == MonthOfService("2026-04", DowntimeSeconds(provider_fault=30 * 86_400))
    assert open_.current == MonthOfService("2026-05", DowntimeSeconds(provider_fault=9 * 86_400 + 12 * 3600))
    assert lived(away).current.downtime.total == 0


def test_end_of_month_in_december_is_the_new_year() -> None:
    assert end_of_month("2026-12") == datetime(2027, 1, 1, tzinfo=UTC)
    assert end_of_month("2024-02") == datetime(2024, 3, 1, tzinfo=UTC)


# --------------------------------------------------------------------------------------------------------------- uptime


@pytest.mark.parametrize(
    ("downtime", "thousandths"),
    [
        (DowntimeSeconds(), 100_000),
        (DowntimeSeconds(provider_fault=1), 99_999),
        (DowntimeSeconds(provider_fault=13_392), 99_500),
        (DowntimeSeconds(provider_fault=13_393), 99_499),
        (DowntimeSeconds(planned_maintenance=13_393), 99_499),
        (DowntimeSeconds(customer_change=13_393), 100_000),
        (DowntimeSeconds(provider_fault=31 * 86_400), 0),
    ],
)
def test_t6_uptime_is_rounded_down_and_leaves_out_what_the_customer_caused(
    downtime: DowntimeSeconds, thousandths: int
) -> None:
    month = MonthOfService("2026-03", downtime)
    assert month.uptime_thousandths(datetime(2025, 1, 1, tzinfo=UTC)) == thousandths


def test_t6_an_instance_that_is_made_in_mid_month_is_measured_by_the_rest() -> None:
    created = datetime(2026, 3, 31, 12, tzinfo=UTC)
    half_a_day = MonthOfService("2026-03", DowntimeSeconds(provider_fault=6 * 3600))
    assert half_a_day.uptime_thousandths(created) == 50_000
    assert MonthOfService("2026-03").uptime_thousandths(datetime(2026, 4, 1, tzinfo=UTC)) == 100_000


# --------------------------------------------------------------------------------------------------------------- causes


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (FINE, None),
        (down(ON_SICK), PROVIDER),
        (down(MissingMember(NodeHealth.GONE)), PROVIDER),
        (down(FELL), PROVIDER),
        (down(FAILING), PROVIDER),
        (down(ON_CORDONED), PLANNED),
        (down(MissingMember(NodeHealth.CORDONED, failing=True, served=True)), PLANNED),
        (down(STARTING), CUSTOMER),
        (down(held=1), CUSTOMER),
        (down(held=1, short=NodeHealth.SICK), PROVIDER),
        (down(held=1, short=NodeHealth.CORDONED), PLANNED),
        (down(held=1, short=None), CUSTOMER),
        (down(STARTING, ON_CORDONED), PLANNED),
        (down(ON_CORDONED, ON_SICK), PROVIDER),
    ],
)
def test_n4_whose_an_outage_is_when_it_begins(facts: ServiceFacts, cause: Cause | None) -> None:
    assert cause_of(facts, None) is cause


@pytest.mark.parametrize("open_", [PROVIDER, PLANNED, CUSTOMER])
def test_n4_what_is_merely_starting_belongs_to_the_outage_that_is_open(open_: Cause) -> None:
    assert cause_of(down(STARTING), open_) is open_
    assert cause_of(down(held=1, short=None), open_) is open_


def test_n4_a_cordon_after_the_fault_does_not_turn_it_into_maintenance() -> None:
    assert cause_of(down(ON_CORDONED), PROVIDER) is PROVIDER
    assert cause_of(down(held=1, short=NodeHealth.CORDONED), PROVIDER) is PROVIDER


def test_n4_a_node_that_was_emptied_and_then_taken_away_stays_maintenance() -> None:
    gone = MissingMember(NodeHealth.GONE)
    assert cause_of(down(gone), PLANNED) is PLANNED
    assert cause_of(down(gone), CUSTOMER) is PROVIDER


def test_n4_when_only_the_customers_wish_is_left_unfulfilled_the_outage_becomes_the_customers() -> None:
    """A node failed while more was asked for than the pool has: once that is mended, the rest is the customer's."""
    assert cause_of(down(held=1), PROVIDER) is CUSTOMER
    assert cause_of(down(STARTING, held=1), PROVIDER) is PROVIDER

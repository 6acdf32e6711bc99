"""Terms against a second implementation that counts days and units one by one (behaviour.md M1, M2, M5, I7)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from reserved_capacity.domain.terms import (
    Amendment,
    CommitmentOrder,
    CommitmentRecord,
    CommitmentState,
    Placement,
    RenewalPolicy,
    Term,
    midnight_after,
    next_moment,
    plan_commitments,
)
from tests.property.worlds import shuffled

ZONES = [timezone(timedelta(minutes=minutes)) for minutes in (-720, -570, 0, 345, 840)]
START = datetime(2026, 1, 1, tzinfo=UTC)

moments = st.builds(
    lambda at, zone: at.replace(tzinfo=UTC).astimezone(zone),
    st.datetimes(datetime(2024, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 - made aware above
    st.sampled_from(ZONES),
)


def day_of(moment: datetime) -> date:
    """The UTC day, by seconds since the epoch."""
    return date(1970, 1, 1) + timedelta(days=int(moment.timestamp() // 86400))


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@st.composite
def amendment_lists(draw: st.DrawFn) -> tuple[Amendment, ...]:
    days = draw(st.sets(st.dates(date(2025, 12, 25), date(2027, 3, 1)), max_size=3))
    return tuple(Amendment(day, 100 * draw(st.integers(0, 3))) for day in sorted(days))


@st.composite
def order_lists(draw: st.DrawFn, *, amended: bool = False) -> tuple[CommitmentOrder, ...]:
    return tuple(
        CommitmentOrder(
            id=f"po-{number}",
            compute_units=100 * draw(st.integers(1, 4)),
            term=draw(st.sampled_from(Term)),
            provision_by=draw(st.none() | st.dates(date(2025, 12, 25), date(2026, 2, 15))),
            renewal=draw(st.sampled_from(RenewalPolicy)),
            amendments=draw(amendment_lists()) if amended else (),
        )
        for number in range(draw(st.integers(1, 4)))
    )


@st.composite
def placement_lists(draw: st.DrawFn) -> tuple[Placement, ...]:
    minutes = draw(st.lists(st.integers(0, 60 * 24 * 40), max_size=6))
    return tuple(
        Placement(
            (START + timedelta(minutes=at)).astimezone(draw(st.sampled_from(ZONES))), 100 * draw(st.integers(1, 4))
        )
        for at in minutes
    )


def look(
    orders: Sequence[CommitmentOrder],
    recorded: Sequence[CommitmentRecord],
    placements: Sequence[Placement],
    now: datetime,
    provisioned: int = 10_000,
) -> tuple[CommitmentRecord, ...]:
    return plan_commitments(
        orders,
        recorded,
        acceptable=frozenset(order.id for order in orders),
        provisioned_cu=provisioned,
        placements=[placement for placement in placements if placement.at <= now],
        now=now,
    )


def first_uses(orders: Sequence[CommitmentOrder], placements: Sequence[Placement]) -> dict[str, datetime]:
    """Hands out CU one hundred after the other: each belongs to the first commitment with one left."""
    owners = [order.id for order in orders for _ in range(order.compute_units // 100)]
    uses: dict[str, datetime] = {}
    for placement in sorted(placements, key=lambda placement: placement.at):
        for _ in range(placement.compute_units // 100):
            if owners:
                uses.setdefault(owners.pop(0), placement.at)
    return uses


@given(moments)
def test_m1_charging_starts_at_the_first_midnight_utc_of_the_next_day(moment: datetime) -> None:
    start = midnight_after(moment)
    assert start == midnight(day_of(moment) + timedelta(days=1))
    assert timedelta(0) < start - moment <= timedelta(days=1)


@given(order_lists(), placement_lists())
def test_m1_m2_start_and_end_agree_with_counting_by_hand(
    orders: tuple[CommitmentOrder, ...], placements: tuple[Placement, ...]
) -> None:
    """All is provisioned on 1 January; we look on 10 February, before the shortest term ends."""
    now = START + timedelta(days=40)
    records = look(orders, look(orders, (), (), START), placements, now)
    uses = first_uses(orders, placements)
    for order, record in zip(orders, records, strict=True):
        assert record.first_provisioned_at == uses.get(order.id)
        fallback = max(date(2026, 1, 1), order.provision_by or date.min) + timedelta(days=1)
        days = [day_of(uses[order.id]) + timedelta(days=1)] if order.id in uses else []
        days += [fallback] if midnight(fallback) <= now else []
        assert record.billing_start == (midnight(min(days)) if days else None)
        if days:
            length = {"ThreeMonths": 90, "OneYear": 365}[order.term]
            end = date.fromordinal(min(days).toordinal() + length)
            assert record.term_end == midnight(end)
            assert record.renewal_deadline == midnight(date.fromordinal(end.toordinal() - 30))
        assert record.state is (CommitmentState.ACTIVE if days else CommitmentState.PROVISIONING)


@given(order_lists(amended=True), placement_lists(), st.lists(st.integers(0, 60 * 24 * 40), max_size=6))
def test_m5_it_does_not_matter_how_often_and_when_we_look(
    orders: tuple[CommitmentOrder, ...], placements: tuple[Placement, ...], looks: list[int]
) -> None:
    end = START + timedelta(days=40)
    first = look(orders, (), (), START)
    records = first
    for minutes in sorted(looks):
        records = look(orders, records, placements, START + timedelta(minutes=minutes))
    assert look(orders, records, placements, end) == look(orders, first, placements, end)


@given(order_lists(amended=True), placement_lists(), st.integers(0, 1500), st.integers(0, 1000), st.data())
def test_i7_i8_records_settle_at_once_and_do_not_depend_on_order(
    orders: tuple[CommitmentOrder, ...],
    placements: tuple[Placement, ...],
    days: int,
    provisioned: int,
    data: st.DataObject,
) -> None:
    now = START + timedelta(days=days)
    first = look(orders, look(orders, (), (), START), placements, now, provisioned)
    assert look(orders, first, placements, now, provisioned) == first
    seen = look(shuffled(data, orders), shuffled(data, first), shuffled(data, placements), now, provisioned)
    assert seen == first


@given(order_lists(), placement_lists(), st.lists(st.integers(0, 500), min_size=1, max_size=8), st.data())
def test_m1_m9_moments_are_written_once_and_a_running_commitment_goes_only_forward(
    orders: tuple[CommitmentOrder, ...], placements: tuple[Placement, ...], days: list[int], data: st.DataObject
) -> None:
    records = look(orders, (), (), START)
    for day in sorted(days):
        present = data.draw(st.sets(st.sampled_from(placements))) if placements else set()
        provisioned = data.draw(st.integers(0, 1500))
        after = look(orders, records, sorted(present, key=placements.index), START + timedelta(days=day), provisioned)
        for old, new in zip(records, after, strict=True):
            dates = ("billing_start", "term_end") if old.number == new.number else ()
            for name in ("accepted_at", "fully_provisioned_at", "first_provisioned_at", *dates):
                assert getattr(old, name) in (None, getattr(new, name))
            assert _progress(new) >= _progress(old)
            assert new.billing_start is None or new.billing_start > new.accepted_at
        live = [each for each in after if not each.ended]
        assert sum(each.provisioned_cu for each in live) == min(provisioned, sum(each.compute_units for each in live))
        records = after


def _progress(record: CommitmentRecord) -> tuple[int, int]:
    return (record.number, list(CommitmentState).index(record.state))


@given(order_lists(), placement_lists(), st.lists(st.integers(0, 900), max_size=8), st.integers(400, 900))
def test_m5_m8_terms_follow_one_another_without_a_gap_however_often_we_look(
    orders: tuple[CommitmentOrder, ...], placements: tuple[Placement, ...], days: list[int], last: int
) -> None:
    """Nobody edits a policy, and all is used or due within the first term, which begins in the first 40 days."""
    first = records = look(orders, look(orders, (), (), START), placements, START + timedelta(days=50))
    for day in sorted(days):
        if 50 <= day <= last:
            records = look(orders, records, placements, START + timedelta(days=day))
    end = START + timedelta(days=last)
    records = look(orders, records, placements, end)
    assert look(orders, first, placements, end) == records
    for order, began, record in zip(orders, first, records, strict=True):
        if began.billing_start is None:
            continue
        length = {"ThreeMonths": 90, "OneYear": 365}[order.term]
        if order.renewal is RenewalPolicy.EXPIRE:
            assert (record.number, record.billing_start) == (1, began.billing_start)
            assert record.ended == (end >= began.billing_start + timedelta(days=length))
            continue
        passed = (end - began.billing_start).days // length
        assert (record.number, record.ended) == (1 + passed, False)
        assert record.billing_start == began.billing_start + timedelta(days=length * passed)


@given(order_lists(amended=True), placement_lists(), st.integers(0, 500))
def test_nothing_changes_by_itself_before_the_next_moment(
    orders: tuple[CommitmentOrder, ...], placements: tuple[Placement, ...], days: int
) -> None:
    now = START + timedelta(days=days, hours=7)
    seen = [placement for placement in placements if placement.at <= now]
    records = look(orders, look(orders, (), (), START), seen, now)
    upcoming = next_moment(records, orders, now)
    if upcoming is None:
        assert look(orders, records, seen, now + timedelta(days=9999)) == records
        return
    just_before = look(orders, records, seen, upcoming - timedelta(microseconds=1))
    assert just_before == records
    assert look(orders, records, seen, upcoming) != records

"""`kubectl reserved plan` for token units: what a reservation would do, by the operator's own planners (T1, T2, T4)."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from reserved_capacity.cli.layout import Page
from reserved_capacity.cli.plan import PlanView, load, objection, plan_view
from reserved_capacity.cli.render_plan import render_plan
from reserved_capacity.cli.world import World as Read
from reserved_capacity.ports import MODEL_INSTANCES, TOKEN_UNIT_RESERVATIONS, JsonObject
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.snapshot.forecast_values import (
    Change,
    DayPrice,
    FleetForecast,
    Purchase,
    Reduction,
    ReservationForecast,
)
from reserved_capacity.store import Store
from tests.integration.token_world import SNAPSHOT, TokenWorld, gpt_41, price_book, reservation, token_world

LATER = "gpt-4.1-2025-09-01"
FLEET = "provider/gpt-4-1-2025-04-14-a7b430ee"


async def a_seller(**world: Any) -> TokenWorld:
    """A fleet's pool of two instances of 400 CU, each of which serves 20 units of either direction."""
    found = token_world()
    await found.open(**world)
    return found


def planned(world: TokenWorld, tmp_path: Path, *documents: tuple[str, JsonObject], unread: bool = False) -> PlanView:
    text = "---\n".join(
        yaml.safe_dump({"apiVersion": "reservedcapacity.io/v1alpha1", "kind": kind, **body}) for kind, body in documents
    )
    (tmp_path / "files.yaml").write_text(text, encoding="utf-8")
    store = Store(INDEXES)
    world.cluster.relist(store)
    read = Read(store, world.clock.now(), unread=frozenset({TOKEN_UNIT_RESERVATIONS} if unread else ()))
    return plan_view(read, load(tmp_path / "files.yaml", "acme"))


def order(name: str = "gpt-41", **spec: Any) -> tuple[str, JsonObject]:
    return ("TokenUnitReservation", reservation(name, **spec))


def units(input_units: int, output_units: int, name: str = "gpt-41") -> tuple[str, JsonObject]:
    return order(name, units={"input": input_units, "output": output_units})


def the(view: PlanView, name: str = "gpt-41") -> ReservationForecast:
    return next(each for each in view.reservations if each.name == name)


async def test_t1_a_first_reservation_shows_its_price_its_dates_and_the_fleet_that_it_needs(tmp_path: Path) -> None:
    world = await a_seller()
    view = planned(world, tmp_path, order())
    found = the(view)
    assert objection(view) == ""
    assert (found.refused, found.reason, found.ok) == (None, "Backed", True)
    assert (found.input_tokens_per_minute, found.output_tokens_per_minute) == (Change(0, 90_000), Change(0, 10_000))
    assert (found.input_limit, found.output_limit) == (Change(500_000, 590_000), Change(100_000, 110_000))
    assert found.per_day == DayPrice("USD", "0.00", "474.00")
    assert found.fleet == FleetForecast(FLEET, "provider/fleet", Change(0, 1), 400, 800, 80)
    march_2, april_1 = date(2026, 3, 2), date(2026, 4, 1)
    assert found.purchases == (
        Purchase("Input", 3, 90_000, "110.00", "330.00", 30, march_2, april_1),
        Purchase("Output", 4, 10_000, "36.00", "144.00", 30, march_2, april_1),
    )
    assert [(move.namespace, move.instance) for move in view.moves] == [("provider", FLEET.removeprefix("provider/"))]
    assert world.cluster.objects(TOKEN_UNIT_RESERVATIONS) == []
    assert world.cluster.objects(MODEL_INSTANCES) == []


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ((3, 4), (3, 4)),
        ((3, 4), (5, 4)),
        ((3, 4), (30, 4)),
        ((3, 4), (3, 41)),
        ((3, 4), (1, 4)),
        ((21, 4), (21, 21)),
    ],
)
async def test_the_prediction_is_what_the_operator_does(
    tmp_path: Path, now: tuple[int, int], wanted: tuple[int, int]
) -> None:
    world = await a_seller()
    await world.buy(units={"input": now[0], "output": now[1]})
    found = the(planned(world, tmp_path, units(*wanted)))
    before = world.entitled()
    await world.order(*wanted)
    assert (found.input_tokens_per_minute.before, found.output_tokens_per_minute.before) == before
    assert (found.input_tokens_per_minute.after, found.output_tokens_per_minute.after) == world.entitled()
    assert (found.input_limit.after, found.output_limit.after) == world.effective()
    assert found.fleet is not None
    assert found.fleet.instances.after == world.fleet()[SNAPSHOT]
    assert found.reason == world.said("CapacityBacked")[1]
    assert found.refused == (None if world.said("Accepted")[0] == "True" else world.said("Accepted")[1])
    if not found.ok:
        assert found.message in (world.said("CapacityBacked")[2], world.said("Accepted")[2])
    bought = [lot for lot in world.status()["lots"] if lot["id"].split("-in-")[-1][:1] == "2"]
    assert len(bought) == len([each for each in found.purchases if each.direction == "Input"])


async def test_t4_a_fleet_too_small_says_the_cu_and_that_nothing_is_charged_yet(tmp_path: Path) -> None:
    world = await a_seller()
    view = planned(world, tmp_path, units(50, 0))
    found = the(view)
    assert (found.reason, found.ok) == ("InsufficientCapacity", False)
    assert "need 1200 CU" in found.message
    assert "have 800 in pool provider/fleet: add 400 CU" in found.message
    assert "acme/gpt-41 (InsufficientCapacity)" in objection(view)
    assert found.input_tokens_per_minute == Change(0, 0)
    assert found.per_day == DayPrice("USD", "0.00", "0.00")
    (bought,) = found.purchases
    assert (bought.per_day, bought.first_day, bought.removable_from) == ("5500.00", None, None)


async def test_t2_a_reduction_inside_the_minimum_term_is_refused_until_its_date(tmp_path: Path) -> None:
    world = await a_seller()
    await world.buy()
    await world.pass_to("03-20T10:00:00")
    view = planned(world, tmp_path, units(1, 4))
    found = the(view)
    assert (found.refused, found.ok) == ("MinimumTermNotReached", False)
    assert "2026-04-01T00:00:00Z" in found.message
    assert found.reductions == (Reduction("Input", 2, date(2026, 4, 1), refused=True),)
    assert found.input_tokens_per_minute == Change(90_000, 90_000)
    assert found.per_day == DayPrice("USD", "474.00", "474.00")
    assert "acme/gpt-41 (MinimumTermNotReached)" in objection(view)


async def test_t2_a_reduction_after_the_minimum_term_is_carried_out_at_the_next_midnight(tmp_path: Path) -> None:
    world = await a_seller()
    await world.buy()
    await world.pass_to("04-05T10:00:00")
    view = planned(world, tmp_path, units(1, 4))
    found = the(view)
    assert (objection(view), found.refused) == ("", None)
    assert found.reductions == (Reduction("Input", 2, date(2026, 4, 6), refused=False),)
    assert found.input_tokens_per_minute == Change(90_000, 30_000)
    assert found.per_day == DayPrice("USD", "474.00", "254.00")


async def test_s8_another_snapshot_moves_to_a_fleet_of_its_own_and_buys_nothing(tmp_path: Path) -> None:
    world = await a_seller(model=gpt_41(snapshots=(SNAPSHOT, LATER)))
    await world.buy()
    view = planned(world, tmp_path, order(snapshot=LATER))
    found = the(view)
    assert (objection(view), found.purchases, found.reductions) == ("", (), ())
    assert found.input_tokens_per_minute == Change(90_000, 90_000)
    assert found.fleet is not None
    assert found.fleet.instances == Change(0, 1)
    moved = {move.instance.partition("-20")[2][:9]: move.action.value for move in view.moves}
    assert moved == {"25-09-01-": "Grant", "25-04-14-": "Release"}


async def test_what_others_bought_is_not_sold_again(tmp_path: Path) -> None:
    world = await a_seller()
    await world.buy(units={"input": 39, "output": 0})
    assert the(planned(world, tmp_path, units(1, 0, "second")), "second").ok
    found = the(planned(world, tmp_path, units(2, 0, "second")), "second")
    assert (found.reason, found.fleet and found.fleet.need_compute_units) == ("InsufficientCapacity", 1200)
    assert found.fleet is not None
    assert found.fleet.have_compute_units == 800


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"offering": "gpt-9"}, "UnknownOffering"),
        ({"snapshot": "gpt-4.1-1999-01-01"}, "UnknownSnapshot"),
        ({"priceBookRef": "eur"}, "UnknownPriceBook"),
        ({"priceBookRef": "internal"}, "PriceMissing"),
    ],
)
async def test_what_the_operator_would_refuse_is_refused(tmp_path: Path, spec: dict[str, str], reason: str) -> None:
    world = await a_seller()
    view = planned(world, tmp_path, order(**spec))
    assert the(view).refused == reason
    assert f"acme/gpt-41 ({reason})" in objection(view)
    assert view.moves == ()


async def test_a_catalogue_a_fleet_and_a_reservation_in_one_directory_are_planned_together(tmp_path: Path) -> None:
    """In whatever order the files are read."""
    world = await a_seller()
    other = gpt_41()
    other["metadata"]["name"] = "gpt-9"
    price = {"offering": "gpt-9", "direction": "Input", "effectiveFrom": "2025-08-01", "pricePerUnitDay": "1.00"}
    book = price_book("usd", *price_book()["spec"]["tokenUnits"], price)
    documents = (
        order("new", offering="gpt-9", units={"input": 2, "output": 0}),
        ("PriceBook", book),
        ("ModelOffering", other),
    )
    found = the(planned(world, tmp_path, *documents), "new")
    assert (found.ok, found.input_tokens_per_minute) == (True, Change(0, 60_000))
    assert found.per_day == DayPrice("USD", "0.00", "2.00")


async def test_without_the_right_to_list_reservations_nothing_is_said_of_them(tmp_path: Path) -> None:
    """Nor is the fleet planned from half of what was sold."""
    world = await a_seller()
    await world.buy()
    view = planned(world, tmp_path, units(1, 1, "second"), unread=True)
    assert (view.reservations, view.moves) == ((), ())
    assert any("tokenunitreservations" in note for note in view.notes)


async def test_a_screen_says_what_it_costs_from_when_and_until_when(tmp_path: Path) -> None:
    world = await a_seller()
    await world.buy()
    await world.pass_to("03-20T10:00:00")
    view = planned(world, tmp_path, units(5, 1))
    lines = [line.plain for line in render_plan(view, Page(100, world.clock.now()))]
    assert lines[3] == "TOKEN UNITS acme/gpt-41   ✗ Backed, refused: MinimumTermNotReached   account acme"
    rows = [line.split() for line in lines]
    assert ["units", "3", "→", "5", "4"] in rows
    assert ["tokens", "per", "minute", "90,000", "→", "150,000", "10,000"] in rows
    text = " ".join(" ".join(lines).split())
    assert "474.00 → 694.00 USD a day" in text
    assert (
        "buys 2 input units at 110.00: 220.00 USD a day for 30 days at least, charged from 2026-03-21 on; no reduction "
        "before 2026-04-20"
    ) in text
    assert "gives up 3 output units: refused before 2026-04-01" in text
    assert "400 CU for all that is sold, pool provider/fleet has 800; 100 CU of them for these units" in text


async def test_a_screen_of_units_that_nothing_backs_names_no_day(tmp_path: Path) -> None:
    world = await a_seller()
    view = planned(world, tmp_path, units(50, 0))
    text = " ".join(" ".join(line.plain for line in render_plan(view, Page(100, world.clock.now()))).split())
    assert "5500.00 USD a day for 30 days at least, from the day after a fleet carries them" in text

"""Token units in `kubectl reserved invoice | ledger | estimate`: on books that the production reconcilers made (T1, M6)."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import date
from pathlib import Path

import pytest
import yaml

from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.cli.errors import CliError
from reserved_capacity.cli.money.estimating_units import unit_estimates, unit_rows
from reserved_capacity.cli.plan import load
from reserved_capacity.cli.world import World as Read
from reserved_capacity.ports import MODEL_OFFERINGS, PRICE_BOOKS, Listing, Resource
from reserved_capacity.snapshot import INDEXES
from reserved_capacity.store import Store
from tests.integration.token_world import TokenWorld, gpt_41, price_book, reservation
from tests.integration.world import NOW
from tests.unit.cli.test_cli_money import run


async def _two_months(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    world = TokenWorld(ledger=SqlLedger(database))
    await world.open()
    await world.buy()
    await world.pass_to("04-03T10:00:00")
    await database.close()


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("books") / "ledger.db"
    asyncio.run(_two_months(path))
    return f"sqlite:///{path}"


def test_m6_an_invoice_has_a_line_for_each_lot_with_its_units_and_price(books: str) -> None:
    text = run("invoice", "--account", "acme", "--month", "2026-03", "--database-url", books)
    lines = [line.split() for line in text.splitlines() if "lot:" in line]
    assert [line[1:] for line in lines] == [
        ["Charge", "2026-03-02", "2026-03-31", "30", "3", "110.00", "9900.00"],
        ["Charge", "2026-03-02", "2026-03-31", "30", "4", "36.00", "4320.00"],
    ]
    assert ["Due", "14220.00"] in [line.split() for line in text.splitlines()]


def test_m6_json_html_and_focus_tell_the_same_sum_of_lots(books: str) -> None:
    common = ("--account", "acme", "--month", "2026-03", "--database-url", books)
    (document,) = json.loads(run("invoice", *common, "-o", "json"))
    assert document["due"] == "14220.00"
    assert "14,220.00" in run("invoice", *common, "-o", "html")
    rows = list(csv.DictReader(io.StringIO(run("invoice", *common, "-o", "csv"))))
    assert len(rows) == 60
    assert sum(round(float(row["BilledCost"]) * 100) for row in rows) == 1_422_000
    assert {row["ResourceName"] for row in rows} == {"acme/gpt-41"}
    assert {row["PricingQuantity"] for row in rows} == {"3", "4"}


def test_i5_the_ledger_audits_lots(books: str) -> None:
    text = run("ledger", "--account", "acme", "--since", "2026-03-13", "--until", "2026-03-14", "--database-url", books)
    assert "3 input token units of gpt-4.1" in text
    assert "The books balance." in text
    rows = list(csv.DictReader(io.StringIO(run("ledger", "--account", "acme", "-o", "csv", "--database-url", books))))
    assert {row["tokenUnits"] for row in rows} == {"3", "4"}


def estimated(tmp_path: Path, **spec: object) -> list[dict[str, object]]:
    document = {"apiVersion": "reservedcapacity.io/v1alpha1", "kind": "TokenUnitReservation", **reservation(**spec)}  # type: ignore[arg-type]
    file = tmp_path / "tur.yaml"
    file.write_text(yaml.safe_dump(document))
    store = Store(INDEXES)
    contents: tuple[tuple[Resource, dict[str, object]], ...] = (
        (PRICE_BOOKS, {**price_book(), "kind": "PriceBook"}),
        (MODEL_OFFERINGS, {**gpt_41(), "kind": "ModelOffering"}),
    )
    for resource, obj in contents:
        metadata = {"uid": "u", "resourceVersion": "1", "generation": 1, "name": obj["metadata"]["name"]}  # type: ignore[index]
        store.replace(resource, Listing([{**obj, "apiVersion": resource.api_version, "metadata": metadata}], "1"))
    found = unit_estimates(Read(store, NOW, "server", frozenset()), load(file, "acme"), date(2026, 3, 2))
    return unit_rows(found)


def test_t1_an_estimate_names_the_price_of_a_day_and_of_the_minimum_term(tmp_path: Path) -> None:
    rows = estimated(tmp_path)
    assert [(row["direction"], row["perDay"], row["total"]) for row in rows] == [
        ("Input", "330.00", "9900.00"),
        ("Output", "144.00", "4320.00"),
    ]
    assert {(row["firstDay"], row["removableFrom"]) for row in rows} == {("2026-03-02", "2026-04-01")}
    assert [row["tokensPerMinute"] for row in rows] == [90_000, 10_000]


def test_an_estimate_of_what_is_not_sold_says_so(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="gpt-9"):
        estimated(tmp_path, offering="gpt-9")
    with pytest.raises(CliError, match="eur"):
        estimated(tmp_path, priceBookRef="eur")

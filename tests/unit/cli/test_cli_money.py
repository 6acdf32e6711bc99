"""`kubectl reserved invoice | ledger | estimate`, as a person runs them, on books that the production reconcilers made."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.cli.app import app
from reserved_capacity.cli.money.rendering import focus_csv, invoice_page, plain_csv
from tests.integration.test_books import add_price, pass_days
from tests.integration.world import World


async def _month_with_a_price_cut(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    world = World(ledger=SqlLedger(database))
    world.seed()
    world.apply_instance("chat", "gpt-4-turbo", 2)
    world.start_operator()
    await world.settle()
    await pass_days(world, 10)
    add_price(world, "2026-03-14", "180.00")
    await pass_days(world, 23)
    await database.close()


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("books") / "ledger.db"
    asyncio.run(_month_with_a_price_cut(path))
    return f"sqlite:///{path}"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if code == 0:
        assert result.exit_code == 0, result.output
    else:
        assert result.exit_code == code
    return result.output


def test_m6_the_invoice_has_a_line_for_each_price_and_says_what_is_due(books: str) -> None:
    text = run("invoice", "--account", "acme", "--month", "2026-03", "--database-url", books)
    assert [line.split() for line in text.splitlines() if "po-1" in line] == [
        ["po-1", "Charge", "2026-03-02", "2026-03-13", "12", "600", "220.00", "52076.71"],
        ["po-1", "Charge", "2026-03-14", "2026-03-31", "18", "600", "180.00", "63912.33"],
    ]
    assert ["Due", "115989.04"] in [line.split() for line in text.splitlines()]


def test_m6_json_html_and_focus_tell_the_same_sum(books: str) -> None:
    common = ("--account", "acme", "--month", "2026-03", "--database-url", books)
    (document,) = json.loads(run("invoice", *common, "-o", "json"))
    page = run("invoice", *common, "-o", "html")
    rows = list(csv.DictReader(io.StringIO(run("invoice", *common, "-o", "csv"))))
    assert document["due"] == "115989.04"
    assert "115,989.04" in page
    cents = [round(float(row["BilledCost"]) * 100) for row in rows]
    assert sum(cents) == 11598904
    assert {row["CapacityReservationStatus"] for row in rows} == {"", "Used"}


def test_m6_a_month_that_is_not_invoiced_yet_says_when_it_will_be(books: str) -> None:
    text = run("invoice", "--account", "acme", "--month", "2026-04", "--database-url", books, code=1)
    assert "2026-05-02T00:00:00Z" in text
    assert "no account 'nobody'" in run(
        "invoice", "--account", "nobody", "--month", "2026-03", "--database-url", books, code=1
    )
    assert "2026-13" in run("invoice", "--account", "acme", "--month", "2026-13", "--database-url", books, code=1)


def test_i5_the_ledger_shows_every_day_and_that_the_books_balance(books: str) -> None:
    text = run("ledger", "--account", "acme", "--since", "2026-03-13", "--until", "2026-03-15", "--database-url", books)
    assert "4339.7" in text
    assert "3550.6" in text
    assert "The books balance." in text
    rows = list(csv.DictReader(io.StringIO(run("ledger", "--account", "acme", "-o", "csv", "--database-url", books))))
    assert len({row["key"] for row in rows}) == len(rows) == 32


def test_where_the_books_are_must_be_said_and_is_not_made_by_asking(tmp_path: Path) -> None:
    assert "--database-url" in run("ledger", "--account", "acme", code=1)
    missing = tmp_path / "none.db"
    assert "no file" in run("ledger", "--account", "acme", "--database-url", f"sqlite:///{missing}", code=1)
    assert not missing.exists()


def test_m6_a_printed_invoice_says_what_is_drawn_from_a_prepayment_what_a_price_is_of_and_whose_favour_it_is_in() -> (
    None
):
    charge = {"commitment": "po-2", "kind": "Charge", "firstDay": "2026-04-01", "lastDay": "2026-04-30", "days": 30}
    charge |= {"computeUnits": 300, "price": "220.00", "amount": "65095.89", "drawnDown": "65095.89", "note": ""}
    credit = {**charge, "kind": "PriceCredit", "amount": "-64109.58", "drawnDown": "0.00", "days": 1}
    found = {"commitment": "po-2", "kind": "Correction", "firstDay": "2026-03-20", "lastDay": "2026-03-20", "days": 1}
    found |= {"computeUnits": 0, "price": "", "amount": "-1.00", "earlier": True, "note": "ticket 4711"}
    facts = {"number": "acme-USD-2026-04", "kind": "Monthly", "account": "acme", "currency": "USD", "month": "2026-04"}
    sums = {"charges": "65095.89", "prepayment": "0.00", "credits": "-64110.58", "drawnDown": "65095.89"}
    issued = {"issuedAt": "2026-05-02T00:00:00Z", "due": "-64110.58"}
    page = invoice_page([{**facts, **sums, **issued, "lines": [charge, credit, found]}])
    for said in (
        "2026-04-01 to 2026-04-30 (UTC)",
        "Charge, drawn from the prepayment",
        "220.00<br><span class='note'>per CU and month",
        "Price credit<",
        "Correction, ticket 4711, of an earlier month",
        "Due, in your favour",
    ):
        assert said in page, said


def test_text_that_a_spreadsheet_would_run_is_text_in_csv_and_html() -> None:
    (row,) = csv.DictReader(io.StringIO(focus_csv([{"ChargeDescription": "=cmd()", "BilledCost": "-1.00"}])))
    assert (row["ChargeDescription"], row["BilledCost"]) == ("'=cmd()", "-1.00")
    assert "'@x" in plain_csv([{"note": "@x", "amount": "-1.00"}])
    line = {"commitment": "<b>", "kind": "Charge", "firstDay": "a", "lastDay": "a", "days": 1, "computeUnits": 1}
    line |= {"price": "1", "amount": "1", "note": "<i>"}
    facts = dict.fromkeys(("number", "account", "month", "issuedAt", "currency", "kind"), "<x>")
    sums = dict.fromkeys(("charges", "prepayment", "credits", "drawnDown", "due"), "0.00")
    page = invoice_page([{**facts, **sums, "month": "2026-04", "lines": [line]}])
    assert not {"<b>", "<i>", "<x>"} & set(page.split())
    assert "&lt;b&gt;" in page

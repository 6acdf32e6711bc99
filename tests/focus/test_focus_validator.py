"""The FinOps Foundation's own validator on an export that has every kind of row (behaviour.md M6).

The validator runs on Python 3.12 only, in an environment of its own, which `make focus` makes. Elsewhere this is skipped.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reserved_capacity.domain.billing.charges import correction, plan_days
from reserved_capacity.domain.billing.contracts import Payment
from reserved_capacity.domain.billing.focus import COLUMNS, FocusCharge, Row, focus_rows
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.billing.usage import held_on
from reserved_capacity.domain.tokens.charges import plan_lot_days
from reserved_capacity.domain.tokens.lot_focus import FocusLot, lot_focus_row
from reserved_capacity.domain.tokens.prices import UnitPrices
from tests.unit.domain.contracts import contract, held, on, provisioned, seen, utc
from tests.unit.domain.lots import bought

_SUPPORTED = (
    "ACCOUNT_NAMING_SUPPORTED,BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED,CAPACITY_RESERVATION_SUPPORTED,"
    "COMMITMENT_DISCOUNT_SUPPORTED,MULTIPLE_PRICING_CATEGORIES_SUPPORTED,NEGOTIATED_PRICING_SUPPORTED,"
    "PUBLIC_PRICE_LIST_SUPPORTED,RESOURCE_TYPE_ASSIGNMENT_SUPPORTED,SUB_ACCOUNT_SUPPORTED,UNIT_PRICING_SUPPORTED,"
    "USAGE_MEASUREMENT_SUPPORTED"
)
# "InvoiceId MUST be null when the charge is not associated with an invoice" is half of an alternative: where the other half
# holds for all rows (all are on an invoice), this one cannot, and the rule above the two passes.
_HALVES = {"InvoiceId-C-004-C"}
_MALFORMED = ("CapacityReservationStatus-C-003-C", "CapacityReservationStatus-C-004-C")
# Its condition is the wrong way round: it asks for a status where there is no commitment discount, which the rule before it
# forbids. No export that has rows of both kinds can pass as it is.
_INVERTED = "CommitmentDiscountStatus-C-004-C"
MONTH = Month(2026, 6)


def _python() -> str:
    """A Python that has focus-validator, or a skip that says how to get one."""
    places = (os.environ.get("FOCUS_PYTHON", ""), ".focus/bin/python", "python3.12")
    for place in filter(None, places):
        try:
            found = subprocess.run(
                [place, "-c", "import focus_validator"], capture_output=True, timeout=60, check=False
            )
        except OSError:
            continue
        if not found.returncode:
            return place if place == "python3.12" else str(Path(place).absolute())
    pytest.skip("no Python 3.12 with focus-validator here: `make focus` makes one, or FOCUS_PYTHON names it")


def _export() -> list[Row]:
    """June of two contracts: idle, used, missing units, a price that falls and rises, a prepayment, corrections, a late day."""
    history = seen(
        ("2024-02-08", "220.00", "2024-02-08T00:00:00"),
        ("2026-06-08", "200.00", "2026-06-01T00:00:00"),
        ("2026-06-20", "240.00", "2026-06-01T00:00:00"),
    )
    monthly = contract()
    prepaid = contract("2026-06-02", id_="po-2", payment=Payment.ANNUAL_PREPAID, compute_units=600)
    holdings = [
        held(300, "2026-06-01T00:00:00", "2026-06-10T11:11:11"),
        held(500, "2026-06-03T00:00:00", member="fast-0"),
    ]
    missing = [provisioned(200, "2026-06-04T10:00:00", "2026-06-05T01:00:00")]
    rows: list[Row] = []
    for each in (monthly, prepaid):
        posted = plan_days(each, history, posted_through=on("2026-05-30"), today=MONTH.end, provisioned=missing)
        corrections = (
            correction(each, on("2026-06-03"), -500, 'agreed, "by phone"'),
            correction(each, on("2026-05-03"), 500, "found late"),
        )
        for row in (*posted, *corrections):
            price = history.list_price("usd", each.term, row.day, known_by=utc("2026-06-30T00:00:00"))
            assert price is not None
            use = held_on([monthly, prepaid], holdings, row.day)
            charge = FocusCharge(each, row, MONTH, price, f"acme-USD-{MONTH}", use.get(each.commitment, {}))
            rows += focus_rows(charge, provider="Example AI")
    for lot in (replace(each, billing_start=on("2026-06-02")) for each in bought()):
        for row in plan_lot_days(lot, UnitPrices(), posted_through=None, today=MONTH.end):
            rows.append(
                lot_focus_row(FocusLot(lot, row, MONTH, lot.ordered_price, f"acme-USD-{MONTH}"), provider="Example AI")
            )
    return rows


def _rules(python: str, into: Path) -> Path:
    """The validator's rules, with the conditions of three rules put right: two that 2.2.1 has in a form it does not read,
    so that one asks that CapacityReservationStatus is always null and the other that it never is, and _INVERTED.
    """
    where = "import focus_validator, pathlib; print(pathlib.Path(focus_validator.__file__).parent / 'rules')"
    home = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    for source in home.glob("model-*.json"):
        model: dict[str, Any] = json.loads(source.read_text())
        for name in _MALFORMED:
            criteria = model["ModelRules"][name]["ValidationCriteria"]
            wrong = criteria["Condition"].pop("AND")
            criteria["Condition"] = {"CheckFunction": "AND", "Items": wrong if isinstance(wrong, list) else [wrong]}
        model["ModelRules"][_INVERTED]["ValidationCriteria"]["Condition"] = {
            "CheckFunction": "AND",
            "Items": [
                {"CheckFunction": "CheckNotValue", "ColumnName": "CommitmentDiscountId", "Value": None},
                {"CheckFunction": "CheckValue", "ColumnName": "ChargeCategory", "Value": "Usage"},
            ],
        }
        (into / source.name).write_text(json.dumps(model))
    return home


def test_m6_the_validator_of_the_specification_accepts_the_export(tmp_path: Path) -> None:
    python = _python()
    export = tmp_path / "export.csv"
    with export.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({name: value or "" for name, value in row.items()} for row in _export())
    rules = tmp_path / "rules"
    rules.mkdir()
    home = _rules(python, rules)
    answer = subprocess.run(
        [
            python, "-m", "focus_validator.main",
            "--data-file", str(export),
            "--validate-version", "1.2",
            "--rule-set-path", str(rules),
            "--applicability-criteria", _SUPPORTED,
            "--block-download", "--show-violations",
        ],
        cwd=home.parents[1],  # it reads a table of its own by a relative path
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    total = re.search(r"Total: (\d+) \| Pass: (\d+)", answer.stdout)
    assert total, answer.stdout[-2000:] + answer.stderr[-2000:]
    assert int(total[2]) > 300, "the validator left out what it is run for"
    failed = set(re.findall(r"^❌ (\S+): FAIL", answer.stdout, re.MULTILINE))
    assert failed == _HALVES, answer.stdout[answer.stdout.find("--- Failures") :]
    assert "✅ InvoiceId-C-003-C: PASS" in answer.stdout
    sys.stdout.write(f"focus-validator: {total[0]}\n")

"""The FOCUS export and the invoices of a month are the same rows with the same sum, whenever a row was found (M6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.cli.money.reading import focus_of
from reserved_capacity.domain.billing.charges import correction
from reserved_capacity.domain.billing.contracts import Contract, Payment, PriceSighting
from reserved_capacity.domain.billing.focus import Row
from reserved_capacity.domain.billing.history import Presence
from reserved_capacity.domain.billing.intervals import IntervalKind
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.terms import Term
from reserved_capacity.ledger_ports import PoolName
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.billing import close
from reserved_capacity.reconcilers.billing.board import CLOSE, Billing
from reserved_capacity.reconcilers.context import Context
from tests.contract.ledger_port import contract

OLD, NEW = PoolName("acme", "prod"), PoolName("acme", "again")
MARCH, APRIL, MAY = (Month(2026, number) for number in (3, 4, 5))
AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    database = Database(f"sqlite:///{tmp_path}/books.db")
    yield SqlLedger(database)
    await database.close()


def prepaid(name: str, start: date) -> Contract:
    return contract(
        name, term=Term.ONE_YEAR, payment=Payment.ANNUAL_PREPAID, ordered_price=Decimal(220), billing_start=start
    )


async def closed(ledger: SqlLedger, today: date) -> None:
    now = datetime(today.year, today.month, today.day, 1, tzinfo=UTC)
    context = SimpleNamespace(clock=SimpleNamespace(now=lambda: now), enqueue=lambda _key: None)
    await close.reconcile(cast("Context", context), Billing(ledger), Key(CLOSE, "", ""))


async def agree(ledger: SqlLedger, month: Month) -> list[Row]:
    """What the export and the invoices of a month both say; the rows of the export."""
    rows = list(await focus_of(ledger, "acme", month))
    issued = {each.number: each.document for each in await ledger.invoices(account="acme", month=month.start)}
    for number, document in issued.items():
        billed = sum(Decimal(row["BilledCost"] or 0) for row in rows if row["InvoiceId"] == number)
        assert billed == Decimal(document["due"]), number
        days = sum(line["days"] for line in document["lines"])
        assert len({row["x_LedgerKey"] for row in rows if row["InvoiceId"] == number}) == days
    assert {row["InvoiceId"] for row in rows} == set(issued)
    return rows


async def test_m6_export_and_invoice_agree_month_by_month_also_of_rows_that_were_found_late(ledger: SqlLedger) -> None:
    await ledger.record_sightings([PriceSighting("usd", Term.ONE_YEAR, date(2024, 2, 8), Decimal(220), AT)])
    monthly = contract("po-1")
    await ledger.register([monthly, prepaid("po-2", date(2026, 3, 2)), prepaid("po-3", date(2026, 3, 9))])
    await closed(ledger, date(2026, 4, 3))
    march = await agree(ledger, MARCH)
    assert {row["InvoiceId"] for row in march} == {
        "acme-USD-2026-03",
        "acme-po-2-2026-03-02",
        "acme-po-3-2026-03-09",
    }

    # Found after March was closed: a refund, and a commitment of which the books heard only now.
    await ledger.append([correction(monthly, date(2026, 3, 20), -123_45, "agreed by telephone")], now=AT)
    await ledger.register([contract("po-0", billing_start=date(2026, 3, 25))])
    await closed(ledger, date(2026, 5, 3))
    assert await agree(ledger, MARCH) == march
    april = await agree(ledger, APRIL)
    late = [row for row in april if row["ChargeClass"] == "Correction"]
    assert {row["x_LedgerKey"] for row in late} == {
        "po-1/2026-03-20/Correction",
        *(f"po-0/2026-03-{day}/Charge" for day in range(25, 32)),
    }

    # In its first hours the month before is open as well; each has its own days.
    await closed(ledger, date(2026, 6, 1))
    may, june = [await focus_of(ledger, "acme", month) for month in (MAY, Month(2026, 6))]
    assert {(row["ChargePeriodStart"] or "")[:7] for row in may} == {"2026-05"}
    assert june == ()
    await closed(ledger, date(2026, 6, 12))
    assert [row["x_LedgerKey"] for row in await agree(ledger, MAY)] == [row["x_LedgerKey"] for row in may]

    # Of a month that is not over, what its invoice would have by now; it has no number yet.
    june = await focus_of(ledger, "acme", Month(2026, 6))
    assert {row["InvoiceId"] for row in june} == {None}
    assert {row["x_LedgerKey"] for row in june} >= {"po-2/2026-06-11/Charge", "po-0/2026-06-03/Charge"}


async def test_m9_the_use_of_a_commitment_is_found_wherever_its_pool_stood(ledger: SqlLedger) -> None:
    """Applied again under another name: what it lacks there is credited, and what is used there is Used."""
    await ledger.register([contract("po-1")])

    async def seen(pool: PoolName, provisioned: int | None, held: int, at: datetime) -> None:
        there = [Presence(IntervalKind.HELD, "chat-0", "chat", held)] if held else []
        if provisioned is not None:
            there.append(Presence(IntervalKind.PROVISIONED, "po-1", "po-1", provisioned))
        await ledger.observe(pool, there, at)

    await seen(OLD, 600, 600, AT)
    await seen(OLD, None, 0, AT + timedelta(days=4))
    await seen(NEW, 600, 600, AT + timedelta(days=6))
    await seen(NEW, 300, 300, datetime(2026, 3, 10, tzinfo=UTC))
    await closed(ledger, date(2026, 3, 12))
    rows = await focus_of(ledger, "acme", MARCH)
    credited = [row["x_LedgerKey"] for row in rows if row["ChargeCategory"] == "Credit"]
    assert credited == ["po-1/2026-03-10/Shortfall", "po-1/2026-03-11/Shortfall"]
    used = {
        (row["ChargePeriodStart"] or "")[:10]: (row["x_Pool"], row["CommitmentDiscountQuantity"])
        for row in rows
        if row["CommitmentDiscountStatus"] == "Used"
    }
    assert used["2026-03-04"] == ("prod", str(600 * 24))
    assert used["2026-03-05"] == ("prod", str(600 * 9))
    assert "2026-03-06" not in used
    assert used["2026-03-07"] == ("again", str(600 * 15))
    assert used["2026-03-11"] == ("again", str(300 * 24))

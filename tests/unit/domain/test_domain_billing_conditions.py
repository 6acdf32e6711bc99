"""BillingCurrent and LedgerBalanced, and what the status says of money (api.md; behaviour.md M7, I5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from reserved_capacity.domain.billing.audit import Finding, Flaw
from reserved_capacity.domain.billing.billing_conditions import (
    ON_ITS_WAY,
    BillingState,
    billing_current,
    late_at,
    ledger_balanced,
)
from reserved_capacity.domain.billing.charges import plan_days
from reserved_capacity.domain.billing.contracts import Contract
from reserved_capacity.domain.billing.ledger import EntryKind
from reserved_capacity.domain.billing.posted import Posted, PostedContract
from reserved_capacity.domain.billing.pricing import renewed
from reserved_capacity.domain.billing.summary import BillingSummary, CommitmentBilling, Reported, summarize
from reserved_capacity.domain.reasons.base import ConditionStatus
from tests.unit.domain.contracts import contract, on, reduction, seen, utc

NOW = utc("2026-06-10T12:00:00")
LONG_AGO = NOW - timedelta(hours=3)
WAITING = BillingState("billing.example.com", pending_rows=7, oldest_pending_at=LONG_AGO)


@pytest.mark.parametrize(
    ("state", "status", "reason", "words"),
    [
        (BillingState(None), "True", "NoSink", "--billing-url"),
        (BillingState(None, pending_rows=9, oldest_pending_at=LONG_AGO), "True", "NoSink", "rows are kept"),
        (BillingState("billing.example.com"), "True", "Current", "rows reach billing.example.com"),
        (replace(WAITING, oldest_pending_at=NOW - timedelta(minutes=1)), "True", "Current", "as they are posted"),
        (
            WAITING,
            "Unknown",
            "CatchingUp",
            "7 rows are being delivered to billing.example.com, the oldest since 2026-06-10T09",
        ),
        (replace(WAITING, failure="503"), "False", "SinkUnavailable", "billing.example.com says: 503; nothing is lost"),
        (replace(WAITING, unposted_days=40, oldest_due_at=LONG_AGO, failure="503"), "Unknown", "CatchingUp", "40 days"),
        (BillingState("x", unposted_days=1, oldest_due_at=NOW), "True", "Current", "rows reach x"),
        (BillingState(None, books_failure="disk full"), "Unknown", "CatchingUp", "cannot be read"),
    ],
)
def test_m7_billing_current_says_where_the_rows_are(state: BillingState, status: str, reason: str, words: str) -> None:
    found = billing_current(state, now=NOW)
    assert (found.type, found.status, found.reason) == ("BillingCurrent", ConditionStatus(status), reason)
    assert words in found.message


def test_m7_what_is_on_its_way_is_looked_at_again_when_it_would_be_late() -> None:
    fresh = replace(WAITING, oldest_pending_at=NOW)
    assert late_at(fresh, now=NOW) == NOW + ON_ITS_WAY
    assert billing_current(fresh, now=NOW + ON_ITS_WAY).reason == "CatchingUp"
    assert late_at(WAITING, now=NOW) is None
    assert late_at(replace(fresh, sink=None), now=NOW) is None
    assert late_at(replace(fresh, unposted_days=1, oldest_due_at=NOW - timedelta(seconds=1)), now=NOW) == (
        NOW + ON_ITS_WAY - timedelta(seconds=1)
    )


def test_i5_books_without_findings_are_balanced() -> None:
    found = ledger_balanced(())
    assert (found.type, found.status, found.reason) == ("LedgerBalanced", ConditionStatus.TRUE, "Balanced")


def test_i5_a_finding_is_told_with_the_key_of_its_row_and_how_many_more_there_are() -> None:
    first = Finding("po-1/2026-04-01/Charge", Flaw.AMOUNT, "2.00 USD stands, the contract gives 1.00 USD")
    found = ledger_balanced((first, first, first))
    assert (found.status, found.reason) == (ConditionStatus.FALSE, "Mismatch")
    assert "row po-1/2026-04-01/Charge: 2.00 USD stands, the contract gives 1.00 USD and 2 more" in found.message


# ----------------------------------------------------------------------------------------------------------- summary

HISTORY = seen(("2024-02-08", "220.00", "2024-02-08T00:00:00"), ("2026-06-08", "200.00", "2026-06-01T00:00:00"))


ALL_REPORTED = Reported(sink=True)


def posted(what: Contract, today: str) -> PostedContract:
    """As if everything that is due were in the books."""
    charges = [
        row for row in plan_days(what, HISTORY, posted_through=None, today=on(today)) if row.kind is EntryKind.CHARGE
    ]
    sums = Posted(
        rows={EntryKind.CHARGE: len(charges)},
        amounts_minor={EntryKind.CHARGE: sum(row.amount_minor for row in charges)},
        last_charged=charges[-1].day if charges else None,
    )
    return PostedContract(what, sums)


def summary(
    today: str = "2026-06-10", *contracts: Contract, held_cu: int = 200, reported: Reported = ALL_REPORTED
) -> BillingSummary:
    known = [posted(each, today) for each in contracts or (contract(),)]
    found = summarize(known, HISTORY, reported, held_cu=held_cu, today=on(today))
    assert found is not None
    return found


def test_the_summary_is_of_today_and_of_the_month_so_far() -> None:
    found = summary()
    assert found.currency == "USD"
    assert found.per_day == Decimal("1972.60")
    # Seven days at 220.00 and two at 200.00.
    assert found.month_to_date == Decimal("15189.05") + Decimal("3945.20")
    assert found.idle_share == Decimal("0.3333")
    assert (found.last_reported_day, found.pending_rows) == (on("2026-06-09"), 0)


def test_m3_the_price_of_a_commitment_is_told_as_ordered_and_as_it_is() -> None:
    (found,) = summary().commitments
    assert found == CommitmentBilling(
        "po-1", Decimal("220.00"), Decimal("200.00"), 100, Decimal("216591.78"), on("2026-06-09")
    )


def test_m3_a_price_is_told_with_the_places_of_its_currency_however_the_books_keep_it() -> None:
    (found,) = summary("2026-06-10", contract(price="220")).commitments
    assert (str(found.ordered), str(found.current)) == ("220.00", "200.00")


def test_m7_the_last_reported_day_is_the_one_before_the_first_row_that_waits() -> None:
    found = summary(reported=Reported(sink=True, pending_rows=5, pending_from=on("2026-06-05")))
    assert (found.last_reported_day, found.pending_rows) == (on("2026-06-04"), 5)
    first = Reported(sink=True, pending_rows=100, pending_from=on("2026-03-02"))
    assert summary(reported=first).last_reported_day is None
    assert summary(reported=Reported(sink=False, pending_rows=100)).last_reported_day is None


def test_before_the_start_and_after_the_end_nothing_is_charged() -> None:
    before, after = summary("2026-03-01"), summary("2027-03-02")
    assert (before.per_day, before.idle_share, before.commitments[0].charged) == (
        Decimal("0.00"),
        None,
        Decimal("0.00"),
    )
    assert (after.per_day, after.idle_share) == (Decimal("0.00"), None)
    assert (after.commitments[0].current, after.commitments[0].charged_days) == (Decimal("200.00"), 365)


def test_m8_of_a_renewed_commitment_the_running_term_is_told_and_the_month_is_of_both() -> None:
    first = contract()
    second = renewed(first, HISTORY)
    assert second is not None
    on_last, on_next = summary("2027-03-01", first, second), summary("2027-03-03", first, second)
    assert [each.ordered for each in (*on_last.commitments, *on_next.commitments)] == [
        Decimal("220.00"),
        Decimal("200.00"),
    ]
    assert on_next.commitments[0].charged_days == 1
    assert on_next.month_to_date == Decimal("1972.61") + Decimal("1972.60")


def test_several_commitments_are_summed_in_the_order_of_acceptance() -> None:
    late = contract(id_="a", compute_units=100, accepted_at="2026-02-25T00:00:00")
    ended = contract(id_="z", reductions=(reduction("2026-05-01", 0, "2026-04-01T00:00:00"),))
    found = summary("2026-06-10", late, ended, contract(), held_cu=100)
    assert [each.commitment for each in found.commitments] == ["po-1", "z", "a"]
    assert found.per_day == Decimal("1972.60") + Decimal("657.53")
    assert found.idle_share == Decimal("0.7500")


def test_the_month_counts_what_is_posted_and_not_what_is_due() -> None:
    behind = posted(contract(), "2026-06-05")
    found = summarize([behind], HISTORY, Reported(sink=True), held_cu=0, today=on("2026-06-10"))
    assert found is not None
    rows = plan_days(contract(), HISTORY, posted_through=on("2026-05-31"), today=on("2026-06-05"))
    assert found.month_to_date == Decimal(sum(row.amount_minor for row in rows)) / 100


def test_a_pool_without_contracts_has_no_summary() -> None:
    assert summarize([], HISTORY, Reported(sink=True), held_cu=0, today=on("2026-06-10")) is None

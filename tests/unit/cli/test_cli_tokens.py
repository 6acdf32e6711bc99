"""Token units on the screen: entitlement, base, limit, use, and lots with their dates (issue 8, item 5)."""

from __future__ import annotations

from typing import Any

from reserved_capacity.cli.explain import explanation
from reserved_capacity.cli.render_status import render_status
from reserved_capacity.cli.render_why import render_why
from reserved_capacity.cli.targets import kind_of
from reserved_capacity.cli.view import status_view
from reserved_capacity.ports import JsonObject
from tests.unit.cli.builders import accelerators, chat, condition, node, page, pool, text, tokens, world

USE = {
    "window": "1h",
    "inputUtilization": "0.42",
    "outputUtilization": "1.1",
    "peakMinute": "2026-03-01T02:41:00Z",
    "spilledRequests": 12,
    "rejectedRequests": 3,
}


def rate(input_: int, output: int) -> JsonObject:
    return {"inputTokensPerMinute": input_, "outputTokensPerMinute": output}


def lot(direction: str, units: int, tpm: int, price: str, **more: Any) -> JsonObject:
    given = {
        "id": f"lot:{direction.lower()}",
        "direction": direction,
        "units": units,
        "tokensPerMinute": tpm,
        "purchasedAt": "2026-02-20T10:00:00Z",
        "billingStart": "2026-02-21T00:00:00Z",
        "removableFrom": "2026-03-23T00:00:00Z",
        "pricePerUnitDay": price,
    }
    return {key: value for key, value in (given | more).items() if value is not None}


def sold(**more: Any) -> JsonObject:
    entitled = rate(90_000, 10_000)
    status = {
        "entitlement": entitled,
        "rateLimit": {
            "base": rate(500_000, 100_000),
            "added": entitled,
            "effective": rate(590_000, 110_000),
            "revision": 2,
        },
        "lots": [lot("Input", 3, 90_000, "110.00"), lot("Output", 4, 10_000, "36.50", endsAt="2026-03-23T00:00:00Z")],
        "lotsTotal": 2,
        "backing": {"instance": "provider/gpt-4-1", "computeUnits": 80},
    }
    return tokens([condition("Accepted", "True", "Accepted"), condition("Ready", "True", "Ready")], **(status | more))


def screen(*told: JsonObject, width: int = 80) -> str:
    seen = world(pool(), chat(), accelerators(), node(), *told)
    shown = text(render_status(status_view(seen, "acme"), page(width)))
    return shown[shown.index("TOKEN UNITS") : shown.index("CLASS ")]


def test_a_reservation_shows_what_its_units_add_to_the_limit_and_when_each_lot_may_go() -> None:
    assert (
        screen(sold(usage=USE))
        == """\
TOKEN UNITS gpt-41   ✓ Ready   account acme   gpt-4.1-2025-04-14
3 input, 4 output units
  TOKENS PER MINUTE               INPUT   OUTPUT
  entitled to by these units     90,000   10,000
  the account's base            500,000  100,000
  the account's limit now       590,000  110,000
  used of these units, last 1h     42 %    110 %
  carried by provider/gpt-4-1 with 80 CU   limit published as revision 2
  busiest minute 2026-03-01 02:41Z   12 requests spilled to the base
  3 answered with 429

  LOT     UNITS     TPM  A UNIT-DAY  BILLED FROM  REMOVABLE FROM  ENDS
  input       3  90,000      110.00  2026-02-21   2026-03-23
  output      4  10,000       36.50  2026-02-21   2026-03-23      2026-03-23

"""
    )


def test_at_120_columns_lots_have_their_ids_and_how_long_they_are_bound() -> None:
    shown = screen(sold(), width=120)
    assert "input lot:input" in shown
    assert "2026-03-23 (in 21d)" in shown
    assert "use not measured" in shown


def test_a_lot_that_nothing_backs_yet_is_not_billed_and_may_go_at_once() -> None:
    waiting = lot("Input", 3, 90_000, "110.00", billingStart=None, removableFrom=None, removable=True)
    shown = screen(sold(lots=[waiting], lotsTotal=1, backing=None, rateLimit={}, entitlement={}))
    assert "not yet      now" in shown
    assert "no fleet carries it yet   no limit published yet" in shown


def test_t3_what_other_reservations_of_the_account_add_is_told_apart() -> None:
    limit = {"base": rate(1, 1), "added": rate(120_000, 10_000), "effective": rate(120_001, 10_001), "revision": 3}
    assert "added by all its reservations  120,000  10,000" in screen(sold(rateLimit=limit))


def test_many_lots_are_counted_beyond_the_first_dozen() -> None:
    many = [lot("Input", 1, 30_000, "110.00", id=f"lot:{number}") for number in range(20)]
    assert "and 8 more lots" in screen(sold(lots=many, lotsTotal=20))


def test_why_of_a_reservation_tells_limits_and_lots() -> None:
    found = explanation(world(sold()), kind_of("tur"), "acme", "gpt-41")
    assert found is not None
    shown = text(render_why(found, page(120)))
    assert "3 input and 4 output units; overflow Spill, enforcement Enforce; carried by provider/gpt-4-1" in shown
    assert "the account's limit now     590,000  110,000" in shown
    assert "input lot:input        3      110.00  2026-02-20  2026-02-21   2026-03-23" in shown

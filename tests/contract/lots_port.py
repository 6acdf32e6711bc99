"""What the Ledger port promises of lots of token units; `test_ledger_port.py` runs it on all ledgers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from reserved_capacity.domain.billing.ledger import EntryKind
from reserved_capacity.domain.tokens.charges import DueLot, plan_lot_days
from reserved_capacity.domain.tokens.lots import Direction, LotCut, ReservationName
from reserved_capacity.domain.tokens.prices import UnitPrice, UnitPrices
from reserved_capacity.ledger_ports import Ledger
from tests.unit.domain.lots import NAME, at, begun, bought, day, ordered, wish

NOW = at("03-20T10:00:00")


class LotsContract:
    async def test_t1_a_lot_is_there_once_and_what_is_learnt_is_added(self, ledger: Ledger) -> None:
        new, _ = ordered(wish(3, 4))
        assert await ledger.register_lots(new) == new
        assert await ledger.register_lots([replace(lot, units=9, account="other") for lot in new]) == new
        started = begun(new)
        assert await ledger.register_lots(started) == started
        later = [replace(lot, billing_start=day("05-01")) for lot in started]
        assert await ledger.register_lots(later) == started
        assert await ledger.lots(account="acme", reservation=NAME) == tuple(sorted(started, key=lambda lot: lot.id))
        assert await ledger.lots(account="other") == ()
        assert await ledger.lots(reservation=ReservationName("acme", "other")) == ()

    async def test_t2_cuts_stand_in_the_order_in_which_they_were_recorded(self, ledger: Ledger) -> None:
        await ledger.register_lots(bought(3, 0))
        lots, _ = ordered(wish(1), bought(3, 0), NOW)
        assert await ledger.register_lots(lots) == lots
        lots, _ = ordered(wish(3), lots, NOW + timedelta(hours=1))
        assert await ledger.register_lots(lots) == lots
        other = [replace(lots[0], cuts=(replace(lots[0].cuts[0], units=0),))]
        assert await ledger.register_lots(other) == lots
        assert await ledger.lots() == lots

    async def test_t2_endless_are_reservations_with_a_lot_whose_last_cut_leaves_something(self, ledger: Ledger) -> None:
        """The last one recorded decides, whatever its day; one that was taken back leaves the lot without an end."""
        assert await ledger.endless_reservations() == ()
        (lot,) = bought(3, 0)
        other = ReservationName("zeta", "other")
        same_place = replace(lot, id="lot:a", cuts=(LotCut(1, day("04-05"), 0, NOW), LotCut(2, day("04-03"), 2, NOW)))
        never = replace(lot, id="lot:b", reservation=other, billing_start=None)
        over = replace(
            lot, id="lot:c", reservation=ReservationName("zeta", "over"), cuts=(LotCut(1, day("04-05"), 0, NOW),)
        )
        await ledger.register_lots([never, over])
        assert await ledger.endless_reservations() == (other,)
        await ledger.register_lots([lot, same_place])
        assert await ledger.endless_reservations() == (NAME, other)
        for number, units in ((3, 0), (4, 0)):
            await ledger.register_lots(
                [replace(each, cuts=(LotCut(number, day("04-09"), units, NOW),)) for each in (lot, same_place)]
            )
        assert await ledger.endless_reservations() == (other,)

    async def test_m5_a_cut_changes_no_day_that_is_posted(self, ledger: Ledger) -> None:
        (lot,) = await ledger.register_lots(bought(3, 0))
        rows = plan_lot_days(lot, UnitPrices(), posted_through=None, today=day("04-10"))
        await ledger.append(rows, now=NOW)
        (got,) = await ledger.register_lots([replace(lot, cuts=(LotCut(1, day("04-02"), 0, NOW),))])
        assert got.cuts[0].at == day("04-10")

    async def test_m2_what_is_due_is_asked_for_page_by_page_and_no_more_once_it_is_posted(self, ledger: Ledger) -> None:
        lots = sorted(await ledger.register_lots(bought(3, 4)), key=lambda lot: lot.id)
        today = day("03-05")
        assert await ledger.due_lots(day("03-02")) == ()
        assert await ledger.due_lots(today) == tuple(DueLot(lot, None) for lot in lots)
        assert await ledger.due_lots(today, limit=1) == (DueLot(lots[0], None),)
        assert await ledger.due_lots(today, after=lots[0].id) == (DueLot(lots[1], None),)
        rows = [row for lot in lots for row in plan_lot_days(lot, UnitPrices(), posted_through=None, today=today)]
        entries = await ledger.append(rows, now=NOW)
        assert [entry.transaction for entry in entries] == rows
        assert await ledger.due_lots(today) == ()
        assert await ledger.due_lots(day("03-06")) == tuple(DueLot(lot, day("03-04")) for lot in lots)

    async def test_t2_what_has_ended_is_due_until_its_last_day_is_posted(self, ledger: Ledger) -> None:
        lots, _ = ordered(wish(0, 0), bought(3, 0), NOW)
        (lot,) = await ledger.register_lots(lots)
        assert [each.lot for each in await ledger.due_lots(day("06-01"))] == [lot]
        rows = plan_lot_days(lot, UnitPrices(), posted_through=None, today=day("06-01"))
        await ledger.append(rows, now=NOW)
        assert await ledger.due_lots(day("06-01")) == ()

    async def test_i5_what_is_posted_of_a_lot_is_summed_from_its_rows(self, ledger: Ledger) -> None:
        (lot,) = await ledger.register_lots(bought(3, 0))
        await ledger.append(plan_lot_days(lot, UnitPrices(), posted_through=None, today=day("03-05")), now=NOW)
        (got,) = await ledger.posted_lots([lot.id, "lot:none"])
        assert (got.lot, got.posted.rows, got.posted.amounts_minor) == (
            lot,
            {EntryKind.CHARGE: 3},
            {EntryKind.CHARGE: 99_000},
        )
        assert (got.posted.first_charged, got.posted.last_charged) == (day("03-02"), day("03-04"))

    async def test_m7_billing_hears_of_a_lot_by_its_name_and_units(self, ledger: Ledger) -> None:
        (lot,) = await ledger.register_lots(bought(3, 0))
        await ledger.append(plan_lot_days(lot, UnitPrices(), posted_through=None, today=day("03-03")), now=NOW)
        (event,) = await ledger.pending("acme", 10)
        assert event.data["lot"] == lot.id
        assert (event.data["tokenUnits"], event.data["amount"], event.data["price"]) == (3, "330.00", "110.00")
        assert "commitment" not in event.data

    async def test_m3_a_list_price_of_units_is_kept_with_when_it_was_first_seen(self, ledger: Ledger) -> None:
        price = UnitPrice("usd", "gpt-4.1", Direction.INPUT, day("03-01"), Decimal("110.00"), NOW)
        await ledger.record_unit_prices([price])
        await ledger.record_unit_prices([replace(price, seen_at=NOW + timedelta(days=1))])
        (got,) = await ledger.unit_prices("usd")
        assert (got.seen_at, got.per_unit_day) == (NOW, Decimal("110"))
        assert await ledger.unit_prices("eur") == ()

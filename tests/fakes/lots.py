"""Owns lots in memory: the part of the Ledger port that is about token units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.posted import Posted
from reserved_capacity.domain.tokens.charges import DueLot, PostedLot, charged_days
from reserved_capacity.domain.tokens.lots import Lot, ReservationName
from reserved_capacity.domain.tokens.prices import UnitPrice
from reserved_capacity.ledger_ports import PAGE, Entry


class FakeLots:
    """What it needs of the rest of the books is declared here and made there."""

    _entries: list[Entry]
    _numbers: dict[str, int]

    def __init__(self) -> None:
        self._lots: dict[str, Lot] = {}
        self._unit_prices: dict[tuple[Any, ...], UnitPrice] = {}

    def _answer(self) -> None:
        raise NotImplementedError

    def _seen(self, moment: datetime) -> datetime:
        raise NotImplementedError

    def _sums(self, own: Sequence[Transaction]) -> Posted:
        raise NotImplementedError

    async def lots(self, *, account: str | None = None, reservation: ReservationName | None = None) -> tuple[Lot, ...]:
        self._answer()
        return tuple(
            lot
            for _, lot in sorted(self._lots.items())
            if (account is None or lot.account == account) and (reservation is None or lot.reservation == reservation)
        )

    async def endless_reservations(self) -> tuple[ReservationName, ...]:
        self._answer()
        return tuple(sorted({lot.reservation for lot in self._lots.values() if lot.ends_on is None}))

    async def register_lots(self, given: Sequence[Lot]) -> tuple[Lot, ...]:
        self._answer()
        for lot in given:
            self._numbers.setdefault(lot.account, 0)
            there = self._lots.setdefault(lot.id, replace(lot, cuts=()))
            known = {cut.number for cut in there.cuts}
            days = [row.day for row in self._rows(lot.id)]
            earliest = max(days) + timedelta(days=1) if days else date.min
            fresh = [replace(cut, at=max(cut.at, earliest)) for cut in lot.cuts if cut.number not in known]
            self._lots[lot.id] = replace(
                there,
                billing_start=there.billing_start or lot.billing_start,
                cuts=tuple(sorted((*there.cuts, *fresh), key=lambda cut: cut.number)),
            )
        return tuple(self._lots[lot.id] for lot in given)

    async def record_unit_prices(self, prices: Sequence[UnitPrice]) -> None:
        self._answer()
        for each in prices:
            key = (each.price_book, each.offering, each.direction, each.effective_from, each.per_unit_day)
            self._unit_prices.setdefault(key, replace(each, seen_at=self._seen(each.seen_at)))

    async def unit_prices(self, price_book: str) -> tuple[UnitPrice, ...]:
        self._answer()
        found = (each for each in self._unit_prices.values() if each.price_book == price_book)
        return tuple(sorted(found, key=lambda each: (each.offering, each.direction, each.effective_from, each.seen_at)))

    async def due_lots(self, today: date, *, after: str = "", limit: int = PAGE) -> tuple[DueLot, ...]:
        self._answer()
        due = []
        for name, lot in sorted(self._lots.items()):
            through = max((row.day for row in self._rows(name)), default=None)
            if name > after and charged_days(lot, through, today):
                due.append(DueLot(lot, through))
        return tuple(due[:limit])

    async def posted_lots(self, names: Sequence[str]) -> tuple[PostedLot, ...]:
        self._answer()
        found = [self._lots[name] for name in names if name in self._lots]
        own = {
            lot.id: [each.transaction for each in self._entries if each.transaction.contract == lot.id] for lot in found
        }
        return tuple(PostedLot(lot, self._sums(own[lot.id])) for lot in found)

    def _rows(self, lot: str) -> list[Transaction]:
        rows = (each.transaction for each in self._entries)
        return [row for row in rows if row.contract == lot and row.kind is EntryKind.CHARGE]

"""Owns how commands read lots of token units from the books: their audit, and their rows in FOCUS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reserved_capacity.domain.billing.audit import Finding
from reserved_capacity.domain.billing.focus import Row
from reserved_capacity.domain.billing.ledger import Transaction
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.tokens.charges import audit_lot
from reserved_capacity.domain.tokens.lot_focus import FocusLot, lot_focus_row
from reserved_capacity.domain.tokens.lots import Lot
from reserved_capacity.domain.tokens.prices import UnitPrices
from reserved_capacity.ledger_ports import Ledger


@dataclass(frozen=True, slots=True)
class LotBooks:
    """The lots of an account by id, and the list prices of units by price book."""

    lots: Mapping[str, Lot]
    prices: Mapping[str, UnitPrices]

    @classmethod
    async def read(cls, ledger: Ledger, account: str) -> LotBooks:
        lots = await ledger.lots(account=account)
        books = sorted({lot.price_book for lot in lots})
        return cls({lot.id: lot for lot in lots}, {book: UnitPrices(await ledger.unit_prices(book)) for book in books})

    def focus_rows(self, row: Transaction, month: Month, invoice: str | None, provider: str) -> Sequence[Row]:
        lot = self.lots.get(row.contract)
        if lot is None:
            return ()
        listed = self.prices[lot.price_book].listed(lot, row.day)
        charge = FocusLot(lot, row, month, lot.ordered_price if listed is None else listed, invoice)
        return (lot_focus_row(charge, provider=provider),)

    async def findings(self, ledger: Ledger) -> tuple[Finding, ...]:
        """What an audit of the whole lots finds, up to the last day that any of their rows has."""
        found: list[Finding] = []
        for lot in self.lots.values():
            rows = [each.transaction async for each in ledger.entries(contract=lot.id)]
            if rows:
                through = max(row.day for row in rows)
                found += audit_lot(lot, self.prices[lot.price_book], rows, through=through)
        return tuple(found)

"""Rows of lots in the columns of FOCUS 1.2 (behaviour.md M6; ADR 0043).

A lot is a standard charge with a price list: so many units for a day. Who used how much of what it entitles to is known to
the gateway and not to the books, so it is no commitment discount with a used and an unused part.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from reserved_capacity.domain.billing.focus import COLUMNS, Row, completed, exact_product, origin_of
from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.money import format_minor, format_price
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.tokens.lots import Lot

_COUNTED_IN: Final = "Token Unit-Days"


@dataclass(frozen=True, slots=True)
class FocusLot:
    """A row of a lot with what its FOCUS row is made from; as `billing.focus.FocusCharge`."""

    lot: Lot
    row: Transaction
    month: Month
    list_price: Decimal
    invoice: str | None = None


def lot_focus_row(charge: FocusLot, *, provider: str) -> Row:
    lot, row = charge.lot, charge.row
    amount = format_minor(row.amount_minor, row.currency)
    what: dict[str, str | None] = {
        **origin_of(row, charge.month, charge.invoice, provider),
        "SubAccountId": lot.reservation.namespace,
        "SubAccountName": lot.reservation.namespace,
        "BilledCost": amount,
        "EffectiveCost": amount,
        "ResourceId": lot.id,
        "ResourceName": str(lot.reservation),
        "ResourceType": "TokenUnitReservation",
        "SkuId": f"token-unit-{lot.offering}-{lot.direction}",
        "SkuMeter": f"{lot.direction} Token Units",
        "SkuPriceId": f"token-unit-{lot.offering}-{lot.direction}",
        "SkuPriceDetails": f'{{"x_Offering": "{lot.offering}", "x_Direction": "{lot.direction}"}}',
    }
    what |= _charge(charge) if row.kind is EntryKind.CHARGE else _credit(row, amount)
    return completed({**dict.fromkeys(COLUMNS), **what})


def _charge(charge: FocusLot) -> Row:
    row, units = charge.row, Decimal(charge.row.token_units)
    agreed = Decimal(row.price)
    quantity = str(row.token_units)
    return {
        "ChargePeriodEnd": f"{row.day + timedelta(days=1)}T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Recurring",
        "PricingCategory": "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": _COUNTED_IN,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": _COUNTED_IN,
        "ListUnitPrice": format_price(charge.list_price, row.currency),
        "ContractedUnitPrice": format_price(agreed, row.currency),
        "ListCost": exact_product(units, charge.list_price),
        "ContractedCost": exact_product(units, agreed),
    }


def _credit(row: Transaction, amount: str) -> Row:
    return {
        "ChargeCategory": "Adjustment" if row.kind is EntryKind.CORRECTION else "Credit",
        "ChargeFrequency": "One-Time",
        "ListCost": amount,
        "ContractedCost": amount,
    }

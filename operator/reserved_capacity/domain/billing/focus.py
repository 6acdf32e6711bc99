"""The books in the columns of FOCUS 1.2, the FinOps Foundation's format for cost and usage data (behaviour.md M6; ADR 0022).

A contract is a commitment discount and a capacity reservation in one. FOCUS tells what is billed apart from what is used: a
purchase is billed and has no effective cost, the use of what was bought has an effective cost and is not billed. So a charge
of a Monthly contract becomes a Purchase of that day and its Usage, Used by each ModelInstance and Unused; a Prepayment is one
Purchase, and its charges are Usage alone. Over a contract the effective cost of its Usage is what its Purchases were billed,
less its credits; over an invoice the billed cost is what it asks for.

Rows are values: texts by column, None for null. Whoever writes them into a file takes care of what that file needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from typing import Final

from reserved_capacity.domain.billing.contracts import Contract, Payment
from reserved_capacity.domain.billing.intervals import DAY_MOMENTS
from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.domain.billing.money import format_minor, format_price
from reserved_capacity.domain.billing.months import Month
from reserved_capacity.domain.billing.usage import split_charge
from reserved_capacity.domain.terms import start_of

Row = Mapping[str, str | None]

COLUMNS: Final = (
    "BillingAccountId", "BillingAccountName", "SubAccountId", "SubAccountName",
    "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd",
    "ProviderName", "PublisherName", "InvoiceIssuerName", "InvoiceId",
    "ServiceCategory", "ServiceSubcategory", "ServiceName",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency",
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "BillingCurrency",
    "PricingCurrency", "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice",
    "PricingCategory", "PricingQuantity", "PricingUnit", "ListUnitPrice", "ContractedUnitPrice",
    "ConsumedQuantity", "ConsumedUnit",
    "SkuId", "SkuMeter", "SkuPriceId", "SkuPriceDetails",
    "ResourceId", "ResourceName", "ResourceType",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit",
    "CapacityReservationId", "CapacityReservationStatus",
    "x_LedgerKey", "x_Pool",
)  # fmt: skip
"""All that the specification asks of a provider with commitment discounts, capacity reservations, published and negotiated
prices and sub-accounts, and two of our own: the ledger's key of a row and the pool."""

_PRICED_IN: Final = "CU-Months"
"""As in the price book. A day is months / days of the term."""
_COUNTED_IN: Final = "CU-Hours"
_MONTH_PLACES: Final = 10
_HOUR_PLACES: Final = 6
_EXACT: Final = Context(prec=80)


@dataclass(frozen=True, slots=True)
class FocusCharge:
    """A row of the ledger with what its FOCUS rows are made from.

    `month` is the billing period in which it is invoiced, `invoice` the number of that invoice once it is made; `list_price`
    the list price on the row's day; `held` the CU x MOMENT of the contract that each ModelInstance held on that day.
    """

    contract: Contract
    row: Transaction
    month: Month
    list_price: Decimal
    invoice: str | None = None
    held: Mapping[str, int] = field(default_factory=dict)


def focus_rows(charge: FocusCharge, *, provider: str) -> tuple[Row, ...]:
    """The FOCUS rows of one row of the ledger. `provider` is the name of who sells, and invoices."""
    kind = charge.row.kind
    if kind is EntryKind.CHARGE:
        parts = tuple(_charge(charge))
    elif kind is EntryKind.PREPAYMENT:
        parts = (_prepayment(charge),)
    else:
        parts = (_credit(charge),)
    origin = {
        **dict.fromkeys(COLUMNS),
        **origin_of(charge.row, charge.month, charge.invoice, provider),
        "SubAccountId": charge.contract.namespace,
        "SubAccountName": charge.contract.namespace,
        "x_Pool": charge.contract.pool,
        **_what(charge),
    }
    return tuple(completed({**origin, **part}) for part in parts)


def completed(row: dict[str, str | None]) -> Row:
    """Prices are in the billing currency; a correction of a month that was invoiced has no committed quantity."""
    row["PricingCurrency"] = row["BillingCurrency"]
    row["PricingCurrencyEffectiveCost"] = row["EffectiveCost"]
    row["PricingCurrencyListUnitPrice"] = row["ListUnitPrice"]
    row["PricingCurrencyContractedUnitPrice"] = row["ContractedUnitPrice"]
    if row["ChargeClass"] is not None:
        row["CommitmentDiscountQuantity"] = row["CommitmentDiscountUnit"] = None
    return row


def origin_of(row: Transaction, month: Month, invoice: str | None, provider: str) -> Row:
    """What every row of the ledger says alike: who is billed by whom, when, and for which row."""
    return {
        "BillingAccountId": row.account,
        "BillingAccountName": row.account,
        "BillingPeriodStart": _moment(month.start),
        "BillingPeriodEnd": _moment(month.end),
        "ChargePeriodStart": _moment(row.day),
        "ChargePeriodEnd": _moment(row.day + timedelta(days=1)),
        "ProviderName": provider,
        "PublisherName": provider,
        "InvoiceIssuerName": provider,
        "InvoiceId": invoice,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "Reserved Capacity",
        "ChargeClass": "Correction" if row.day < month.start else None,
        "ChargeDescription": f"{row.contract}: {row.note}" if row.note else row.contract,
        "BillingCurrency": row.currency,
        "x_LedgerKey": row.key,
    }


def _what(charge: FocusCharge) -> Row:
    """The contract as commitment discount and capacity reservation, and the article that it buys."""
    contract = charge.contract
    return {
        "SkuId": "compute-unit",
        "SkuMeter": "Compute Units",
        "SkuPriceId": f"compute-unit-{contract.term}",
        "SkuPriceDetails": f'{{"x_Term": "{contract.term}"}}',
        "ResourceId": contract.commitment,
        "ResourceName": contract.commitment,
        "ResourceType": "Commitment",
        "CommitmentDiscountCategory": "Usage",
        "CommitmentDiscountId": contract.commitment,
        "CommitmentDiscountName": contract.commitment,
        "CommitmentDiscountType": f"Reserved compute units, {contract.term}",
        "CapacityReservationId": contract.commitment,
    }


def _charge(charge: FocusCharge) -> Iterator[Row]:
    row = charge.row
    day = row.compute_units * DAY_MOMENTS
    if charge.contract.payment is not Payment.ANNUAL_PREPAID:
        yield {**_purchase(row, "Recurring"), **_quantities(charge, day)}
    split = split_charge(row.amount_minor, row.compute_units, charge.held)
    for use in split.used:
        yield {
            **_usage(charge, use.minor, use.held, "Used"),
            "ConsumedQuantity": _hours(use.held),
            "ConsumedUnit": _COUNTED_IN,
            "ResourceId": f"{charge.contract.namespace}/{use.owner}",
            "ResourceName": use.owner,
            "ResourceType": "ModelInstance",
        }
    if split.idle:
        yield _usage(charge, split.unused_minor, split.idle, "Unused")


def _usage(charge: FocusCharge, minor: int, moments: int, status: str) -> Row:
    """What was bought before is used, or not: billed with the purchase, so only its effective cost counts here."""
    currency = charge.row.currency
    return {
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based" if status == "Used" else "Recurring",
        "PricingCategory": "Committed",
        "BilledCost": format_minor(0, currency),
        "EffectiveCost": format_minor(minor, currency),
        "CommitmentDiscountStatus": status,
        "CapacityReservationStatus": status,
        **_quantities(charge, moments),
    }


def _purchase(row: Transaction, frequency: str) -> Row:
    return {
        "ChargeCategory": "Purchase",
        "ChargeFrequency": frequency,
        "PricingCategory": "Standard",
        "BilledCost": format_minor(row.amount_minor, row.currency),
        "EffectiveCost": format_minor(0, row.currency),
    }


def _prepayment(charge: FocusCharge) -> Row:
    contract, row = charge.contract, charge.row
    start, end = contract.billing_start or row.day, contract.end or row.day
    return {
        **_purchase(row, "One-Time"),
        "ChargePeriodStart": _moment(start),
        "ChargePeriodEnd": _moment(end),
        **_quantities(charge, row.compute_units * DAY_MOMENTS * contract.term.days),
    }


def _credit(charge: FocusCharge) -> Row:
    """What was given back, or put right.

    A PriceCredit lowers a Prepayment, which has no effective cost, so it has none either: what it saves shows in the charges
    that follow. Any other credit is for what was charged and used.
    """
    row = charge.row
    amount = format_minor(row.amount_minor, row.currency)
    effective = 0 if row.kind is EntryKind.PRICE_CREDIT else row.amount_minor
    return {
        "ChargeCategory": "Adjustment" if row.kind is EntryKind.CORRECTION else "Credit",
        "ChargeFrequency": "One-Time",
        "BilledCost": amount,
        "EffectiveCost": format_minor(effective, row.currency),
        "ListCost": amount,
        "ContractedCost": amount,
    }


def _quantities(charge: FocusCharge, moments: int) -> Row:
    """Quantity, unit prices as in the price book and as agreed, and their products, which are exact."""
    contract, row = charge.contract, charge.row
    months = _scaled(moments * contract.term.months, DAY_MOMENTS * contract.term.days, _MONTH_PLACES)
    agreed = Decimal(row.price)
    return {
        "PricingQuantity": _text(months),
        "PricingUnit": _PRICED_IN,
        "ListUnitPrice": format_price(charge.list_price, row.currency),
        "ContractedUnitPrice": format_price(agreed, row.currency),
        "ListCost": _text(_EXACT.multiply(months, charge.list_price)),
        "ContractedCost": _text(_EXACT.multiply(months, agreed)),
        "CommitmentDiscountQuantity": _hours(moments),
        "CommitmentDiscountUnit": _COUNTED_IN,
    }


def exact_product(quantity: Decimal, price: Decimal) -> str:
    return _text(_EXACT.multiply(quantity, price))


def _hours(moments: int) -> str:
    return _text(_scaled(moments * 24, DAY_MOMENTS, _HOUR_PLACES))


def _scaled(numerator: int, denominator: int, places: int) -> Decimal:
    """The quotient, rounded half up to so many places."""
    return Decimal((2 * numerator * 10**places + denominator) // (2 * denominator)).scaleb(-places, _EXACT)


def _text(number: Decimal) -> str:
    """Without an exponent, without zeros at the end."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(day: date) -> str:
    return _iso(start_of(day))


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"

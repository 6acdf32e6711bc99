"""PriceBook: effective-dated prices and SLA terms. Entries are append-only."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from reserved_capacity.api import meta
from reserved_capacity.api.base import AGE, ApiModel, ApiObject, Column, ListMap, Rule, condition_column, immutable
from reserved_capacity.api.conditions import StatusModel
from reserved_capacity.api.fields import Count, Currency, Day, Money, OfferingName, Percent
from reserved_capacity.domain.terms import Term
from reserved_capacity.domain.tokens.lots import Direction

MAX_COMPUTE_UNIT_PRICES: Final = 200
MAX_TOKEN_UNIT_PRICES: Final = 400

_APPEND: Final = "append an entry with a later effectiveFrom instead"


class ComputeUnitPrice(ApiModel):
    """List price of a compute unit for one term, from a day on."""

    term: Term
    """Term of the commitment: ThreeMonths (90 days) or OneYear (365 days)."""
    effective_from: Day
    """UTC day from which the price is in force, at 00:00."""
    price_per_compute_unit_month: Annotated[
        Money, immutable("spec.computeUnits[].pricePerComputeUnitMonth", f"prices are append-only; {_APPEND}")
    ]
    """Price of one compute unit for one month, a decimal string in spec.currency. Three or twelve months make the term's
    total. Immutable: append an entry with a later effectiveFrom."""


class TokenUnitPrice(ApiModel):
    """List price of a token unit of one offering and direction, from a day on."""

    offering: OfferingName
    """Name of the ModelOffering."""
    direction: Direction
    """Input or Output."""
    effective_from: Day
    """UTC day from which the price is in force, at 00:00."""
    price_per_unit_day: Annotated[
        Money, immutable("spec.tokenUnits[].pricePerUnitDay", f"prices are append-only; {_APPEND}")
    ]
    """Price of one unit for one day, a decimal string in spec.currency. Immutable: append an entry with a later
    effectiveFrom."""


class CreditTier(ApiModel):
    """Credit for a month in which the measured value is below a threshold."""

    below: Percent
    """Threshold in percent, a decimal string, for example "99.5"."""
    percent: Percent
    """Credit in percent of the month's charges, a decimal string. The lowest threshold that applies decides."""


CreditTiers = Annotated[tuple[CreditTier, ...], ListMap("below"), Field(max_length=16)]


class ReservedServiceLevel(ApiModel):
    """Service level of reserved instances."""

    uptime: Percent
    """Uptime promised per calendar month in percent, a decimal string, for example "99.5"."""
    uptime_credits: CreditTiers = ()
    """Credits for months below the promise."""


class TokenServiceLevel(ApiModel):
    """Service level of token units; the greater of the two credits is given."""

    uptime: Percent
    """Uptime promised per calendar month in percent, a decimal string, for example "99.9"."""
    uptime_credits: CreditTiers = ()
    """Credits for months whose uptime is below the promise."""
    latency_credits: CreditTiers = ()
    """Credits for months whose share of fast requests is below the offering's promise."""


class ServiceLevels(ApiModel):
    """What is promised, and credited when it is missed."""

    reserved_instances: ReservedServiceLevel | None = None
    """Service level of reserved instances. Absent: none is promised."""
    token_units: TokenServiceLevel | None = None
    """Service level of token units. Absent: none is promised."""


def _append_only(field: str) -> Rule:
    # `in`, not `exists` on the keys. The API server estimates a rule's cost when the CRD is made and measures it again at
    # every update: `exists` passes the estimate with maxItems 400 and is cancelled from between 350 and 400 entries on,
    # so that a price book could never be changed again. `in` is good for 990 (both tried on 1.36).
    return Rule(
        "oldSelf.all(o, o in self)",
        f"{field} is append-only, an entry cannot be removed, changed or re-dated: put it back as it was, and "
        "append an entry with a later effectiveFrom",
    )


class PriceBookSpec(ApiModel):
    """Prices in one currency."""

    rules: ClassVar = (
        Rule(
            "!has(oldSelf.computeUnits) || oldSelf.computeUnits.size() == 0 || has(self.computeUnits)",
            "spec.computeUnits cannot be removed, prices are append-only: put the entries back",
        ),
        Rule(
            "!has(oldSelf.tokenUnits) || oldSelf.tokenUnits.size() == 0 || has(self.tokenUnits)",
            "spec.tokenUnits cannot be removed, prices are append-only: put the entries back",
        ),
    )

    currency: Annotated[Currency, immutable("spec.currency", "create another PriceBook for another currency")]
    """ISO 4217 code of the currency of all prices, for example USD. Immutable."""
    compute_units: Annotated[
        tuple[ComputeUnitPrice, ...],
        ListMap("term", "effectiveFrom"),
        Field(max_length=MAX_COMPUTE_UNIT_PRICES),
        _append_only("spec.computeUnits"),
    ] = ()
    """Prices of compute units by term and day. Append-only."""
    token_units: Annotated[
        tuple[TokenUnitPrice, ...],
        ListMap("offering", "direction", "effectiveFrom"),
        Field(max_length=MAX_TOKEN_UNIT_PRICES),
        _append_only("spec.tokenUnits"),
    ] = ()
    """Prices of token units by offering, direction and day. Append-only."""
    service_levels: ServiceLevels | None = None
    """What is promised, and credited when it is missed. Absent: nothing."""


class PriceBookStatus(StatusModel):
    """What the operator read."""

    entries: Count = 0
    """Number of prices, of compute units and token units together."""


class PriceBook(ApiObject):
    """Prices with the day from which each is in force, and what is credited when a service level is missed. A negotiated
    price is a PriceBook of its own. Belongs to the provider."""

    info = meta.PRICE_BOOK
    columns = (
        Column("CURRENCY", ".spec.currency", description="Currency of all prices."),
        Column("ENTRIES", ".status.entries", "integer", description="Number of prices."),
        condition_column("VALID", "Valid"),
        AGE,
    )

    kind: Literal["PriceBook"] = "PriceBook"
    spec: PriceBookSpec
    """Prices and service levels."""
    status: PriceBookStatus = PriceBookStatus()
    """What the operator read. Written by the operator only."""

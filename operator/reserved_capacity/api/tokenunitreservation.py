"""TokenUnitReservation: tokens per minute of one snapshot, bought in units."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from reserved_capacity.api import meta
from reserved_capacity.api.base import AGE, ApiModel, ApiObject, Column, ListMap, Rule, condition_column, immutable
from reserved_capacity.api.conditions import StatusModel
from reserved_capacity.api.fields import (
    ComputeUnits,
    Count,
    Long,
    Money,
    Month,
    OfferingName,
    Percent,
    Ratio,
    Subdomain,
    Text,
    Timestamp,
    Token,
    TokensPerMinute,
    Word,
)
from reserved_capacity.domain.tokens.limits import Enforcement, Overflow
from reserved_capacity.domain.tokens.lots import Direction

MAX_LOTS: Final = 500
_NEW_RESERVATION: Final = "create another TokenUnitReservation"


class Units(ApiModel):
    """Token units bought, by direction."""

    rules: ClassVar = (
        Rule(
            "self.input > 0 || self.output > 0",
            "spec.units: at least one of input and output must be above 0; to end the reservation delete it",
        ),
    )

    input: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Input units, an integer of at least 0. Default: 0."""
    output: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Output units, an integer of at least 0. Default: 0."""


class TokenUnitReservationSpec(ApiModel):
    """An order for token units."""

    account: Annotated[Token, immutable("spec.account", f"{_NEW_RESERVATION} for the other account")]
    """Billing subject: who is charged, and whose rate limit grows. Immutable."""
    price_book_ref: Annotated[Subdomain, immutable("spec.priceBookRef", _NEW_RESERVATION)]
    """Name of the PriceBook whose prices hold. Immutable."""
    offering: Annotated[OfferingName, immutable("spec.offering", f"{_NEW_RESERVATION} for the other model")]
    """Name of the ModelOffering. Immutable."""
    snapshot: Token
    """Exact name of one of the offering's snapshots. Never defaulted. A change takes no new lots: they move when the other
    snapshot's fleet carries them."""
    units: Units
    """Token units. More makes a new lot at once; fewer takes the oldest lots whose minimum term is over."""
    overflow: Overflow = Overflow.SPILL
    """Traffic above the units. Spill: it uses the account's base rate limit. Reject: it gets 429 with Retry-After, and the
    base is not touched. Default: Spill."""
    enforcement: Enforcement = Enforcement.ENFORCE
    """Enforce: the gateway acts on the limit. Shadow: it only counts. Default: Enforce."""


class TokenRate(ApiModel):
    """Tokens per minute by direction."""

    input_tokens_per_minute: TokensPerMinute = 0
    """Input tokens per minute."""
    output_tokens_per_minute: TokensPerMinute = 0
    """Output tokens per minute."""


class RateLimit(ApiModel):
    """How the account's rate limit is made up: effective = base + added."""

    base: TokenRate = TokenRate()
    """Limit of the account before any purchase."""
    added: TokenRate = TokenRate()
    """What all active reservations of the account add."""
    effective: TokenRate = TokenRate()
    """The sum of both: what the gateway enforces."""
    revision: Long = 0
    """Number of the published revision."""


class Lot(ApiModel):
    """Units bought together."""

    id: Annotated[str, Field(min_length=1, max_length=63)]
    """Id of the lot; the ledger knows it by it."""
    direction: Direction
    """Input or Output."""
    units: Count
    """Units of the lot."""
    tokens_per_minute: TokensPerMinute = 0
    """Tokens per minute that its units entitle to, by the size of a unit when it was bought."""
    purchased_at: Timestamp | None = None
    """When they were bought."""
    billing_start: Timestamp | None = None
    """First charged day, 00:00 UTC: the day after the lot was first backed and published. Absent: not yet, and nothing
    is charged."""
    removable_from: Timestamp | None = None
    """End of the minimum term: billingStart and minimumDays."""
    removable: bool = False
    """Whether units may be removed: the minimum term is over, or has not begun since nothing backs the lot yet. Written
    by the operator, because admission has no clock."""
    ends_at: Timestamp | None = None
    """When the last of its units ends, 00:00 UTC. Absent: no end is known."""
    price_per_unit_day: Money | None = None
    """Price of one unit for one day, a decimal string."""


class Backing(ApiModel):
    """The fleet instance that serves the snapshot."""

    instance: Word | None = None
    """Name of the ModelInstance on the fleet pool."""
    compute_units: ComputeUnits = 0
    """Compute units that this reservation takes of it."""
    verified_at: Timestamp | None = None
    """When this was last checked."""


class TokenUsage(ApiModel):
    """What was used in the last window."""

    window: Word | None = None
    """The window, for example 1h. With its end where it is not measured any more: 1h to 2026-03-01T10:05Z."""
    input_utilization: Ratio | None = None
    """Input tokens used divided by the entitlement, a decimal string. What an account used counts for all its reservations
    of the offering, divided by the sum of their entitlements."""
    output_utilization: Ratio | None = None
    """Output tokens used divided by the entitlement, a decimal string."""
    peak_minute: Timestamp | None = None
    """The busiest minute."""
    spilled_requests: Long = 0
    """Requests of the account above the units that used the base rate limit."""
    rejected_requests: Long = 0
    """Requests of the account that were answered with 429."""


class UptimeLevel(ApiModel):
    """Measured and promised uptime."""

    value: Percent | None = None
    """Measured, in percent, a decimal string."""
    target: Percent | None = None
    """Promised, in percent, a decimal string."""


class LatencyLevel(ApiModel):
    """Measured and promised share of fast requests."""

    value: Percent | None = None
    """Share of the requests that were faster than tokensPerSecond, in percent, a decimal string."""
    target: Percent | None = None
    """Promised share, in percent, a decimal string."""
    tokens_per_second: Count = 0
    """Output tokens per second that a request must exceed."""


class Credit(ApiModel):
    """Credit for a missed service level."""

    amount: Money | None = None
    """Amount of the credit, a decimal string in the price book's currency."""
    basis: Text | None = None
    """Which level was missed, and how the amount follows."""


class MonthLevel(ApiModel):
    """Service level of one month."""

    month: Month | None = None
    """UTC month, YYYY-MM."""
    uptime: UptimeLevel = UptimeLevel()
    """Uptime."""
    latency: LatencyLevel = LatencyLevel()
    """Latency."""
    credit: Credit | None = None
    """Credit that follows. Absent: none."""


class ServiceLevel(MonthLevel):
    """Service level of the current month, and of the last closed one."""

    last_closed_month: MonthLevel | None = None
    """The last month whose credit is posted. Absent: none yet."""


class TokenUnitReservationStatus(StatusModel):
    """What was bought, what it entitles to, and what it delivered."""

    entitlement: TokenRate = TokenRate()
    """Tokens per minute that the active lots entitle to."""
    rate_limit: RateLimit = RateLimit()
    """How the account's rate limit is made up."""
    lots: Annotated[tuple[Lot, ...], ListMap("id"), Field(max_length=MAX_LOTS)] = ()
    """Units by purchase. While one is not removable, the reservation cannot be deleted."""
    lots_total: Count = 0
    """Number of lots."""
    backing: Backing | None = None
    """The fleet instance that serves the snapshot. Absent: none yet."""
    usage: TokenUsage | None = None
    """What was used in the last window. Absent: not measured."""
    service_level: ServiceLevel | None = None
    """Service level of the current month. Absent: not measured."""


class TokenUnitReservation(ApiObject):
    """Tokens per minute of one snapshot, bought in input and output units for at least the offering's minimum term and
    added to the account's rate limit."""

    info = meta.TOKEN_UNIT_RESERVATION
    selectable = (".spec.account", ".spec.offering", ".spec.snapshot")
    columns = (
        Column("OFFERING", ".spec.offering", description="The model."),
        Column("SNAPSHOT", ".spec.snapshot", description="The snapshot."),
        Column("IN-UNITS", ".spec.units.input", "integer", description="Input units."),
        Column("OUT-UNITS", ".spec.units.output", "integer", description="Output units."),
        Column("IN-TPM", ".status.entitlement.inputTokensPerMinute", "integer", description="Input tokens per minute."),
        Column(
            "OUT-TPM", ".status.entitlement.outputTokensPerMinute", "integer", description="Output tokens per minute."
        ),
        Column("IN-UTIL", ".status.usage.inputUtilization", description="Input tokens used per token entitled to."),
        Column("OUT-UTIL", ".status.usage.outputUtilization", description="Output tokens used per token entitled to."),
        condition_column("SLA", "ServiceLevelMet"),
        condition_column("READY", "Ready"),
        AGE,
    )

    kind: Literal["TokenUnitReservation"] = "TokenUnitReservation"
    spec: TokenUnitReservationSpec
    """What is ordered."""
    status: TokenUnitReservationStatus = TokenUnitReservationStatus()
    """What it entitles to and delivered. Written by the operator only."""

"""The status of a TokenUnitReservation: its lots, what they entitle to, and the limit that counts (api.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.api.tokenunitreservation import (
    MAX_LOTS,
    Backing,
    RateLimit,
    TokenRate,
    TokenUnitReservation,
    TokenUnitReservationStatus,
    TokenUsage,
)
from reserved_capacity.api.tokenunitreservation import Lot as LotStatus
from reserved_capacity.domain.billing import audit
from reserved_capacity.domain.billing.billing_conditions import BillingState, billing_current
from reserved_capacity.domain.billing.money import shown_price
from reserved_capacity.domain.conditions import ConditionValue, condition
from reserved_capacity.domain.reasons.tokens import CapacityBacked, LimitPublished
from reserved_capacity.domain.snapshot_supported import PinnedSnapshot
from reserved_capacity.domain.terms import start_of
from reserved_capacity.domain.tokens import entitlement as domain
from reserved_capacity.domain.tokens.lots import Lot, ReservationName, day_of
from reserved_capacity.domain.tokens.orders import Kept, kept_units
from reserved_capacity.domain.tokens.orders import next_change as next_lot_change
from reserved_capacity.domain.tokens.prices import UnitPrices, price_on
from reserved_capacity.domain.tokens.token_conditions import (
    TokenRefusal,
    ready,
    tokens_accepted,
)
from reserved_capacity.gateway.usage import Usage
from reserved_capacity.reconcilers.billing.pool_status import balanced
from reserved_capacity.reconcilers.context import condition_list
from reserved_capacity.reconcilers.pinned import snapshot_conditions
from reserved_capacity.reconcilers.tokens.board import Finding
from reserved_capacity.snapshot import pinned_snapshot
from reserved_capacity.snapshot.tokens import claim_id


@dataclass(frozen=True, slots=True)
class ReservationReport:
    """What one pass found out. `lots` None: the books cannot be read, and the status keeps what it says of them.
    `finding` None: the offering was not planned yet; `usage` None: nothing new was measured; `findings` None: the books were
    not audited yet."""

    reservation: TokenUnitReservation
    offering: ModelOffering | None
    lots: tuple[Lot, ...] | None
    prices: UnitPrices
    finding: Finding | None
    refusal: TokenRefusal | None
    state: BillingState
    usage: Usage | None = None
    findings: tuple[audit.Finding, ...] | None = None

    @property
    def pinned(self) -> PinnedSnapshot | None:
        return pinned_snapshot(self.offering, self.reservation.spec.snapshot)


def status_of(report: ReservationReport, now: datetime) -> TokenUnitReservationStatus:
    before, today = report.reservation.status, day_of(now)
    kept: tuple[Kept, ...] = ()
    if report.lots is None:
        lots, entitled = before.lots, before.entitlement
    else:
        running = [lot for lot in report.lots if lot.units_on(today)]
        lots = tuple(_lot(lot, report.prices, now) for lot in running)[:MAX_LOTS]
        begun = (lot for lot in running if lot.billing_start is not None)
        entitled = _rate(domain.entitlement_of(begun, today))
        kept = kept_units(report.lots, now)
    summary = (
        f"{entitled.input_tokens_per_minute} input and {entitled.output_tokens_per_minute} output tokens per minute"
    )
    accepted = tokens_accepted(report.refusal, kept)
    own = (accepted, *_findings(report, lots, today))
    # Neither billing nor a snapshot's dates make Ready False, nor does a reduction that waits: what was bought serves.
    conditions = (
        *own,
        *snapshot_conditions(report.pinned, now),
        billing_current(report.state, now=now),
        *balanced(report.findings, before.conditions),
        ready(own, f"entitled to {summary}"),
    )
    generation = report.reservation.metadata.generation
    return TokenUnitReservationStatus(
        observed_generation=generation,
        summary=f"entitled to {summary}" if accepted.status == "True" else accepted.message[:1024],
        entitlement=entitled,
        rate_limit=_rate_limit(report.finding) if report.finding is not None else before.rate_limit,
        lots=lots,
        lots_total=len(lots),
        backing=_backing(report, now),
        usage=_usage(report.usage) if report.usage is not None else before.usage,
        service_level=before.service_level,
        conditions=condition_list(before, conditions, generation=generation, now=now),
    )


def _findings(report: ReservationReport, lots: tuple[LotStatus, ...], today: date) -> tuple[ConditionValue, ...]:
    if report.finding is not None and _is_weighed(report, report.finding, today):
        return (report.finding.backed, report.finding.published)
    if report.offering is None or report.offering.spec.token_units is None:
        return ()  # there is nothing to back, and nowhere to publish it
    if report.finding is None and (told := _told_before(report, lots)):
        return told
    return (
        condition("CapacityBacked", CapacityBacked.FLEET_STARTING, "not weighed against the provider's fleet yet"),
        condition("LimitPublished", LimitPublished.PUBLISHING, "not weighed against the provider's fleet yet"),
    )


def _told_before(report: ReservationReport, lots: tuple[LotStatus, ...]) -> tuple[ConditionValue, ...]:
    """What was found of this spec and of these lots stands after a start, until the offering has been planned again."""
    metadata, before = report.reservation.metadata, report.reservation.status
    same = before.observed_generation == metadata.generation and _bought(before.lots) == _bought(lots)
    return tuple(
        ConditionValue(each.type, each.status, each.reason, each.message)
        for each in before.conditions
        if same and each.type in ("CapacityBacked", "LimitPublished")
    )


def _bought(lots: tuple[LotStatus, ...]) -> list[tuple[str, int]]:
    return [(lot.id, lot.units) for lot in lots]


def _is_weighed(report: ReservationReport, finding: Finding, today: date) -> bool:
    """A finding from before something was bought does not know whether that is backed."""
    name = ReservationName(report.reservation.namespace, report.reservation.name)
    lots = [lot for lot in report.lots or () if lot.units_on(today)]
    return all(claim_id(name, lot.purchased_at) in finding.weighed for lot in lots)


def _lot(lot: Lot, prices: UnitPrices, now: datetime) -> LotStatus:
    today = day_of(now)
    units = lot.units_on(today)
    return LotStatus(
        id=lot.id,
        direction=lot.direction,
        units=units,
        tokens_per_minute=units * lot.unit_tpm,
        purchased_at=lot.purchased_at,
        billing_start=_midnight(lot.billing_start),
        removable_from=_midnight(lot.removable_from),
        removable=lot.is_removable(now),
        ends_at=_midnight(lot.ends_on),
        price_per_unit_day=shown_price(price_on(lot, prices, max(today, lot.billing_start or today)), lot.currency),
    )


def _midnight(day: date | None) -> datetime | None:
    return start_of(day) if day is not None else None


def _rate(rate: domain.TokenRate) -> TokenRate:
    return TokenRate(input_tokens_per_minute=rate.input_tpm, output_tokens_per_minute=rate.output_tpm)


def _rate_limit(finding: Finding) -> RateLimit:
    base, added = finding.account.base, finding.account.added
    return RateLimit(base=_rate(base), added=_rate(added), effective=_rate(base + added), revision=finding.revision)


def _usage(usage: Usage) -> TokenUsage:
    return TokenUsage(
        window=usage.window,
        input_utilization=usage.input_utilization,
        output_utilization=usage.output_utilization,
        peak_minute=usage.peak_minute,
        spilled_requests=usage.spilled_requests,
        rejected_requests=usage.rejected_requests,
    )


def _backing(report: ReservationReport, now: datetime) -> Backing | None:
    """`verifiedAt` moves when what was verified changes, and not each time it is verified: settled means silent."""
    finding, before = report.finding, report.reservation.status.backing
    if finding is None:
        return before
    if finding.backing is None:
        return None
    same = before is not None and (before.instance, before.compute_units) == (
        finding.backing.instance,
        finding.backing.compute_units,
    )
    verified = before.verified_at if same and before is not None else now
    return Backing(instance=finding.backing.instance, compute_units=finding.backing.compute_units, verified_at=verified)


def next_moment(report: ReservationReport, now: datetime) -> datetime | None:
    """When a lot's date changes the status."""
    return _midnight(next_lot_change(report.lots or (), now))

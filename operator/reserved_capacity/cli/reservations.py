"""A TokenUnitReservation as it is shown: what was bought, what it adds to the limit, what is used, and its lots. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from reserved_capacity.api.tokenunitreservation import TokenUnitReservation
from reserved_capacity.cli.findings import Verdict, verdict_of
from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.ports import JsonObject
from reserved_capacity.snapshot.tokens import rate_of


@dataclass(frozen=True, slots=True)
class LotView:
    """Units bought together. `ends_at` None: it goes on."""

    id: str
    direction: str
    units: int
    tokens_per_minute: int
    price_per_unit_day: str
    purchased_at: datetime | None
    billing_start: datetime | None
    removable_from: datetime | None
    removable: bool
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class UsageView:
    """What was used in the last window; shares of the entitlement as decimal strings, empty where not measured."""

    window: str
    input_utilization: str
    output_utilization: str
    peak_minute: datetime | None
    spilled_requests: int
    rejected_requests: int


@dataclass(frozen=True, slots=True)
class ReservationView:
    """`base` and `effective` are the whole account's limit, `added` what all its reservations add to it. `usage` None: not
    measured. `fleet` is the instance that carries it, with the CU that it takes of it."""

    namespace: str
    name: str
    account: str
    offering: str
    snapshot: str
    input_units: int
    output_units: int
    overflow: str
    enforcement: str
    entitlement: TokenRate
    base: TokenRate
    added: TokenRate
    effective: TokenRate
    revision: int
    usage: UsageView | None
    lots: tuple[LotView, ...]
    lots_total: int
    fleet: str
    fleet_cu: int
    verdict: Verdict


def reservation_view(obj: JsonObject) -> ReservationView:
    return view_of(TokenUnitReservation.parse(obj))


def view_of(reservation: TokenUnitReservation) -> ReservationView:
    spec, status = reservation.spec, reservation.status
    limit, backing = status.rate_limit, status.backing
    return ReservationView(
        namespace=reservation.namespace,
        name=reservation.name,
        account=spec.account,
        offering=spec.offering,
        snapshot=spec.snapshot,
        input_units=spec.units.input,
        output_units=spec.units.output,
        overflow=spec.overflow.value,
        enforcement=spec.enforcement.value,
        entitlement=rate_of(status.entitlement),
        base=rate_of(limit.base),
        added=rate_of(limit.added),
        effective=rate_of(limit.effective),
        revision=limit.revision,
        usage=_usage(reservation),
        lots=_lots(reservation),
        lots_total=status.lots_total,
        fleet=(backing.instance or "") if backing else "",
        fleet_cu=backing.compute_units if backing else 0,
        verdict=verdict_of(reservation, status),
    )


def limits_of(seen: ReservationView) -> tuple[tuple[str, TokenRate], ...]:
    """How the account's limit is made up, in words; nothing but the entitlement while no limit is published."""
    if not seen.revision:
        return (("entitled to by these units", seen.entitlement),)
    others = (("added by all its reservations", seen.added),) if seen.added != seen.entitlement else ()
    return (
        ("entitled to by these units", seen.entitlement),
        ("the account's base", seen.base),
        *others,
        ("the account's limit now", seen.effective),
    )


def fleet_words(seen: ReservationView) -> str:
    return f"carried by {seen.fleet} with {seen.fleet_cu} CU" if seen.fleet else "no fleet carries it yet"


def published_words(seen: ReservationView) -> str:
    return f"limit published as revision {seen.revision}" if seen.revision else "no limit published yet"


def _text(number: Decimal | None) -> str:
    return "" if number is None else str(number)


def _usage(reservation: TokenUnitReservation) -> UsageView | None:
    usage = reservation.status.usage
    if usage is None:
        return None
    return UsageView(
        window=usage.window or "",
        input_utilization=_text(usage.input_utilization),
        output_utilization=_text(usage.output_utilization),
        peak_minute=usage.peak_minute,
        spilled_requests=usage.spilled_requests,
        rejected_requests=usage.rejected_requests,
    )


def _lots(reservation: TokenUnitReservation) -> tuple[LotView, ...]:
    return tuple(
        LotView(
            id=lot.id,
            direction=lot.direction.value,
            units=lot.units,
            tokens_per_minute=lot.tokens_per_minute,
            price_per_unit_day=_text(lot.price_per_unit_day),
            purchased_at=lot.purchased_at,
            billing_start=lot.billing_start,
            removable_from=lot.removable_from,
            removable=lot.removable,
            ends_at=lot.ends_at,
        )
        for lot in reservation.status.lots
    )

"""Reservations whose object is gone while their lots still run: what is charged counts until it ends (T2).

The books know until when; what else a gateway has to know of them stands in the limits that were published last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.tokens.backing import Claim
from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.domain.tokens.limits import ActiveUnits, Enforcement, Overflow
from reserved_capacity.domain.tokens.lots import Lot, ReservationName
from reserved_capacity.reconcilers.context import Context
from reserved_capacity.reconcilers.tokens.record import Record
from reserved_capacity.snapshot.tokens import claim_reservation, claims_of_lots


@dataclass(frozen=True, slots=True)
class Leaving:
    """`terms`: account, overflow and enforcement of each, as a gateway is told them."""

    claims: tuple[Claim, ...] = ()
    terms: Mapping[ReservationName, ActiveUnits] = field(default_factory=dict)


async def find(
    context: Context, offering: ModelOffering, read: Record, there: Collection[ReservationName], now: datetime
) -> Leaving:
    """`there`: the reservations that have an object. Raises LedgerError: without the books nobody is left out."""
    lots = [lot for lot in await _lots(context, read, there) if lot.offering == offering.name]
    snapshots = {grant.claim: grant.snapshot for grant in read.grants or ()}
    claims = claims_of_lots(lots, now, lambda claim: snapshots.get(claim, offering.spec.snapshots[0].name))
    published = {unit.reservation: unit for unit in read.units}
    return Leaving(claims, {lot.reservation: published.get(lot.reservation) or _usual(lot) for lot in lots})


async def _lots(context: Context, read: Record, there: Collection[ReservationName]) -> list[Lot]:
    """The books are asked only where somebody counts who is not there; and once after the record was lost."""
    if context.billing is None:
        return []
    ledger = context.billing.ledger
    if read.grants is None:
        return [lot for lot in await ledger.lots() if lot.reservation not in there]
    names = {name for grant in read.grants if (name := claim_reservation(grant.claim)) is not None}
    return [lot for name in sorted(names.difference(there)) for lot in await ledger.lots(reservation=name)]


def _usual(lot: Lot) -> ActiveUnits:
    return ActiveUnits(lot.account, lot.reservation, "", TokenRate(), Overflow.SPILL, Enforcement.ENFORCE)

"""Does the provider's fleet carry what is sold of a snapshot, and how large has it to be? (behaviour.md T4; ADR 0042)

A claim is what a reservation bought together. It counts once it is granted, and it is granted when it and all that was
granted before it fit the instances that serve: throughput is never sold twice. What was granted once stays: it is charged,
and should the fleet fall short later, that is the provider's debt and no reason to take it away. What is small and fits is
not held up by what is large and does not (C5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reserved_capacity.domain.tokens.entitlement import TokenRate, total
from reserved_capacity.domain.tokens.lots import ReservationName


@dataclass(frozen=True, slots=True)
class Claim:
    """`snapshot` is the one that the reservation asks for; `begun`: it is charged already. `order`: when it was bought."""

    id: str
    order: str
    reservation: ReservationName
    snapshot: str
    rate: TokenRate
    begun: bool


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """A claim that counts, and the snapshot whose fleet carries it: the allocation record of an offering."""

    claim: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class SnapshotFleet:
    """What one instance of a snapshot serves, and how many serve now."""

    throughput: TokenRate
    available: int

    @property
    def capacity(self) -> TokenRate:
        return self.throughput.times(self.available)

    def instances_for(self, sold: TokenRate) -> int | None:
        """None: no number of instances is enough."""
        needed = 0
        for tpm, each in (
            (sold.input_tpm, self.throughput.input_tpm),
            (sold.output_tpm, self.throughput.output_tpm),
        ):
            if tpm and not each:
                return None
            needed = max(needed, -(-tpm // each) if tpm else 0)
        return needed

    def share(self, rate: TokenRate, cu_per_instance: int) -> int:
        """The CU of it that a rate needs for itself, rounded up to a whole one."""
        return max(
            -(-tpm * cu_per_instance // each) if each else 0
            for tpm, each in (
                (rate.input_tpm, self.throughput.input_tpm),
                (rate.output_tpm, self.throughput.output_tpm),
            )
        )


NO_FLEET = SnapshotFleet(TokenRate(), 0)


@dataclass(frozen=True, slots=True)
class BackingPlan:
    """`grants` is the record to write. `sold` is what each snapshot's fleet is to carry in the end: what is asked for
    there, and what has not left yet. `overdrawn` are claims that were granted and that the fleet does not carry now."""

    grants: tuple[Grant, ...]
    sold: Mapping[str, TokenRate]
    overdrawn: frozenset[str]

    def snapshot_of(self, claim: Claim) -> str | None:
        return next((grant.snapshot for grant in self.grants if grant.claim == claim.id), None)

    def carries(self, claim: Claim) -> bool:
        """Is it granted on the snapshot that it asks for, and does the fleet serve it?"""
        return self.snapshot_of(claim) == claim.snapshot and claim.id not in self.overdrawn


def plan_backing(
    claims: Iterable[Claim], recorded: Iterable[Grant], fleets: Mapping[str, SnapshotFleet]
) -> BackingPlan:
    """`recorded` are the grants on record. One of a claim that is no more is dropped; what has begun and is not on record
    (which was lost) is granted anew where it asks to be."""
    ordered = sorted(claims, key=lambda claim: (claim.order, claim.id))
    before = {grant.claim: grant for grant in recorded}
    granted = {
        claim.id: before.get(claim.id, Grant(claim.id, claim.snapshot))
        for claim in ordered
        if claim.id in before or claim.begun
    }
    used = _used(ordered, granted)
    for claim in ordered:
        grant = granted.get(claim.id)
        if grant is not None and grant.snapshot == claim.snapshot:
            continue
        taken = used.get(claim.snapshot, TokenRate()) + claim.rate
        if not taken.fits(fleets.get(claim.snapshot, NO_FLEET).capacity):
            continue
        if grant is not None:
            used[grant.snapshot] = used[grant.snapshot] - claim.rate
        used[claim.snapshot] = taken
        granted[claim.id] = replace(grant, snapshot=claim.snapshot) if grant else Grant(claim.id, claim.snapshot)
    return BackingPlan(
        grants=tuple(sorted(granted.values())),
        sold=_sold(ordered, granted),
        overdrawn=_overdrawn(ordered, granted, fleets),
    )


def _used(claims: Sequence[Claim], granted: Mapping[str, Grant]) -> dict[str, TokenRate]:
    used: dict[str, TokenRate] = {}
    for claim in claims:
        if claim.id in granted:
            snapshot = granted[claim.id].snapshot
            used[snapshot] = used.get(snapshot, TokenRate()) + claim.rate
    return used


def _sold(claims: Sequence[Claim], granted: Mapping[str, Grant]) -> Mapping[str, TokenRate]:
    sold: dict[str, TokenRate] = {}
    for claim in claims:
        places = {claim.snapshot, granted[claim.id].snapshot} if claim.id in granted else {claim.snapshot}
        for snapshot in places:
            sold[snapshot] = sold.get(snapshot, TokenRate()) + claim.rate
    return sold


def _overdrawn(
    claims: Sequence[Claim], granted: Mapping[str, Grant], fleets: Mapping[str, SnapshotFleet]
) -> frozenset[str]:
    """In the order of purchase, those that what serves now does not reach."""
    used: dict[str, TokenRate] = {}
    over = set()
    for claim in claims:
        if claim.id not in granted:
            continue
        snapshot = granted[claim.id].snapshot
        taken = used.get(snapshot, TokenRate()) + claim.rate
        if taken.fits(fleets.get(snapshot, NO_FLEET).capacity):
            used[snapshot] = taken
        else:
            over.add(claim.id)
    return frozenset(over)


def fleet_size(fleet: SnapshotFleet, sold: TokenRate, *, minimum: int, most: int) -> int:
    """How many instances to ask for: those that carry what is sold, the offering's minimum at least, and no more than
    the fleet's pool can hold, since it would grow by none of them otherwise."""
    needed = fleet.instances_for(sold) or 0
    return min(max(needed, minimum), most) if needed else 0


def granted_rates(claims: Iterable[Claim], plan: BackingPlan) -> Mapping[tuple[ReservationName, str], TokenRate]:
    """Tokens per minute in force, by reservation and the snapshot that carries them."""
    found: dict[tuple[ReservationName, str], list[TokenRate]] = {}
    for claim in claims:
        snapshot = plan.snapshot_of(claim)
        if snapshot is not None:
            found.setdefault((claim.reservation, snapshot), []).append(claim.rate)
    return {key: total(rates) for key, rates in sorted(found.items())}

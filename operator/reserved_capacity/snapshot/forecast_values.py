"""What a forecast says: of pools, of instances, of what moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from reserved_capacity.domain.changesets import Phase


class MoveAction(StrEnum):
    RELEASE = "Release"
    GRANT = "Grant"


@dataclass(frozen=True, slots=True)
class Move:
    """One member that gives its blocks back, or gets them."""

    action: MoveAction
    namespace: str
    pool: str
    instance: str
    member: str
    compute_units: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Units:
    """CU of a pool; of what is claimed beyond the contract only what is held counts (api.md, identities)."""

    contracted: int = 0
    provisioned: int = 0
    allocated: int = 0
    idle: int = 0
    unhealthy: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """An amount now, and when all has been carried out."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class NodeForecast:
    """CU of a node that are claimed for a pool."""

    name: str
    compute_units: Change


@dataclass(frozen=True, slots=True)
class ChangeSetForecast:
    id: str
    phase: Phase
    message: str


@dataclass(frozen=True, slots=True)
class PoolForecast:
    """`reason` is the one of its condition Ready; `ok` False: its order is refused, or waits for nodes."""

    namespace: str
    name: str
    reason: str
    message: str
    ok: bool
    before: Units
    after: Units
    nodes: tuple[NodeForecast, ...]
    change_sets: tuple[ChangeSetForecast, ...]


@dataclass(frozen=True, slots=True)
class InstanceForecast:
    """`reason` is the one of its condition CapacityReserved; `refused` the one of Accepted, where the spec is refused.
    `ok` False: it is refused, or waits for somebody."""

    namespace: str
    name: str
    pool: str
    offering: str
    desired: int
    held: Change
    compute_units: Change
    reason: str
    message: str
    refused: str | None
    ok: bool


@dataclass(frozen=True, slots=True)
class Purchase:
    """Units that would be bought together. `first_day` is the first UTC day that is charged, the earliest on which the
    units may be gone again `removable_from`; None: nothing backs them, so nothing is charged yet."""

    direction: str
    units: int
    tokens_per_minute: int
    price_per_unit_day: str
    per_day: str
    minimum_days: int
    first_day: date | None
    removable_from: date | None


@dataclass(frozen=True, slots=True)
class Reduction:
    """Units that would be given up: from the UTC day `at` on. `refused`: their minimum term is not over before."""

    direction: str
    units: int
    at: date
    refused: bool


@dataclass(frozen=True, slots=True)
class DayPrice:
    """What all units that count cost a day, as decimal strings."""

    currency: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FleetForecast:
    """The provider's fleet for the snapshot: the CU for all that is sold of it, those that the fleet's pool has for it, and
    what of them these units need for themselves."""

    instance: str
    pool: str
    instances: Change
    need_compute_units: int
    have_compute_units: int
    own_compute_units: int


@dataclass(frozen=True, slots=True)
class ReservationForecast:
    """`reason` is the one of its condition CapacityBacked; `refused` the one of Accepted, where that is False. Rates are
    tokens per minute: of the reservation, and of the account with all that it has of the offering."""

    namespace: str
    name: str
    account: str
    offering: str
    snapshot: str
    input_units: Change
    output_units: Change
    input_tokens_per_minute: Change
    output_tokens_per_minute: Change
    input_limit: Change
    output_limit: Change
    per_day: DayPrice
    purchases: tuple[Purchase, ...]
    reductions: tuple[Reduction, ...]
    fleet: FleetForecast | None
    reason: str
    message: str
    refused: str | None
    ok: bool


@dataclass(frozen=True, slots=True)
class Forecast:
    """`settled` False: the plans still moved when the forecast gave up."""

    pools: tuple[PoolForecast, ...]
    instances: tuple[InstanceForecast, ...]
    reservations: tuple[ReservationForecast, ...]
    moves: tuple[Move, ...]
    settled: bool

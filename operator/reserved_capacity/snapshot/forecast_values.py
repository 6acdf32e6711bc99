"""What a forecast says: of pools, of instances, of what moves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reserved_capacity.domain.changesets import Phase

MAX_ROUNDS = 50  # and two for each step of a change set: a step is started, then done
_Place = tuple[str, str]  # namespace and name


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
class Forecast:
    """`settled` False: the plans still moved when the forecast gave up."""

    pools: tuple[PoolForecast, ...]
    instances: tuple[InstanceForecast, ...]
    moves: tuple[Move, ...]
    settled: bool

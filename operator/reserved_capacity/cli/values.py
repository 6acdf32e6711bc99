"""The status screen as frozen values: what is shown, without how. Amounts are CU unless a name says blocks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from reserved_capacity.cli.findings import Level, Verdict
from reserved_capacity.cli.reservations import ReservationView
from reserved_capacity.cli.rollouts import RolloutView


@dataclass(frozen=True, slots=True)
class Units:
    """provisioned = allocated + idle + unhealthy; `releasing` is part of allocated (or unhealthy)."""

    contracted_cu: int
    provisioned_cu: int
    allocated_cu: int
    idle_cu: int
    unhealthy_cu: int
    releasing_cu: int

    @property
    def missing_cu(self) -> int:
        return max(0, self.contracted_cu - self.provisioned_cu)


@dataclass(frozen=True, slots=True)
class CommitmentView:
    """One order. `state` is empty while it is not accepted; `renewal` is what follows its end."""

    id: str
    compute_units: int
    provisioned_cu: int
    term: str
    state: str
    renewal: str
    provision_by: date
    billing_start: datetime | None
    term_end: datetime | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Blocks that one member holds on one node."""

    member: str
    blocks: int
    releasing: bool


@dataclass(frozen=True, slots=True)
class NodeView:
    """The pool's part of a node. `total_blocks` None: the Node could not be read, or is gone. `trouble` says why it takes
    no new member."""

    name: str
    our_blocks: int
    other_blocks: int
    total_blocks: int | None
    holders: tuple[Holder, ...]
    state: str
    trouble: str

    @property
    def held_blocks(self) -> int:
        return min(self.our_blocks, sum(holder.blocks for holder in self.holders))

    @property
    def idle_blocks(self) -> int:
        return self.our_blocks - self.held_blocks


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member. `trouble` is what its pod says, where it does not serve; `runs` is old, new or given up in a rollout, and
    `place` in whose place it is there."""

    name: str
    phase: str
    nodes: tuple[str, ...]
    snapshot: str
    since: datetime | None
    trouble: str
    runs: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class InstanceView:
    namespace: str
    name: str
    pool: str
    offering: str
    snapshot: str
    priority: int
    created: datetime | None
    desired: int
    held: int
    available: int
    compute_units: int
    phase: str
    endpoint: str
    verdict: Verdict
    members: tuple[MemberView, ...]
    rollout: RolloutView | None = None


@dataclass(frozen=True, slots=True)
class PoolView:
    """`nodes` are at most 100 of `nodes_total`."""

    namespace: str
    name: str
    account: str
    accelerator_class: str
    phase: str
    units: Units
    verdict: Verdict
    commitments: tuple[CommitmentView, ...]
    nodes: tuple[NodeView, ...]
    nodes_total: int
    instances: tuple[InstanceView, ...]


@dataclass(frozen=True, slots=True)
class ClassView:
    name: str
    nodes: int
    ready: int
    cordoned: int
    failed: int
    total_cu: int
    claimed_cu: int
    free_cu: int
    unhealthy_cu: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class StatusView:
    """`namespace` empty: all. `strays` are instances whose pool does not exist. `instance` is the one that was asked for,
    if it was one: then nothing else is on the screen. `warnings` concern the whole screen, `notes` say what is not on it."""

    namespace: str
    now: datetime
    pools: tuple[PoolView, ...]
    strays: tuple[InstanceView, ...]
    reservations: tuple[ReservationView, ...]
    classes: tuple[ClassView, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    instance: InstanceView | None = None

    def asking(self, level: Level) -> tuple[tuple[str, Verdict], ...]:
        """The objects at that level, by name."""
        return tuple((who, verdict) for who, verdict in self.verdicts if verdict.level is level)

    @property
    def verdicts(self) -> tuple[tuple[str, Verdict], ...]:
        """Of each object, as `cup/prod` (`acme/cup/prod` where there are several namespaces)."""

        def name(short: str, namespace: str, own: str) -> str:
            return f"{short}/{own}" if self.namespace or not namespace else f"{namespace}/{short}/{own}"

        instances = [instance for pool in self.pools for instance in pool.instances]
        single = [self.instance] if self.instance is not None else []
        named = [(name("cup", each.namespace, each.name), each.verdict) for each in self.pools]
        named += [(name("mi", each.namespace, each.name), each.verdict) for each in (*instances, *self.strays, *single)]
        named += [(name("tur", each.namespace, each.name), each.verdict) for each in self.reservations]
        named += [(name("acceleratorclass", "", each.name), each.verdict) for each in self.classes]
        return tuple(named)

"""What stops when contracted CU fall: at the end of a term, or by an agreed reduction (behaviour.md M8, C6; ADR 0026).

Nothing is stored. Who stops follows from what is held and from what will be contracted, so a restart, a further
commitment or an edit in the middle of a drain is planned from the same facts as everything else. A fall is a decided
one only: an order that merely shrank, or a record that is lost, stops nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from .holdings import Demand, Holding, HoldingState, PoolState, effective_desired, standing
from .releases import surplus
from .terms import RENEWAL_NOTICE, CommitmentRecord, contracted_at
from .units import blocks_of


@dataclass(frozen=True, slots=True)
class ExpirySettings:
    """`spec.expiry` of a pool. A drain never begins before the end is decided, 30 days ahead."""

    drain_before: timedelta = timedelta(hours=1)
    stop_order: tuple[str, ...] = ()

    @property
    def drain(self) -> timedelta:
        return min(self.drain_before, RENEWAL_NOTICE)


@dataclass(frozen=True, slots=True)
class Fall:
    """From `at` on fewer CU are contracted than before; `ended` are commitments that end then, `reduced` the others."""

    at: datetime
    before_cu: int
    after_cu: int
    ended: tuple[str, ...] = ()
    reduced: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        when = f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        ended = [f"commitment {each} ends at {when}" for each in self.ended]
        return " and ".join([*ended, *(f"commitment {each} is reduced at {when}" for each in self.reduced)])


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is contracted, now and soon.

    `lasting_cu`: what is left when the drain that is under way is over; of what goes nothing is granted any more. `falls`
    are those within 30 days, `draining` the first of them whose drain has begun, `fallen` the last one before now.
    """

    contracted_cu: int = 0
    lasting_cu: int = 0
    falls: tuple[Fall, ...] = ()
    draining: Fall | None = None
    fallen: Fall | None = None
    next_moment: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Instances of one ModelInstance that stop."""

    instance: str
    instances: int


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """What stops because of one fall, in order; draining begins `at`."""

    at: datetime
    fall: Fall
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Drained:
    """`holdings` go into plan_holdings; `plan` None: nothing has to stop."""

    holdings: tuple[Holding, ...]
    plan: ExpiryPlan | None = None


def outlook(records: Sequence[CommitmentRecord], settings: ExpirySettings, *, now: datetime) -> Outlook:
    """`records` as they were planned for `now`."""
    moments = {each.holds_from for record in records for each in record.reductions}
    moments |= {record.ends_at for record in records if record.ends_at is not None}
    ahead = sorted(at for at in moments if at > now)
    past = max((at for at in moments if at <= now), default=None)
    soon = [_fall(records, at) for at in ahead if at <= now + RENEWAL_NOTICE]
    falls = tuple(fall for fall in soon if fall.after_cu < fall.before_cu)
    wakes = [at - before for at in ahead for before in (RENEWAL_NOTICE, settings.drain, timedelta())]
    return Outlook(
        contracted_cu=contracted_at(records, now),
        lasting_cu=contracted_at(records, now + settings.drain),
        falls=falls,
        draining=next((fall for fall in falls if now >= fall.at - settings.drain), None),
        fallen=_fall(records, past) if past is not None else None,
        next_moment=min((at for at in wakes if at > now), default=None),
    )


def _fall(records: Sequence[CommitmentRecord], at: datetime) -> Fall:
    ended = tuple(record.id for record in records if record.ends_at == at)
    reduced = tuple(
        record.id
        for record in records
        if record.id not in ended and any(each.holds_from == at for each in record.reductions)
    )
    just_before = at - timedelta.resolution
    return Fall(at, contracted_at(records, just_before), contracted_at(records, at), ended, reduced)


# ------------------------------------------------------------------------------------------------------------ who stops


@dataclass(frozen=True, slots=True)
class Runner:
    """A ModelInstance that counts for so many instances, each of so many blocks."""

    demand: Demand
    count: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What stops together: one instance, or all that is left of an offering, which cannot run with fewer (C6)."""

    instances: tuple[tuple[str, int], ...]
    offering: str
    blocks: int
    last: bool


def plan_stops(runners: Sequence[Runner], room_blocks: int, stop_order: Sequence[str]) -> tuple[Unit, ...]:
    """The units to stop, in order, so that the rest fits into so many blocks; no more than needed.

    From the last in the order back, whatever fits is kept: so who is named first stops first, and yet stays where that
    would not have helped.
    """
    stopped: list[Unit] = []
    gone: set[str] = set()  # offerings of which nothing is left: a single instance of them is not kept
    for unit in reversed(_units(runners, stop_order)):
        if unit.blocks <= room_blocks and unit.offering not in gone:
            room_blocks -= unit.blocks
            continue
        stopped.append(unit)
        if unit.last:
            gone.add(unit.offering)
    return tuple(reversed(stopped))


def _units(runners: Sequence[Runner], stop_order: Sequence[str]) -> list[Unit]:
    """All that could stop, in order: those that are named, then the reverse of the order of admission (M8, C5).

    An offering's last instances, at its minimum, stop together: where the last of its ModelInstances stands in the order,
    so that none is stopped for the sake of a sibling of less priority.
    """
    named = {name: place for place, name in reversed(list(enumerate(stop_order)))}
    running = [each for each in runners if each.count]
    rest = sorted(running, key=lambda each: each.demand.admission_order, reverse=True)
    ordered = sorted(rest, key=lambda each: named.get(each.demand.instance, len(stop_order)))
    left = Counter[str]()
    for each in ordered:
        left[each.demand.offering] += each.count
    last = {each.demand.offering: each.demand.instance for each in ordered}
    kept = dict[str, list[tuple[Demand, int]]]()
    units: list[Unit] = []
    for each in ordered:
        demand, offering = each.demand, each.demand.offering
        single = min(each.count, max(0, left[offering] - max(1, demand.min_instances)))
        left[offering] -= single
        units += [Unit(((demand.instance, 1),), offering, demand.blocks_per_instance, last=False)] * single
        kept.setdefault(offering, []).append((demand, each.count - single))
        if last[offering] == demand.instance:
            together = [(one, count) for one, count in kept[offering] if count]
            blocks = sum(one.blocks_per_instance * count for one, count in together)
            if together:
                units.append(Unit(tuple((one.instance, count) for one, count in together), offering, blocks, last=True))
    return units


# ---------------------------------------------------------------------------------------------------------- the drain


def drain(pool: PoolState, ahead: Outlook, settings: ExpirySettings, *, now: datetime) -> Drained:
    """Release who has to stop: before the end one unit at a time, each after the one before is gone; at the end the rest.

    What is being released for other reasons goes first, so never more is on its way out than is needed.
    """
    runners = _runners(pool)
    if ahead.fallen is not None:
        overdue = plan_stops(runners, blocks_of(ahead.contracted_cu), settings.stop_order)
        if overdue:
            return Drained(_released(pool, runners, overdue), _plan(ahead.fallen, overdue, settings))
    for fall in ahead.falls:
        units = plan_stops(runners, blocks_of(fall.after_cu), settings.stop_order)
        if units:
            begun = now >= fall.at - settings.drain
            next_one = begun and not _on_their_way_out(pool, runners)
            holdings = _released(pool, runners, units[:1]) if next_one else pool.holdings
            return Drained(holdings, _plan(fall, units, settings))
    return Drained(pool.holdings)


def _plan(fall: Fall, units: Sequence[Unit], settings: ExpirySettings) -> ExpiryPlan:
    return ExpiryPlan(fall.at - settings.drain, fall, _by_instance(units))


def _runners(pool: PoolState) -> tuple[Runner, ...]:
    held = Counter(holding.instance for holding in standing(pool.holdings))
    return tuple(
        Runner(demand, min(held[demand.instance], effective_desired(demand, held[demand.instance])))
        for demand in pool.demands
    )


def _by_instance(units: Sequence[Unit]) -> tuple[Stop, ...]:
    counts = Counter[str]()
    for unit in units:
        counts.update(dict(unit.instances))
    return tuple(Stop(instance, count) for instance, count in counts.items())


def _on_their_way_out(pool: PoolState, runners: Sequence[Runner]) -> bool:
    """Is anybody, or will be in this very plan? What a lost node had is fenced some day; the drain does not wait for it."""
    failed = {node.name for node in pool.nodes if node.failed}
    if any(not each.held and failed.isdisjoint(each.nodes) for each in pool.holdings):
        return True
    counted = Counter({each.demand.instance: each.count for each in runners})
    return Counter(holding.instance for holding in standing(pool.holdings)) != +counted


def _released(pool: PoolState, runners: Sequence[Runner], units: Sequence[Unit]) -> tuple[Holding, ...]:
    """Which members of an instance go is as in any release; those that are too many anyway go with them."""
    counted = {each.demand.instance: each.count for each in runners}
    versions = {each.demand.instance: each.demand.version for each in runners}
    leaving: set[str] = set()
    for stop in _by_instance(units):
        mine = [each for each in pool.holdings if each.instance == stop.instance]
        keep = counted[stop.instance] - stop.instances
        leaving |= {each.member for each in surplus(pool, mine, keep, versions[stop.instance])}
    return tuple(
        replace(each, state=HoldingState.RELEASING) if each.member in leaving else each for each in pool.holdings
    )

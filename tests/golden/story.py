"""Scenarios as stories: a stage, what people do, what the world does; the text that comes out is kept and reviewed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reserved_capacity.domain.holdings import Demand
from reserved_capacity.domain.rollout import words
from reserved_capacity.domain.rollout.values import Approval, RolloutPhase, RolloutSpec, RolloutState
from reserved_capacity.domain.units import cu_of
from reserved_capacity.domain.versions import Version
from tests.golden.world import EARLIER, HARD_SPACE, NOON, Customer, World

V1, V2, V3 = Version("v1"), Version("v2"), Version("v3")
FAST = Version("v1", "fast")
_TIMES = re.compile(r"2026-03-\d\dT(\d\d:\d\d):00Z")  # the clock is enough for a story


class Story:
    """One telling of a scenario, with one seed."""

    def __init__(self, seed: int) -> None:
        self.lines: list[str] = []
        self._told_at: datetime | None = None
        self.world = World(seed, self._tell)

    def _tell(self, moment: datetime, text: str) -> None:
        day = (moment - NOON.replace(hour=0)).days
        clock = f"{moment:%H:%M}" + (f" +{day}d" if day else "")
        head = clock if moment != self._told_at else ""
        self._told_at = moment
        indent = len(text) - len(text.lstrip())
        prefix = f"{head:<9}"
        wrapped = textwrap.wrap(
            text.strip(),
            width=118,
            initial_indent=prefix + " " * indent,
            subsequent_indent=" " * (len(prefix) + indent + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        self.lines += [_TIMES.sub(r"\1", line.replace(HARD_SPACE, " ")) for line in wrapped]

    # --------------------------------------------------------------------------------------------------------- the stage

    def nodes(self, *blocks: int, zones: str = "") -> None:
        for at, count in enumerate(blocks):
            self.world.add_node(f"gpu-{at + 1}", count, zone=zones[at] if zones else "a")

    def instance(
        self,
        name: str = "chat",
        *,
        at: Sequence[str] = ("gpu-1", "gpu-1"),
        instances: int | None = None,
        blocks: int = 3,
        minimum: int = 1,
        offering: str = "",
        nodes: int = 1,
        priority: int = 0,
        version: Version = V1,
        min_available: int | None = None,
        accept_below_minimum: bool = False,
        **upgrade: object,
    ) -> None:
        """Its members are where `at` says, one word each (`gpu-1+gpu-2` for several nodes), and serve."""
        demand = Demand(
            instance=name,
            uid=f"uid-{name}",
            offering=offering or f"model-of-{name}",
            blocks_per_instance=blocks,
            min_instances=minimum,
            desired=len(at) if instances is None else instances,
            priority=priority,
            created_at=NOON - timedelta(days=1),
            nodes_per_instance=nodes,
            topology_key="zone",
            min_available=min_available,
            accept_below_minimum=accept_below_minimum,
            version=version,
        )
        spec = RolloutSpec(instance=name, generation=1, target=version)
        spec = replace(spec, **upgrade)  # type: ignore[arg-type]
        self.world.add_customer(demand, spec, [tuple(each.split("+")) for each in at])

    # ------------------------------------------------------------------------------------------------------------ to act

    def edit(self, what: str, name: str = "chat", at: float = 0, **changes: object) -> None:
        """At so many minutes after noon the customer changes the ModelInstance; `what` is the sentence for it."""

        def act() -> str:
            self.world.edit(name, **changes)
            return what

        self.world.at(at, act, what)

    def approve(self, at: float, name: str = "chat", rollout: int | None = None) -> None:
        def act() -> str:
            record = next(each for each in self.world.records if each.instance == name)
            canary = self.world.customers[name].spec.canary
            assert canary is not None
            approved = record.id if rollout is None else rollout
            self.world.edit(name, canary=replace(canary, approved_rollout=approved))
            return f"the customer approves rollout {approved}"

        self.world.at(at, act, "approve")

    def happens(self, what: str, act: Callable[[World], object], at: float = 0) -> None:
        def doit() -> str:
            act(self.world)
            return what

        self.world.at(at, doit, what)

    def run(self, until: float = 24 * 60) -> None:
        if not self.lines:
            self._set_the_stage()
        self.world.run(until=until)

    def _set_the_stage(self) -> None:
        nodes = ", ".join(f"{each.name} {cu_of(each.blocks)} CU" for each in self.world.nodes.values())
        self.lines.append(f"pool     {nodes}")
        for customer in self.world.customers.values():
            demand = customer.demand
            size = f"{demand.desired} x {cu_of(demand.blocks_per_instance)} CU"
            size += f" on {demand.nodes_per_instance} nodes each" if demand.nodes_per_instance > 1 else ""
            asks = [size, f"at least {demand.min_instances} of {demand.offering}", *_settings(customer)]
            text = f"{customer.name}: {', '.join(asks)}"
            self.lines += textwrap.wrap(text, 118, initial_indent=" " * 9, subsequent_indent=" " * 11)
        self.lines.append("")

    # --------------------------------------------------------------------------------------------------------- to expect

    def ends(
        self,
        *versions: Version,
        name: str = "chat",
        phase: RolloutPhase = RolloutPhase.IDLE,
        state: RolloutState | None = RolloutState.DONE,
        serving: int | None = None,
    ) -> None:
        """What the members run in the end, and what the rollout has become."""
        report = self.world.reports[name]
        assert self.world.versions(name) == sorted(map(str, versions))
        assert (report.phase, report.record.state if report.record else None) == (phase, state)
        if serving is not None:
            assert self.world.serving(name) == serving

    def untouched(self, *members: str) -> None:
        """These have run from the beginning."""
        for name in members:
            assert self.world.members[name].made_at == EARLIER, f"{name} was made anew"
            assert name in {each.member for each in self.world.holdings if each.held}

    def always_served(self) -> None:
        assert not any(self.world.unserved.values()), "fewer than asked for served for a time"

    @staticmethod
    def minutes(count: float) -> timedelta:
        return timedelta(minutes=count)

    def always_served_by(self, name: str) -> None:
        assert not self.world.unserved.get(name), f"{name} missed somebody for a time"

    @property
    def blocked_on(self) -> str:
        return self.world.reports["chat"].blocked_on

    @property
    def why(self) -> str:
        return self.world.reports["chat"].why


def _settings(customer: Customer) -> list[str]:
    """What of spec.upgrade is not the default."""
    spec, demand = customer.spec, customer.demand
    standard = RolloutSpec(spec.instance, 1, spec.target)
    told = []
    for field, name in _NAMES.items():
        value = getattr(spec, field)
        if value != getattr(standard, field):
            told.append(f"{name} {words.lasting(value) if isinstance(value, timedelta) else value}")
    if demand.min_available is not None:
        told.append(f"minAvailable {demand.min_available}")
    if demand.accept_below_minimum:
        told.append("acceptBelowMinimum")
    if spec.canary is not None:
        canary = spec.canary
        held = f", hold {words.lasting(canary.hold)}" if canary.approval is Approval.TIMER else ""
        told.append(f"canary of {canary.instances} ({canary.approval}{held})")
    return told


_NAMES = {
    "strategy": "strategy",
    "when_no_spare": "whenNoSpare",
    "max_surge": "maxSurge",
    "on_failure": "onFailure",
    "progress_deadline": "progressDeadline",
    "paused": "paused",
    "suspended": "suspend",
}


@dataclass(frozen=True)
class Scenario:
    """`text` is what it is about, for the reader of the golden file."""

    slug: str
    title: str
    text: str
    tell: Callable[[Story], None]

    def told(self, seed: int) -> Story:
        story = Story(seed)
        self.tell(story)
        return story

    def rendered(self, story: Story) -> str:
        text = "\n".join(textwrap.fill(" ".join(part.split()), 118) for part in self.text.split("\n\n"))
        return "\n".join([self.title, "=" * len(self.title), "", text, "", *story.lines]) + "\n"


SCENARIOS: list[Scenario] = []


def scenario(title: str) -> Callable[[Callable[[Story], None]], Callable[[Story], None]]:
    """Registers a function as a scenario: its docstring is the text, its name the file's."""

    def register(tell: Callable[[Story], None]) -> Callable[[Story], None]:
        SCENARIOS.append(Scenario(tell.__name__.replace("_", "-"), title, tell.__doc__ or "", tell))
        return tell

    return register

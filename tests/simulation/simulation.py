"""Owns one run: a world, one or two operators, and the scheduler that decides by seed who takes the next step.

Everything that happens is drawn from one `random.Random(seed)` in one order, so a seed always runs the same way.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reserved_capacity.ports import (
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    NODES,
    PODS,
    STATEFUL_SETS,
    JsonObject,
    Resource,
)
from reserved_capacity.resync import RESOURCES
from reserved_capacity.trimming import essential
from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import FakeControllers
from tests.integration.world import Clock
from tests.simulation.checker import Checker
from tests.simulation.facts import claims_on, gpus_on, held_by, is_usable, rollouts_of
from tests.simulation.judge import judge
from tests.simulation.network import Request, Weather
from tests.simulation.process import Process
from tests.simulation.replanning import replanning
from tests.simulation.rollout_verdict import is_going
from tests.simulation.settling import Settling, as_event_loop
from tests.simulation.sightings import Violation
from tests.simulation.upgrades import can_serve
from tests.simulation.users import Users


@dataclass(frozen=True, slots=True)
class Focus:
    """Where to look: so many operators at once, some faults more often, some actions (all enabled) more often. `roomy`: it
    begins with more of everything, and lasts longer."""

    operators: int | None = None
    weather: Mapping[str, float] = field(default_factory=dict)
    actions: tuple[str, ...] = ()
    roomy: bool = False


EVERYWHERE = Focus()
# Versions change all the time.
IN_ROLLOUTS = Focus(
    actions=("change_version", "choose_strategy", "go_back", "choose_canary", "approve", "pause", "crash_pod"),
    roomy=True,
)
# Terms end, are renewed and reduced in mid-story.
AT_THE_ENDS = Focus(actions=("reach_end", "amend", "choose_renewal", "order_more"))

_HOURS_FOR_ROLLOUTS = 30  # of windows that open once a day


@dataclass(slots=True)
class Simulation:
    seed: int
    focus: Focus = EVERYWHERE
    events: deque[tuple[object, ...]] = field(default_factory=lambda: deque(maxlen=400))
    verbose: bool = False
    step: int = 0
    seconds: float = 1000.0
    clock: Clock = field(default_factory=Clock)
    processes: list[Process] = field(default_factory=list)
    late: list[Request] = field(default_factory=list)
    calm: bool = False
    started: int = 0
    chance: random.Random = field(init=False)
    cluster: FakeCluster = field(init=False)
    controllers: FakeControllers = field(init=False)
    users: Users = field(init=False)
    checker: Checker = field(init=False)
    weather: Weather = field(init=False)
    operators: int = field(init=False)
    slow_pods: float = field(init=False)
    _settling: Settling = field(init=False)
    _essence: dict[int, tuple[JsonObject, JsonObject]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = self.chance = random.Random(self.seed)
        self.cluster = FakeCluster(now=self.clock.now, shares=True)
        self.checker = Checker(self.cluster)
        self.cluster.subscribe(self.checker.saw)
        self.cluster.subscribe(self._saw)
        self.slow_pods = chance.choice((0.0, 0.3, 0.8))
        self.controllers = FakeControllers(self.cluster, becomes_ready=self._becomes_ready, stops=self._pod_moves)
        self.users = Users(self.cluster, chance, self._pass, favourites=self.focus.actions)
        self._settling = Settling(
            self.cluster, self.controllers, self.checker, lambda seconds: self._pass(timedelta(seconds=seconds))
        )
        self.operators = self.focus.operators or chance.choice((1, 1, 2))
        self.weather = _weather(chance)
        self.weather.blow(self.focus.weather)
        self.checker.one_leader = self.operators == 1 and not self.weather.late_writes

    # ------------------------------------------------------------------------------------------------------------ runs

    def run(self) -> None:
        """Raises Violation."""
        with as_event_loop(lambda: self.seconds), replanning(self.checker.found):
            try:
                self._play()
                self.finish()
            finally:
                for process in list(self.processes):
                    self._crash(process)
                for request in self.late:
                    request.coroutine.close()

    def _play(self) -> None:
        """Mostly from a world in which something runs already: that is where there is something to lose."""
        self.users.seed(roomy=self.focus.roomy)
        for _ in range(self.operators):
            self._start_process()
        if self.focus.roomy or self.chance.random() < 0.75:
            stormy, self.calm = self.weather.storm(), True
            self.settle()
            self.calm = False
            self.weather.blow(stormy)
        for step in range(1, self.chance.randint(80, 260) * (2 if self.focus.roomy else 1)):
            self.step = step
            self._step()
            self.checker.raise_if_broken()

    def finish(self) -> None:
        """The faults end; then the world settles, and what it settled at is judged."""
        self._note("world", "the faults end")
        self._calm_down()
        self.settle()
        self._let_rollouts_end()
        self._expect_silence("a settled world was written to (I8)")
        self._note("world", "all operators are killed, a fresh one starts")
        for process in list(self.processes):
            self._crash(process)
        self._start_process()
        self._expect_silence("a fresh operator decides otherwise than the one before it (I7, I8)")
        judge(self.cluster, one_leader=self.checker.one_leader)

    def _step(self) -> None:
        chance = self.chance
        roll = chance.random()
        if roll < 0.60:
            for _ in range(chance.randint(1, 4)):
                self._operator_step()
        elif roll < 0.78:
            self._controllers_step()
        elif roll < 0.88:
            self._act()
        elif roll < 0.93:
            self._pass(timedelta(seconds=chance.choice((0.1, 1.0, 1.0, 5.0, 30.0))))
        elif roll < 0.97 and self.late:
            self._carry_out(self.late.pop(chance.randrange(len(self.late))))
        elif roll < 0.98 and self.processes:
            chance.choice(self.processes).list_again(chance.choice(RESOURCES))
        elif roll > 0.992 and self.processes:
            process = chance.choice(self.processes)
            self._note(process.name, "crashes")
            self._crash(process)
        elif len(self.processes) < self.operators:
            self._start_process()

    def _operator_step(self) -> None:
        if not self.processes:
            return
        process = self.chance.choice(self.processes) if len(self.processes) > 1 else self.processes[0]
        self.checker.actor = process
        if self.chance.random() < self.weather.delivery:
            process.hear()
        process.advance()

    def _controllers_step(self) -> None:
        self.checker.actor = None
        if self.chance.random() < 0.15:
            self.controllers.step_now()
            return
        for _ in range(4):
            self.controllers.nudge(self.chance)

    def _act(self) -> None:
        self.checker.actor = None
        self._note("users", self.users.act())

    # -------------------------------------------------------------------------------------------------------- settling

    def _calm_down(self) -> None:
        self.calm = True
        self.weather.storm()
        while self.late:
            self._carry_out(self.late.pop())
        while len(self.processes) < self.operators:
            self._start_process()
        self.checker.actor = None
        for node in self.cluster.all_stored(NODES):
            # A node that does not answer keeps its pods for ever; whether it returns is up to the seed.
            if node["status"]["conditions"][0]["status"] != "True" and self.chance.random() < 0.7:
                self.users.set_ready(node, ready="True")

    def settle(self) -> None:
        for process in self.processes:
            self._settling.drain(process)
            process.list_all_again()
        self._settling.settle(self.processes)

    def _let_rollouts_end(self) -> None:
        """Those that wait for nothing but time: a hold, a window, a deadline."""
        for _ in range(_HOURS_FOR_ROLLOUTS):
            if not any(is_going(obj) for obj in self.cluster.all_stored(MODEL_INSTANCES)):
                return
            self.checker.actor = None
            self._pass(timedelta(hours=1))
            self.settle()

    def _expect_silence(self, otherwise: str) -> None:
        before = len(self.cluster.writes)
        for process in self.processes:
            self._settling.drain(process)
            process.look_at_everything()
        self.settle()
        if written := self.cluster.writes[before:]:
            raise Violation("I8", f"{otherwise}: {', '.join(str(write) for write in written[:5])}")

    # --------------------------------------------------------------------------------------------------------- pieces

    def _start_process(self) -> None:
        self.started += 1
        name = f"operator-{self.started}"

        def looked(at: str, version: int) -> None:
            self.checker.looked[name, at] = version

        process = Process(
            name=name,
            cluster=self.cluster,
            clock=self.clock,
            monotonic=lambda: self.seconds,
            chance=self.chance,
            weather=self.weather,
            late=self.late,
            note=self._note,
            failed=self.checker.found,
            looked=looked,
            trim=self._trimmed,
        )
        self.processes.append(process)
        self._note(process.name, "starts")

    def _trimmed(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """Of an object that is told again, or to another process, the store keeps the same: nobody alters either."""
        known = self._essence.get(id(obj))
        if known is None:
            known = self._essence[id(obj)] = (obj, essential(resource, obj))
        return known[1]

    def _crash(self, process: Process) -> None:
        self.processes.remove(process)
        process.crash()

    def _carry_out(self, request: Request) -> None:
        self._note("network", "carries out late:", request.words)
        self.checker.actor = "late"
        request.carry_out()

    def _becomes_ready(self, pod: JsonObject) -> bool:
        return can_serve(pod) and self._pod_moves(pod)

    def _pod_moves(self, _pod: object) -> bool:
        return self.calm or self.chance.random() >= self.slow_pods

    def _pass(self, delta: timedelta) -> None:
        self.seconds += min(delta.total_seconds(), 3600.0)
        self.clock.moment += delta

    def _saw(self, event: str, resource: Resource, obj: JsonObject) -> None:
        """What the operators did not do, and what they decided on capacity."""
        name, version = obj["metadata"]["name"], obj["metadata"]["resourceVersion"]
        if self.checker.actor is None:
            if not (resource == STATEFUL_SETS and event == "MODIFIED"):
                self._note("world", event, resource.kind, name, f"v{version}", _Content(resource, obj))
        elif resource in _DECISIVE:
            self._note("    ", event, resource.kind, name, f"v{version}", _Content(resource, obj))

    def _note(self, *words: object) -> None:
        self.events.append((self.step, *words))
        if self.verbose:
            sys.stdout.write(f"{_line(self.events[-1], self.clock.moment)}\n")

    def last_events(self, count: int = 30) -> list[str]:
        return [_line(event, None) for event in list(self.events)[-count:]]


@dataclass(frozen=True, slots=True)
class _Content:
    """What matters of an object, put into words only when somebody reads them."""

    resource: Resource
    obj: JsonObject

    def __str__(self) -> str:
        if self.resource == COMPUTE_UNIT_POOLS:
            holdings = [
                f"{each.member}{'~' if each.releasing else ''}={'/'.join(each.version)}@{'+'.join(each.nodes)}"
                + (f" for {each.replaces}" if each.replaces else "")
                for each in held_by(self.obj)
            ]
            ordered = [f"{each['id']}={each['computeUnits']}" for each in self.obj["spec"]["commitments"]]
            rollouts = [str(each) for each in rollouts_of(self.obj) if each.moving]
            told = f"; rollouts {', '.join(rollouts)}" if rollouts else ""
            return f"ordered {', '.join(ordered)}; holdings {', '.join(holdings) or 'none'}{told}"
        if self.resource == NODES:
            claims = [f"{pool[1]}={blocks}" for (pool, _), blocks in sorted(claims_on(self.obj).items())]
            state = "" if is_usable(self.obj) else " not usable"
            return f"{gpus_on(self.obj)} GPUs{state}; claims {', '.join(claims) or 'none'}"
        if self.resource == MODEL_INSTANCES:
            spec = self.obj["spec"]
            version = f"{spec['snapshot']}/{spec.get('profile', 'default')}, {spec.get('upgrade') or 'no upgrade'}"
            return f"{spec['instances']} x {spec['offering']} ({version}) of pool {spec['poolRef']}"
        if self.resource == PODS:
            return f"on {self.obj['spec'].get('nodeName')}"
        return ""


_DECISIVE = (COMPUTE_UNIT_POOLS, NODES, STATEFUL_SETS)


def _line(event: tuple[object, ...], at: datetime | None) -> str:
    when = f" {at:%m-%dT%H:%M:%S}" if at is not None else ""
    return f"{event[0]:>4}{when} {' '.join(str(word) for word in event[1:])}"


def _weather(chance: random.Random) -> Weather:
    return Weather(
        write_faults=chance.choice((0.0, 0.03, 0.15)),
        read_faults=chance.choice((0.0, 0.0, 0.05)),
        late_writes=chance.choice((0.0, 0.0, 0.05, 0.2)),
        lost_events=chance.choice((0.0, 0.0, 0.05)),
        twice_told=chance.choice((0.0, 0.1)),
        shuffled=chance.choice((0.0, 0.0, 0.2)),
        delivery=chance.choice((1.0, 0.5, 0.15)),
        workers=chance.choice((1, 2, 4)),
    )

"""Owns directed interleavings: the processes of the simulation without chance, each going as far as a scene lets it.

A scene says who has heard of what, who stops before which call, and who goes on meanwhile; calls are named as in
`patch Node n1` or `status ComputeUnitPool acme/p`. So a race is played whatever else the reconcilers do, and on any
day. The invariants are watched as in a seed, and the verdict on the settled world is the same.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    PRICE_BOOKS,
    STATEFUL_SETS,
    JsonObject,
    OutcomeUnknown,
    Ref,
    Resource,
)
from reserved_capacity.queue import Key
from reserved_capacity.reconcilers.context import CAPACITY, INSTANCE, POOL
from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import FakeControllers
from tests.integration import world as catalogue
from tests.integration.world import Clock
from tests.simulation.checker import Checker
from tests.simulation.facts import held_by
from tests.simulation.judge import judge
from tests.simulation.network import Weather
from tests.simulation.process import Process, Task
from tests.simulation.settling import Settling, as_event_loop
from tests.simulation.sightings import Violation
from tests.simulation.upgrades import can_serve, offering
from tests.simulation.users import GPUS, NAMESPACE, OFFERINGS, accelerator_class, pool_body, price_book

CLASS = Key(CAPACITY, "", "h100-8")


def pool_key(name: str) -> Key:
    return Key(POOL, NAMESPACE, name)


def instance_key(name: str) -> Key:
    return Key(INSTANCE, NAMESPACE, name)


class NotReachedError(AssertionError):
    """The scene does not fit the code any more: a call that it waits for is not made."""


Scene = Callable[["Theatre"], None]


def _nowhere(*_: object) -> None:
    pass


@dataclass(slots=True)
class Theatre:
    """The catalogue of the simulation (a node has 4 blocks; small 1, pair 1 with a minimum of 2, mid 2, big 3 with 2)."""

    clock: Clock = field(default_factory=Clock)
    seconds: float = 1000.0
    processes: list[Process] = field(default_factory=list)
    cluster: FakeCluster = field(init=False)
    checker: Checker = field(init=False)
    controllers: FakeControllers = field(init=False)
    _settling: Settling = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(now=self.clock.now, shares=True)
        self.checker = Checker(self.cluster)
        self.cluster.subscribe(self.checker.saw)
        self.controllers = FakeControllers(self.cluster, becomes_ready=can_serve)
        self._settling = Settling(self.cluster, self.controllers, self.checker, self.wait)
        self.cluster.user_create(ACCELERATOR_CLASSES, accelerator_class())
        self.cluster.user_create(PRICE_BOOKS, price_book())
        for name, (cu, minimum) in OFFERINGS.items():
            self.cluster.user_create(MODEL_OFFERINGS, offering(name, cu, minimum))

    # ----------------------------------------------------------------------------------------------------------- users

    def node(self, name: str) -> None:
        self._user()
        self.cluster.user_create(NODES, catalogue.node(name, gpus=GPUS, at=self.clock.now()))

    def cordon(self, name: str, *, back: bool = False) -> None:
        self._user()
        self.cluster.user_patch(Ref(NODES, "", name), {"spec": {"unschedulable": None if back else True}})

    def pool(self, name: str, cu: int = 400, *, order: str = "") -> None:
        self._user()
        self.cluster.user_create(COMPUTE_UNIT_POOLS, pool_body(name, order or f"order-{name}", cu))

    def window(self, pool: str, schedule: str, duration: str) -> None:
        self._user()
        window = {"schedule": schedule, "duration": duration}
        self.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, NAMESPACE, pool), {"spec": {"maintenanceWindow": window}})

    def order_more(self, pool: str, cu: int) -> None:
        self._user()
        first = self.stored(COMPUTE_UNIT_POOLS, pool)["spec"]["commitments"]
        more = pool_body(pool, f"order-{pool}-{len(first) + 1}", cu)["spec"]["commitments"]
        ref = Ref(COMPUTE_UNIT_POOLS, NAMESPACE, pool)
        self.cluster.user_patch(ref, {"spec": {"commitments": [*first, *more]}})

    def instance(self, name: str, model: str, count: int, *, pool: str = "p", **spec: Any) -> None:
        self._user()
        body = catalogue.instance(name, model, count, pool_ref=pool, **spec)
        self.cluster.user_create(MODEL_INSTANCES, body)

    def edit(self, name: str, **spec: Any) -> None:
        self._user()
        self.cluster.user_patch(Ref(MODEL_INSTANCES, NAMESPACE, name), {"spec": spec})

    def edit_offering(self, name: str) -> None:
        self._user()
        serving = {"serving": {"image": f"server@sha256:{'b' * 64}"}}
        self.cluster.user_patch(Ref(MODEL_OFFERINGS, "", name), {"spec": {"reserved": serving}})

    def lose_status(self, pool: str) -> None:
        self._user()
        self.cluster.user_patch(Ref(COMPUTE_UNIT_POOLS, NAMESPACE, pool), {"status": None}, status=True)

    def gpus(self, node: str, count: int) -> None:
        self._user()
        status = {"status": {"allocatable": {"nvidia.com/gpu": str(count)}}}
        self.cluster.user_patch(Ref(NODES, "", node), status, status=True)

    def unready(self, node: str, *, back: bool = False) -> None:
        self._user()
        since = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [{"type": "Ready", "status": "True" if back else "Unknown", "lastTransitionTime": since}]
        self.cluster.user_patch(Ref(NODES, "", node), {"status": {"conditions": conditions}}, status=True)

    def foreign_pod(self, node: str, *, gpus: int) -> None:
        self._user()
        requests = {"nvidia.com/gpu": str(gpus)}
        spec = {"nodeName": node, "containers": [{"name": "main", "resources": {"requests": requests}}]}
        body = {"metadata": {"name": "foreign", "namespace": "other"}, "spec": spec, "status": {"phase": "Running"}}
        self.cluster.user_create(PODS, body)

    def time_goes_by_for_others(self, versions: int = 20) -> None:
        """Versions pass that are of no concern: what is older counts as known (checker)."""
        for number in range(versions):
            self.cluster.user_patch(Ref(PRICE_BOOKS, "", "usd"), {"metadata": {"labels": {"turn": str(number)}}})

    def delete(self, resource: Resource, name: str) -> None:
        self._user()
        self.cluster.user_delete(Ref(resource, NAMESPACE if resource.namespaced else "", name))

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.clock.moment += timedelta(seconds=seconds)

    def wait_days(self, days: float) -> None:
        self.wait(days * 86400)

    def _user(self) -> None:
        self.checker.actor = None

    # ------------------------------------------------------------------------------------------------------- operators

    def operator(self, *, alone: bool = True) -> Process:
        """A process that has listed everything. The first that is not `alone` turns off what holds for one leader only."""
        process = Process(
            name=f"operator-{len(self.processes) + 1}",
            cluster=self.cluster,
            clock=self.clock,
            monotonic=lambda: self.seconds,
            chance=random.Random(1),
            weather=Weather(delivery=1.0, workers=1),
            late=[],
            note=_nowhere,
            failed=self.checker.found,
            looked=lambda at, version: self.checker.looked.update({(process.name, at): version}),
        )
        self.processes.append(process)
        self.checker.one_leader &= alone
        while not process.opened:
            process.advance()
        process.hear_everything()
        return process

    def hears(self, process: Process, *resources: Resource) -> None:
        """All that there is to hear of these resources (of all, if none is named)."""
        process.hear_everything(*resources)

    def starts(self, process: Process, instance: str, member: str) -> None:
        """The member of the instance is announced (if it is), its controller takes note, and it is given its pods: the operator
        hears of this one object, and of nothing else."""
        self.reconciles(process, instance_key(instance))
        self.cluster_works()
        announced = self.cluster.stored(Ref(STATEFUL_SETS, NAMESPACE, member))
        if announced is not None:
            process.store.observe(STATEFUL_SETS, announced)
            self.reconciles(process, instance_key(instance))

    def relists(self, process: Process) -> None:
        """The periodic LISTs."""
        process.list_all_again()

    def dies(self, process: Process) -> None:
        process.crash()
        self.processes.remove(process)

    def reconciles(self, process: Process, key: Key) -> None:
        self.goes_on(process, self.begins(process, key))

    def begins(self, process: Process, key: Key, *, until: str = "") -> Task:
        """Take up the key, and stop before the call that begins like `until` (before the first, if none is named)."""
        task = process.take_up(key)
        if until:
            self.goes_on(process, task, until=until)
        return task

    def goes_on(self, process: Process, task: Task, *, until: str = "") -> bool:
        """To the call, or to the end (False if it has to wait for another task). Raises Violation, NotReachedError."""
        calls = []
        while task in process.tasks:
            if not task.ready:
                return False
            if until and task.before.startswith(until):
                return True
            calls.append(task.before)
            self.checker.actor = process
            process.run_on(task)
            self.checker.raise_if_broken()
        if until:
            raise NotReachedError(f"{task.words} made no call `{until}`, but {', '.join(filter(None, calls))}")
        return True

    def one_step(self, process: Process, task: Task) -> None:
        """Carry out the call that it stopped before; its answer does not arrive yet."""
        self.checker.actor = process
        process.run_on(task)
        self.checker.raise_if_broken()

    def answer_is_lost(self, process: Process, task: Task) -> None:
        """The call that it stopped before is carried out, and nobody tells it so."""
        self.one_step(process, task)
        process.fails(task, OutcomeUnknown("the connection was reset"))
        self.checker.raise_if_broken()

    def pods_stop(self, at_once: bool) -> None:
        """Whether kubelets come to an end with pods that are deleted."""
        self.controllers.stops = lambda _pod: at_once

    def crash(self, pod: str) -> None:
        """It is not ready, nor will it or any other be (`pods_start`), and its endpoint says so."""
        self._user()
        self.pods_start(False)
        self.controllers.fail_pod(Ref(PODS, NAMESPACE, pod))
        self.cluster_works()

    def pods_start(self, at_once: bool) -> None:
        """Whether those get ready that can."""
        self.controllers.becomes_ready = can_serve if at_once else lambda _pod: False

    def cluster_works(self) -> None:
        """The cluster's own controllers, the scheduler and the kubelets, until they have nothing to do."""
        self.checker.actor = None
        while self.controllers.step_now():
            self.checker.raise_if_broken()
        self.checker.raise_if_broken()

    def settles(self, *processes: Process) -> None:
        """These operators (or all) and the cluster, until all is quiet; for the others no time passes."""
        self._settling.settle(processes or self.processes)

    def expect_silence(self) -> None:
        """What has settled is looked at once more, and nothing is written (I8)."""
        before = len(self.cluster.writes)
        for process in self.processes:
            process.look_at_everything()
        self.settles()
        self.expect(len(self.cluster.writes) == before, "I8", "a settled world was written to")
        self.checker.raise_if_broken()

    # ---------------------------------------------------------------------------------------------------------- looking

    def stored(self, resource: Resource, name: str) -> JsonObject:
        obj = self.cluster.stored(Ref(resource, NAMESPACE if resource.namespaced else "", name))
        assert obj is not None, f"{resource.kind} {name} does not exist"
        return obj

    def holdings(self, pool: str = "p") -> dict[str, tuple[str, ...]]:
        """Member to nodes, of what is held and not being released."""
        return {
            each.member: each.nodes for each in held_by(self.stored(COMPUTE_UNIT_POOLS, pool)) if not each.releasing
        }

    def pods(self) -> dict[str, str]:
        """Names to uids."""
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.cluster.all_stored(PODS)}

    def replicas(self, member: str) -> int:
        return int(self.stored(STATEFUL_SETS, member)["spec"]["replicas"])

    def expect(self, held: bool, invariant: str, message: str) -> None:
        """What the invariants cannot know, but the scene."""
        if not held:
            raise Violation(invariant, message)


def play(scene: Scene) -> str:
    """The invariant that is violated, or nothing."""
    try:
        with opened() as theatre:
            scene(theatre)
    except Violation as violation:
        return violation.invariant
    return ""


@contextlib.contextmanager
def opened() -> Iterator[Theatre]:
    """A theatre, and the verdict on the world that the scene leaves behind. Raises Violation."""
    theatre = Theatre()
    with as_event_loop(lambda: theatre.seconds):
        try:
            yield theatre
            theatre.settles()
            theatre.checker.raise_if_broken()
            judge(theatre.cluster, one_leader=theatre.checker.one_leader)
            theatre.expect_silence()
        finally:
            for process in theatre.processes:
                process.crash()

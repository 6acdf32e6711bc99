"""What an update brings is compared while both versions serve, and stays on the status (behaviour.md S7; ADR 0046)."""

from __future__ import annotations

from dataclasses import dataclass, field

from reserved_capacity.ports import MODEL_OFFERINGS, JsonObject, Ref
from tests.integration.test_rollouts import NEW, OLD, environment, offer_second, rollout
from tests.integration.world import World

CANARY = {"canary": {"instances": 1}}


@dataclass(slots=True)
class FakeCounters:
    """Servers that have made so many tokens a second, by snapshot, ever since midnight, and never rested."""

    world: World
    per_second: dict[str, int]
    asked: list[str] = field(default_factory=list)

    async def read(self, url: str) -> tuple[int, int | None] | None:
        self.asked.append(url)
        address = url.removeprefix("http://").split(":")[0]
        pod = next(each for each in self.world.member_pods() if each["status"].get("podIP") == address)
        now = self.world.clock.now()
        seconds = int((now - now.replace(hour=0, minute=0, second=0)).total_seconds())
        return seconds * self.per_second[environment(pod)["MODEL_SNAPSHOT"]], seconds * 1000


async def canary(per_second: dict[str, int]) -> tuple[World, FakeCounters]:
    """A canary that waits for its approval: an old member and a new one serve."""
    world = World()
    counters = world.counters = FakeCounters(world, per_second)
    world.seed()
    offer_second(world)
    world.apply_instance(
        "chat",
        "gpt-4-turbo",
        2,
        upgrade={**CANARY, "strategy": "InPlace", "minAvailable": 1, "acceptBelowMinimum": True},
    )
    world.start_operator()
    await world.settle()
    world.edit_instance("chat", {"snapshot": NEW})
    await world.settle()
    return world, counters


async def later(world: World, seconds: int) -> None:
    world.clock.forward(seconds=seconds)
    await world.settle()


async def approved(world: World) -> JsonObject:
    """The rollout goes on to its end; the report."""
    world.edit_instance("chat", {"upgrade": {"canary": {"approvedRollout": rollout(world)["id"]}}})
    await world.settle()
    report: JsonObject = world.get_instance("chat")["status"]["upgradeReport"]
    assert report["result"] == "Done"
    return report


async def test_s7_the_report_says_what_the_new_version_brings_per_compute_unit() -> None:
    world, counters = await canary({OLD: 100, NEW: 125})
    await later(world, 5)
    await later(world, 20)
    assert all(url.endswith("/metrics") for url in counters.asked)
    assert (await approved(world))["throughputRatio"] == "1.250"


async def test_s7_too_little_traffic_is_not_measured() -> None:
    world, _ = await canary({OLD: 1, NEW: 1})
    await later(world, 30)
    assert (await approved(world))["throughputRatio"] == "NotMeasured"


async def test_s7_what_was_measured_stays_though_the_operator_is_restarted() -> None:
    world, counters = await canary({OLD: 100, NEW: 200})
    await later(world, 30)
    await approved(world)
    world.kill_operators()
    counters.asked.clear()
    world.start_operator()
    await world.settle()
    assert world.get_instance("chat")["status"]["upgradeReport"]["throughputRatio"] == "2.000"
    assert counters.asked == [], "a rollout that has ended is not looked at"


async def test_s7_another_rollout_has_a_report_of_its_own() -> None:
    world, counters = await canary({OLD: 100, NEW: 200})
    await later(world, 30)
    await approved(world)
    counters.per_second = {OLD: 0, NEW: 0}
    world.edit_instance("chat", {"snapshot": OLD})
    await world.settle()
    report = await approved(world)
    assert (report["to"], report["throughputRatio"]) == (OLD, "NotMeasured")


async def test_s7_whoever_is_to_approve_sees_old_and_new_so_far() -> None:
    world, _ = await canary({OLD: 100, NEW: 125})
    assert "throughput" not in rollout(world), "nothing is known yet"
    await later(world, 30)
    units = 300
    so_far = {"from": f"{100 * 100 / units:.3f}", "to": f"{125 * 100 / units:.3f}", "ratio": "1.250"}
    assert rollout(world)["throughput"] == so_far

    world.kill_operators()
    world.start_operator()
    await world.settle()
    assert rollout(world)["throughput"] == so_far, "it stays, as the last thing known"
    await approved(world)
    assert "throughput" not in rollout(world)
    assert world.get_instance("chat")["status"]["upgradeReport"]["throughputRatio"] == "1.250"


async def test_i8_what_is_seen_so_far_is_written_once_a_minute_at_most_and_only_if_it_differs() -> None:
    world, counters = await canary({OLD: 100, NEW: 200})
    await later(world, 30)
    world.cluster.writes.clear()
    counters.per_second = {OLD: 100, NEW: 100}
    for _ in range(5):
        await later(world, 5)
    assert world.writes() == []
    await later(world, 60)
    written = len(world.cluster.writes)
    assert written >= 1
    for _ in range(12):
        await later(world, 5)
    assert len(world.cluster.writes) <= written + 1


async def test_i8_nothing_is_written_while_it_looks() -> None:
    world, counters = await canary({OLD: 100, NEW: 200})
    await later(world, 30)  # what is known then is told once
    looks, writes = len(counters.asked), len(world.cluster.writes)
    await later(world, 30)
    assert len(counters.asked) > looks
    assert len(world.cluster.writes) == writes


async def test_s7_the_path_is_the_offerings() -> None:
    world, counters = await canary({OLD: 100, NEW: 200})
    serving = {"spec": {"reserved": {"serving": {"metricsPath": "/of/its/own"}}}}
    world.cluster.user_patch(Ref(MODEL_OFFERINGS, "", "gpt-4-turbo"), serving)
    await later(world, 30)
    assert counters.asked[-1].endswith("/of/its/own")

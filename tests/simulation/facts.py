"""What the checker and the judge read from objects, by code of their own: it shares nothing with what it judges."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from reserved_capacity.ports import JsonObject

CLAIMS = "reservedcapacity.io/claims"
MEMBER = "reservedcapacity.io/member"
POOL = "reservedcapacity.io/pool"
INSTANCE = "reservedcapacity.io/instance"
PREFETCH = "reservedcapacity.io/prefetch"
SNAPSHOT = "reservedcapacity.io/snapshot"
GPU = "nvidia.com/gpu"

PoolName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """A holding, as the pool's status has it. `uid` is the instance's; `replaces` the member that it takes the place of."""

    member: str
    instance: str
    blocks: int
    nodes: tuple[str, ...]
    releasing: bool
    uid: str = ""
    replaces: str = ""
    version: tuple[str, str] = ("", "")
    since: str = ""

    def on(self, node: str) -> int:
        return self.blocks // len(self.nodes) if node in self.nodes else 0


def claims_on(node: JsonObject) -> dict[tuple[PoolName, str], int]:
    """Blocks by (pool, pool's uid)."""
    text = (node["metadata"].get("annotations") or {}).get(CLAIMS)
    found: dict[tuple[PoolName, str], int] = {}
    for each in json.loads(text) if text else ():
        namespace, name = each["pool"].split("/")
        key = ((namespace, name), each["uid"])
        found[key] = found.get(key, 0) + each["blocks"]
    return found


def contracted_blocks(pool: JsonObject, at: datetime) -> dict[str, int]:
    """Blocks of every commitment on record that has not ended by then, by what the record says of ends and reductions."""
    ordered = {each["id"]: each["computeUnits"] // 100 for each in pool["spec"]["commitments"]}
    found = {}
    for each in (pool.get("status") or {}).get("commitments") or ():
        ends = each["state"] == "Expiring" and datetime.fromisoformat(each["termEnd"]) <= at
        if each.get("acceptedAt") and each["state"] != "Expired" and not ends:
            reduced = [cut["computeUnits"] // 100 for cut in each.get("amendments") or () if _holds_from(cut) <= at]
            found[each["id"]] = min([ordered.get(each["id"], 0), *reduced])
    return found


def _holds_from(amendment: JsonObject) -> datetime:
    seen = datetime.fromisoformat(amendment["seenAt"])
    midnight = seen.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return max(datetime.fromisoformat(f"{amendment['at']}T00:00:00+00:00"), midnight)


def gpus_on(node: JsonObject) -> int:
    return int(node["status"]["allocatable"].get(GPU, "0"))


def held_by(pool: JsonObject) -> tuple[Held, ...]:
    return tuple(
        Held(
            each["member"],
            each["instance"],
            each["computeUnits"] // 100,
            tuple(each["nodes"]),
            each["state"] == "Releasing",
            each.get("instanceUid", ""),
            each.get("replaces", ""),
            (each.get("snapshot", ""), each.get("profile", "default")),
            each.get("since", ""),
        )
        for each in (pool.get("status") or {}).get("holdings") or ()
    )


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as the pool's status has it; `lent` are blocks beyond the contract, `places` those of a surge."""

    instance: str
    uid: str
    state: str
    source: tuple[str, str]
    target: tuple[str, str]
    strategy: str
    places: int
    lent: int
    vacated: tuple[str, ...]
    failed: bool
    id: int = 0
    canary_passed: bool = False

    @property
    def goes_on(self) -> bool:
        """Forth, and not back, by its author's wish or after a failure."""
        return self.state == "Running" and self.source != self.target

    @property
    def moving(self) -> bool:
        return self.state in ("Running", "RollingBack")


def rollouts_of(pool: JsonObject) -> tuple[Rollout, ...]:
    return tuple(
        Rollout(
            each["instance"],
            each.get("instanceUid", ""),
            each.get("state", "Running"),
            version_of(each["from"]),
            version_of(each["to"]),
            each.get("strategy", ""),
            each.get("surge", 0),
            each.get("borrowedComputeUnits", 0) // 100,
            tuple(each.get("vacated") or ()),
            "failure" in each,
            each["id"],
            bool(each.get("canaryPassed")),
        )
        for each in (pool.get("status") or {}).get("rollouts") or ()
    )


def window_is_open(pool: JsonObject, at: datetime) -> bool:
    """Of schedules that name a minute and one hour, or every so many, of every day; they last hours."""
    window = pool["spec"].get("maintenanceWindow")
    if not window:
        return True
    minute, hours, *rest = window["schedule"].split()
    assert rest == ["*"] * 3, "this window is not one of the simulation's"
    lasts = timedelta(hours=int(window["duration"].removesuffix("h")))
    step = int(hours.removeprefix("*/")) if "/" in hours else 24
    first = at.replace(hour=0 if "/" in hours else int(hours), minute=int(minute), second=0, microsecond=0)
    opens = [first + timedelta(hours=step * number) for number in range(-24 // step, 24 // step + 1)]
    return any(each <= at < each + lasts for each in opens)


def lent_to(pool: JsonObject) -> int:
    """Blocks beyond the contract that its rollouts may borrow (S2): until they have ended, and a halted one has not."""
    return sum(each.lent for each in rollouts_of(pool) if each.moving or each.state == "Halted")


def version_of(spec: JsonObject) -> tuple[str, str]:
    return (spec["snapshot"], spec.get("profile", "default"))


def doubled(holdings: tuple[Held, ...]) -> set[str]:
    """Members that are held only until who was made in their place serves: with that one they are one instance."""
    links = {each.replaces: each for each in holdings if each.replaces}
    known = {each.member: each for each in holdings}
    found = set()
    for name, heir in links.items():
        at = name
        while at in known and known[at].releasing and known[at].replaces:
            at = known[at].replaces
        if not heir.releasing and at in known and not known[at].releasing:
            found.add(at)
    return found


def moving(pool: JsonObject, *phases: str) -> set[str]:
    """Instances that a change set in one of these phases moves: it has steps to go, forward or back (F3, F4)."""
    return {
        name
        for each in (pool.get("status") or {}).get("changeSets") or ()
        if each["phase"] in phases and any(step.get("state", "Pending") != "Done" for step in each.get("steps") or ())
        for name in each["members"]
    }


def by_instance(holdings: tuple[Held, ...]) -> dict[str, tuple[Held, ...]]:
    names = {each.instance for each in holdings}
    return {name: tuple(each for each in holdings if each.instance == name) for name in names}


def by_node(holdings: tuple[Held, ...]) -> dict[str, int]:
    used: dict[str, int] = {}
    for each in holdings:
        for node in each.nodes:
            used[node] = used.get(node, 0) + each.on(node)
    return used


def requested_gpus(pod: JsonObject) -> int:
    return sum(int(each["resources"]["requests"].get(GPU, "0")) for each in pod["spec"]["containers"])


def label(obj: JsonObject, name: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(name, ""))


def place(obj: JsonObject) -> PoolName:
    return (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def is_ready(node: JsonObject) -> bool:
    return bool(node["status"]["conditions"][0]["status"] == "True")


def is_ready_pod(pod: JsonObject) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    going = pod["metadata"].get("deletionTimestamp")
    return not going and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def is_usable(node: JsonObject) -> bool:
    return is_ready(node) and not (node.get("spec") or {}).get("unschedulable")

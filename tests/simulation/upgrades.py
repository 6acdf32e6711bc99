"""Owns what customers do about versions: another snapshot or profile and back, how to get there, pauses, approvals, windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from reserved_capacity.ports import COMPUTE_UNIT_POOLS, MODEL_INSTANCES, JsonObject
from tests.fakes.controllers import ref_of
from tests.integration import world as catalogue

if TYPE_CHECKING:
    from tests.simulation.users import Users

BAD = "bad"  # members of this snapshot never get ready
SNAPSHOTS = ("1", "2", "3", BAD)
PROFILES = ("default", "fast")


def offering(name: str, cu: int, minimum: int) -> JsonObject:
    """With three snapshots that serve and one that does not, and two profiles."""
    body = catalogue.offering(name, cu=cu, minimum=minimum)
    first = body["spec"]["snapshots"][0]
    body["spec"]["snapshots"] = [{**first, "name": f"{name}-{each}"} for each in SNAPSHOTS]
    body["spec"]["reserved"]["serving"]["profiles"] = [{"name": "fast", "args": ["--fast"]}]
    return body


def can_serve(pod: JsonObject) -> bool:
    said = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0].get("env") or ()}
    return not said.get("MODEL_SNAPSHOT", "").endswith(f"-{BAD}")


def change_version(users: Users) -> bool:
    """Mostly to one that serves; seldom to one that nobody knows."""
    if (obj := users.any_of(MODEL_INSTANCES)) is None:
        return False
    roll, model = users.chance.random(), obj["spec"]["offering"]
    if roll < 0.06:
        spec = {"snapshot": "unknown-1"}
    elif roll < 0.25:
        spec = {"profile": users.chance.choice(PROFILES)}
    else:
        spec = {"snapshot": f"{model}-{users.chance.choices(SNAPSHOTS, (3, 3, 2, 2))[0]}"}
    return _patch(users, obj, spec)


def go_back(users: Users) -> bool:
    """What was there before is set back, in mid-rollout or after it."""
    record = _record_of(users, obj) if (obj := users.any_of(MODEL_INSTANCES)) is not None else None
    return record is not None and obj is not None and _patch(users, obj, record["from"])


def choose_strategy(users: Users) -> bool:
    if (obj := users.any_of(MODEL_INSTANCES)) is None:
        return False
    chance = users.chance
    return _patch_upgrade(
        users,
        obj,
        {
            "strategy": chance.choice(("Surge", "Surge", "InPlace")),
            "whenNoSpare": chance.choice(("Block", "InPlace", "InPlace", "BorrowSpare", "BorrowSpare")),
            "minAvailable": chance.choice((0, 0, 1, 1, 2)),
            "maxSurge": chance.choice((1, 1, 2, 3)),
            "acceptBelowMinimum": chance.random() < 0.4,
            "progressDeadline": chance.choice(("5m", "20m", "45m")),
            "onFailure": chance.choice(("Rollback", "Rollback", "Halt")),
        },
    )


def pause(users: Users) -> bool:
    obj = users.any_of(MODEL_INSTANCES)
    return obj is not None and _patch_upgrade(users, obj, {"paused": users.chance.random() < 0.4})


def choose_canary(users: Users) -> bool:
    if (obj := users.any_of(MODEL_INSTANCES)) is None:
        return False
    canary: JsonObject | None = None
    if users.chance.random() < 0.7:
        approval = users.chance.choice(("Manual", "Timer"))
        canary = {"instances": users.chance.choice((1, 1, 2)), "hold": "10m", "approval": approval}
    return _patch_upgrade(users, obj, {"canary": canary})


def approve(users: Users) -> bool:
    for obj in users.cluster.all_stored(MODEL_INSTANCES):
        rollout = (obj.get("status") or {}).get("rollout") or {}
        if rollout.get("phase") == "AwaitingApproval":
            return _patch_upgrade(users, obj, {"canary": {"approvedRollout": rollout["id"]}})
    return False


def set_window(users: Users) -> bool:
    """Every other hour, each day, or none."""
    if (obj := users.any_of(COMPUTE_UNIT_POOLS)) is None:
        return False
    schedule = users.chance.choice((None, "0 */2 * * *", "0 12 * * *"))
    window = {"schedule": schedule, "duration": "1h"} if schedule else None
    users.cluster.user_patch(ref_of(COMPUTE_UNIT_POOLS, obj), {"spec": {"maintenanceWindow": window}})
    return True


def _patch_upgrade(users: Users, obj: JsonObject, upgrade: Mapping[str, Any]) -> bool:
    return _patch(users, obj, {"upgrade": dict(upgrade)})


def _patch(users: Users, obj: JsonObject, spec: Mapping[str, Any]) -> bool:
    users.cluster.user_patch(ref_of(MODEL_INSTANCES, obj), {"spec": dict(spec)})
    return True


def _record_of(users: Users, instance: JsonObject) -> JsonObject | None:
    metadata, spec = instance["metadata"], instance["spec"]
    for pool in users.cluster.all_stored(COMPUTE_UNIT_POOLS):
        if pool["metadata"]["name"] == spec["poolRef"]:
            for each in (pool.get("status") or {}).get("rollouts") or ():
                if each["instance"] == metadata["name"]:
                    found: JsonObject = each
                    return found
    return None


UPGRADES: Mapping[str, Callable[[Users], bool]] = {
    "change_version": change_version,
    "go_back": go_back,
    "choose_strategy": choose_strategy,
    "pause": pause,
    "choose_canary": choose_canary,
    "approve": approve,
    "set_window": set_window,
}
WEIGHTS: Mapping[str, float] = {
    "change_version": 8,
    "go_back": 1.5,
    "choose_strategy": 4,
    "pause": 0.7,
    "choose_canary": 1,
    "approve": 2,
    "set_window": 0.4,
}

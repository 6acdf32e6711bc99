"""Owns the verdict on the rollouts of a settled world: everybody runs the target, or its rollout says truly why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reserved_capacity.ports import JsonObject
from tests.simulation.facts import Held, Rollout, rollouts_of, version_of
from tests.simulation.sightings import Violation

_GOING = ("Prefetching", "Canary", "Progressing", "RollingBack", "AwaitingWindow")


@dataclass(frozen=True, slots=True)
class Around:
    """What of the world bears on one rollout. `fits`: is there room for one more member, whoever may want it? `calm`:
    nothing is on its way out, and every node that holds something serves. `running` members serve, of the offering
    `together`, which shall have `minimum`; `serving` are their names."""

    fits: bool
    calm: bool
    running: int
    together: int
    minimum: int
    serving: frozenset[str]


def is_going(instance: JsonObject) -> bool:
    """Time alone brings it on."""
    return ((instance.get("status") or {}).get("rollout") or {}).get("phase") in _GOING


def judge_rollout(obj: JsonObject, pool: JsonObject, held: Sequence[Held], around: Around) -> None:
    """Raises Violation."""
    says = {each["type"]: each for each in obj["status"]["conditions"]}["UpToDate"]
    name, target = obj["metadata"]["name"], version_of(obj["spec"])
    record = next((each for each in rollouts_of(pool) if each.instance == name), None)
    differs = any(each.version != target for each in held)
    if not differs and (record is None or not record.moving):
        halted = record is not None and record.state == "Halted" and record.failed
        if says["status"] != "True" and not halted:
            raise Violation("true reason", f"{name} runs what it asks for: {says}")
        return
    phase = ((obj.get("status") or {}).get("rollout") or {}).get("phase", "Idle")
    if says["status"] == "True":
        raise Violation("true reason", f"{name} does not run {'/'.join(target)}: {says}")
    if around.calm and not _is_true(obj, phase, record, held, around):
        raise Violation("true reason", f"{name} is {phase} in its rollout: {says['message']}")


def _is_true(obj: JsonObject, phase: str, record: Rollout | None, held: Sequence[Held], around: Around) -> bool:
    upgrade = obj["spec"].get("upgrade") or {}
    canary = upgrade.get("canary") or {}
    match phase:
        case "Idle":
            return record is not None and record.state == "RolledBack" and record.failed
        case "Halted":
            return record is not None and record.state == "Halted" and record.failed
        case "Paused":
            return bool(upgrade.get("paused"))
        case "AwaitingApproval":
            approved = canary.get("approvedRollout", 0) == obj["status"]["rollout"]["id"]
            return canary.get("approval", "Manual") == "Manual" and bool(canary) and not approved
        case "Blocked":
            return not _could_go_on(obj, record, held, around)
        case _:
            return False


def _could_go_on(obj: JsonObject, record: Rollout | None, held: Sequence[Held], around: Around) -> bool:
    """Brute force: is there room for one more, or may one be stopped?"""
    upgrade, desired = obj["spec"].get("upgrade") or {}, obj["spec"]["instances"]
    in_place = "InPlace" in (upgrade.get("strategy", "Surge"), record.strategy if record is not None else "")
    # Whose successor serves goes, whatever the strategy; and it has a place of a surge until then.
    names = {each.member for each in held}
    followed = sum(each.replaces in names and each.member in around.serving for each in held)
    if not in_place and around.fits and followed < (record.places if record is not None and record.places else 1):
        return True
    may = in_place or followed > 0 or upgrade.get("whenNoSpare", "Block") == "InPlace"
    enough = around.running - 1 >= min(desired, upgrade.get("minAvailable", desired))
    together = bool(upgrade.get("acceptBelowMinimum")) or around.together - 1 >= around.minimum
    return may and enough and together

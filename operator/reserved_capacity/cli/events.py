"""The Kubernetes events around one object: its own, and those of its members and their pods. Pure."""

from __future__ import annotations

from datetime import datetime

from reserved_capacity.api.base import ApiObject
from reserved_capacity.api.meta import Kind
from reserved_capacity.cli.layout import length
from reserved_capacity.cli.sections import Section
from reserved_capacity.cli.world import World
from reserved_capacity.ports import EVENTS, PODS, STATEFUL_SETS, JsonObject
from reserved_capacity.snapshot import timestamp
from reserved_capacity.store import BY_INSTANCE

_SHOWN = 8


def events_section(world: World, obj: ApiObject) -> list[Section]:
    """The newest events, the newest last; nothing where there is none."""
    about = _about(world, obj)
    found = [event for event in world.store.all(EVENTS) if _regarding(event) in about]
    newest = sorted(found, key=_when)[-_SHOWN:]
    if not newest:
        return []
    rows = tuple(_row(event, world.now) for event in newest)
    return [Section("Events", columns=("WHEN", "TYPE", "REASON", "OBJECT", "MESSAGE"), rows=rows)]


def _about(world: World, obj: ApiObject) -> set[tuple[str, str]]:
    about = {(obj.kind, obj.name)}
    if obj.kind == Kind.MODEL_INSTANCE:
        pods = world.store.by(BY_INSTANCE, PODS, (obj.namespace, obj.name))
        names = [pod["metadata"]["name"] for pod in pods]
        about |= {("Pod", name) for name in names}
        # A member's one pod has its name and the ordinal 0.
        about |= {(STATEFUL_SETS.kind, name.removesuffix("-0")) for name in names}
        about |= {("Service", obj.name), ("PodDisruptionBudget", obj.name)}
    return about


def _regarding(event: JsonObject) -> tuple[str, str]:
    regarding = event.get("regarding") or {}
    return regarding.get("kind", ""), regarding.get("name", "")


def _when(event: JsonObject) -> datetime:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime"))
    return timestamp(next((each for each in times if each), event["metadata"]["creationTimestamp"]))


def _row(event: JsonObject, now: datetime) -> tuple[str, ...]:
    kind, name = _regarding(event)
    count = (event.get("series") or {}).get("count") or event.get("deprecatedCount") or 1
    times = f" (x{count})" if count > 1 else ""
    age = f"{length(now - _when(event))} ago{times}"
    return (age, event.get("type", ""), event.get("reason", ""), f"{kind.lower()}/{name}", event.get("note", ""))

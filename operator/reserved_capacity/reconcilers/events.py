"""Events for people: one whenever an object begins to need somebody, that is, Ready turns False or for another reason,
and one for each notice of a commitment's end or of a snapshot's.

Only on that transition, so `kubectl describe` tells what happened and nobody is flooded. Nothing reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reserved_capacity.domain.holdings import BlockedMove
from reserved_capacity.domain.instance_conditions import explain_move
from reserved_capacity.domain.notices import Notice
from reserved_capacity.domain.snapshot_supported import SnapshotNotice
from reserved_capacity.ports import EVENTS, JsonObject

_NOTE_LENGTH = 1024  # the API server's limit


def of_transition(
    obj: JsonObject, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], now: datetime
) -> JsonObject | None:
    """The Event to post when an object's conditions turn from `before` to `after`; None for no such transition."""
    old, new = _ready(before), _ready(after)
    if new["status"] != "False" or (old["status"], old["reason"]) == ("False", new["reason"]):
        return None
    return _event(obj, new["reason"], new["message"], now)


def of_blocked_move(obj: JsonObject, move: BlockedMove, now: datetime) -> JsonObject:
    """The Event that tells whoever drains a node why it does not come to an end (N3)."""
    return _event(obj, "MoveBlocked", explain_move(move), now)


def of_notice(obj: JsonObject, notice: Notice, now: datetime, *, renews: bool) -> JsonObject:
    """The Event of a notice, under a name that follows from the notice: two operators post it once."""
    follows = (
        "another term follows without a gap" if renews else "it is not renewed: add a commitment to keep the capacity"
    )
    return _event(obj, "CommitmentEnds", f"{notice.message}; {follows}", now, key=notice.key, warns=not renews)


def of_snapshot(obj: JsonObject, notice: SnapshotNotice, now: datetime) -> JsonObject:
    """The Event of what is due in the life of the snapshot that the object pins; its name follows from the words."""
    return _event(obj, notice.reason, notice.message, now, key=notice.message, warns=notice.warns)


def _event(obj: JsonObject, reason: str, note: str, now: datetime, *, key: str = "", warns: bool = True) -> JsonObject:
    metadata = obj["metadata"]
    moment = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    digest = hashlib.sha256(f"{metadata['uid']} {reason} {key or moment}".encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        # Events about cluster-scoped objects live in `default`, as Kubernetes' own do.
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata.get("namespace") or "default"},
        "eventTime": moment,
        "type": "Warning" if warns else "Normal",
        "reason": reason,
        "action": "Reconcile",
        "note": note[:_NOTE_LENGTH],
        "reportingController": "reservedcapacity.io/operator",
        "reportingInstance": "reserved-capacity",
        "regarding": {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    }


def _ready(conditions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    absent = {"status": "", "reason": "", "message": ""}
    return next((each for each in conditions if each["type"] == "Ready"), absent)

"""Why a member's pod does not serve, in one phrase, and when it is evicted. Pure, over raw Pod objects."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from reserved_capacity.ports import JsonObject
from reserved_capacity.snapshot import timestamp


def trouble_of(pods: list[JsonObject]) -> str:
    """What keeps the first pod that has something to say from serving; empty where none has."""
    return next((found for pod in pods if (found := _trouble(pod))), "")


def evicted_at(pods: Iterable[JsonObject], node: JsonObject) -> datetime | None:
    """When the last of these pods is evicted for what their node is tainted with: a failed node is replaced after that (N1).
    None: no pod waits for it."""
    taints = [each for each in (node.get("spec") or {}).get("taints") or () if each["effect"] == "NoExecute"]
    ends = (_tolerates_until(pod, taints) for pod in pods)
    return max((end for end in ends if end is not None), default=None)


def _tolerates_until(pod: JsonObject, taints: list[dict[str, Any]]) -> datetime | None:
    ends = [
        timestamp(taint["timeAdded"]) + timedelta(seconds=each["tolerationSeconds"])
        for taint in taints
        for each in pod["spec"].get("tolerations") or ()
        if each.get("key") == taint["key"] and "tolerationSeconds" in each and "timeAdded" in taint
    ]
    return min(ends, default=None)


def _trouble(pod: JsonObject) -> str:
    metadata, status = pod["metadata"], pod.get("status") or {}
    if metadata.get("deletionTimestamp"):
        finalizers = ", ".join(metadata.get("finalizers") or ())
        held = f", held by finalizers {finalizers}" if finalizers else ""
        return f"pod {metadata['name']} is terminating, due at {metadata['deletionTimestamp']}{held}"
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    trouble = next((found for each in containers if (found := _container(each))), "") or _unscheduled(status)
    return f"pod {metadata['name']}: {trouble}" if trouble else ""


def _container(status: dict[str, Any]) -> str:
    waiting = (status.get("state") or {}).get("waiting") or {}
    ended = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated") or {}
    parts = []
    if waiting.get("reason") and waiting["reason"] != "PodInitializing":
        parts.append(_phrase(waiting["reason"], waiting.get("message")))
    if ended.get("exitCode"):
        parts.append(_phrase(f"exited {ended['exitCode']} ({ended.get('reason', 'Error')})", ended.get("message")))
    if status.get("restartCount"):
        parts.append(f"{status['restartCount']} restarts")
    return f"container {status['name']} {', '.join(parts)}" if parts else ""


def _unscheduled(status: dict[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _phrase(condition.get("reason", "Unschedulable"), condition.get("message"))
    return ""


def _phrase(reason: str, message: str | None) -> str:
    return f"{reason}: {message.strip()}" if message else reason

"""Compares what an account may do with what it did: RBAC rules on one side, the API server's audit log on the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from e2e.cluster import audit

_REFUSED = (401, 403)


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource, written as kubectl does: `patch` on `computeunitpools.reservedcapacity.io/status`."""

    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


def granted(rules: Iterable[dict[str, Any]]) -> set[Right]:
    """Every single right that the rules of Roles and ClusterRoles add up to."""
    return {
        Right(_qualified(resource, group), verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _qualified(resource: str, group: str) -> str:
    plain, slash, subresource = resource.partition("/")
    return f"{plain}.{group}{slash}{subresource}" if group else resource


@dataclass(frozen=True)
class Use:
    """What an account asked for. Requests without a resource (discovery) need no right of its own."""

    used: frozenset[Right]
    refused: tuple[audit.Event, ...]


def used(log: Path, user: str, since: datetime) -> Use:
    """What `user` was allowed to do since then, and every request that was refused."""
    done: set[Right] = set()
    refused: list[audit.Event] = []
    for event in audit.events(log, user, since):
        if event.code in _REFUSED:
            refused.append(event)
        elif event.resource:
            done.add(Right(event.resource, event.verb))
    return Use(frozenset(done), tuple(refused))

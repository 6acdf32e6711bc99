"""What an instance shall run: what its spec says, or the replacement, where it has opted in (behaviour.md S1, S8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reserved_capacity.domain.lifecycle import LifecycleDates
from reserved_capacity.domain.terms import start_of
from reserved_capacity.domain.versions import Version


class AutoUpgrade(StrEnum):
    """When the operator may move the instance to the replacement snapshot."""

    NEVER = "Never"
    AT_DEPRECATION = "AtDeprecation"
    AT_RETIREMENT = "AtRetirement"


@dataclass(frozen=True, slots=True)
class Listed:
    """A snapshot as its offering lists it; `replacement` is empty where none is named."""

    dates: LifecycleDates
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """`because` tells why it is not what the spec says, and is empty where it is. `changes_at`: when it changes by itself."""

    version: Version
    because: str = ""
    changes_at: datetime | None = None


def effective_target(pinned: Version, catalogue: Mapping[str, Listed], policy: AutoUpgrade, *, now: datetime) -> Target:
    """Follow replacements from the pinned snapshot for as long as the moment of the one at hand has come.

    A replacement that is not listed, or leads back, is not followed: better an old snapshot than a guess. The profile
    stays.
    """
    snapshot, seen = pinned.snapshot, {pinned.snapshot}
    moment = _moment(catalogue.get(snapshot), policy)
    while moment is not None and moment <= now:
        following = catalogue[snapshot].replacement
        if following not in catalogue or following in seen:
            moment = None
            break
        seen.add(following)
        snapshot = following
        moment = _moment(catalogue.get(snapshot), policy)
    because = ""
    if snapshot != pinned.snapshot:
        because = f"spec.upgrade.autoUpgrade is {policy.value}: {pinned.snapshot} gives way to {snapshot}"
    onward = moment is not None and catalogue[snapshot].replacement in catalogue
    return Target(Version(snapshot, pinned.profile), because, moment if onward else None)


def _moment(listed: Listed | None, policy: AutoUpgrade) -> datetime | None:
    """When a snapshot gives way to its replacement; None: never."""
    if listed is None or policy is AutoUpgrade.NEVER:
        return None
    retires = listed.dates.retires_at
    if policy is AutoUpgrade.AT_RETIREMENT or listed.dates.deprecated_from is None:
        return retires
    deprecated = start_of(listed.dates.deprecated_from)
    return deprecated if retires is None else min(deprecated, retires)

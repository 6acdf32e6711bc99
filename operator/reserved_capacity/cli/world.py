"""Owns what a command reads: LISTs, concurrently, into a store; and what to do about those that RBAC refuses.

Everything after this is pure: the views are built from a World.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reserved_capacity.cli.connection import Reader
from reserved_capacity.cli.errors import NotAllowed
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    NODES,
    PODS,
    TOKEN_UNIT_RESERVATIONS,
    Listing,
    Resource,
)
from reserved_capacity.settings import LEASE_NAME
from reserved_capacity.snapshot import INDEXES, timestamp
from reserved_capacity.store import FOREIGN_PODS, LABEL_SELECTORS, NOT_MANAGED_BY, Store
from reserved_capacity.trimming import foreign_gpu_pods, without_bookkeeping

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
_LEASE_GRACE_SECONDS = 60  # the clocks of two machines differ


@dataclass(frozen=True, slots=True)
class Want:
    """One LIST. `optional`: the command is of use without it."""

    resource: Resource
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """What was read, when, and what RBAC did not let us read."""

    store: Store
    now: datetime
    server: str = ""
    unread: frozenset[Resource] = frozenset()


@dataclass(slots=True)
class Progress:
    """What is being waited for, for whoever shows it."""

    server: str = ""
    pending: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        what = ", ".join(self.pending)
        return f"reading {what} from {self.server}" if what else "connecting"


async def read(reader: Reader, wants: Sequence[Want], progress: Progress) -> World:
    """All LISTs at once. Raises CliError; an optional one that RBAC refuses is `unread`."""
    progress.server = reader.server
    store = Store(INDEXES, trim=without_bookkeeping)
    unread: set[Resource] = set()

    async def one(want: Want) -> None:
        progress.pending.append(want.resource.plural)
        try:
            store.replace(want.resource, await _listed(reader, want))
        except NotAllowed:
            if not want.optional:
                raise
            unread.add(want.resource)
        progress.pending.remove(want.resource.plural)

    # All are waited for, so that of several failures the same one is reported each time: the first that was wanted.
    for outcome in await asyncio.gather(*map(one, wants), return_exceptions=True):
        if outcome is not None:
            raise outcome
    return World(store, datetime.now(UTC).replace(microsecond=0), reader.server, frozenset(unread))


async def _listed(reader: Reader, want: Want) -> Listing:
    if want.resource == FOREIGN_PODS:
        listing = await reader.list(PODS, namespace=want.namespace, label_selector=NOT_MANAGED_BY)
        return foreign_gpu_pods(listing, frozenset())
    selector = want.label_selector or LABEL_SELECTORS.get(want.resource, "")
    return await reader.list(
        want.resource, namespace=want.namespace, label_selector=selector, field_selector=want.field_selector
    )


def status_wants(namespace: str) -> list[Want]:
    """What the status screen of a namespace needs; of all namespaces when it is empty."""
    return [
        Want(COMPUTE_UNIT_POOLS, namespace),
        Want(MODEL_INSTANCES, namespace),
        Want(TOKEN_UNIT_RESERVATIONS, namespace, optional=True),
        Want(PODS, namespace, optional=True),
        Want(ACCELERATOR_CLASSES, optional=True),
        Want(NODES, optional=True),
        lease_want(),
    ]


def instance_wants(namespace: str) -> list[Want]:
    """What the screen of one instance needs; those of the namespace are listed to name what is near."""
    return [
        Want(MODEL_INSTANCES, namespace),
        Want(COMPUTE_UNIT_POOLS, namespace, optional=True),
        Want(MODEL_OFFERINGS, optional=True),
        Want(PODS, namespace, optional=True),
        lease_want(),
    ]


def lease_want() -> Want:
    return Want(LEASES, field_selector=f"metadata.name={LEASE_NAME}", optional=True)


def unread_notes(world: World) -> tuple[str, ...]:
    """What is missing on the screen, and why. The Lease is nobody's business but the provider's."""
    missing = ", ".join(str(resource) for resource in sorted(world.unread - {LEASES, FOREIGN_PODS}))
    return (f"Not looked at, since you may not list them: {missing}.",) if missing else ()


def operator_note(world: World) -> str:
    """A warning where the operator's Lease shows that nobody works; empty where it is held or cannot be read."""
    leases = [lease.get("spec") or {} for lease in world.store.all(LEASES)]
    renewed = max((timestamp(each["renewTime"]) for each in leases if each.get("renewTime")), default=None)
    if renewed is None:
        return ""
    seconds = max(int(each.get("leaseDurationSeconds") or 0) for each in leases)
    age = (world.now - renewed).total_seconds()
    held = any(each.get("holderIdentity") for each in leases)
    if age <= seconds + _LEASE_GRACE_SECONDS and held:
        return ""
    return (
        f"No operator has held the Lease {LEASE_NAME} since {renewed:%Y-%m-%d %H:%M:%S}Z: unless one runs with "
        "--leader-elect=false, all that is shown here is as old."
    )

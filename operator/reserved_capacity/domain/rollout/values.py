"""What a rollout is planned from, what goes on record of it, and what it says of itself (behaviour.md S2, S4-S6).

Where the members are is read from the holdings. On record is only what they cannot tell: what the rollout is about,
what was chosen when its first member moved, what has served, and how it ended (ADR 0030).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from reserved_capacity.domain.holdings import HoldingsPlan
from reserved_capacity.domain.versions import Version


class Strategy(StrEnum):
    """How members are moved."""

    SURGE = "Surge"
    IN_PLACE = "InPlace"


class WhenNoSpare(StrEnum):
    """What a rollout does when the pool has no spare compute units."""

    BLOCK = "Block"
    IN_PLACE = "InPlace"
    BORROW_SPARE = "BorrowSpare"


class OnFailure(StrEnum):
    """What follows a failed step."""

    ROLLBACK = "Rollback"
    HALT = "Halt"


class Approval(StrEnum):
    """Who lets a canary go on."""

    MANUAL = "Manual"
    TIMER = "Timer"


class RolloutPhase(StrEnum):
    """Where a rollout is."""

    IDLE = "Idle"
    PREFETCHING = "Prefetching"
    BLOCKED = "Blocked"
    AWAITING_WINDOW = "AwaitingWindow"
    AWAITING_APPROVAL = "AwaitingApproval"
    PAUSED = "Paused"
    CANARY = "Canary"
    PROGRESSING = "Progressing"
    ROLLING_BACK = "RollingBack"
    HALTED = "Halted"


class RolloutState(StrEnum):
    """What has become of a rollout, as it stands on record."""

    RUNNING = "Running"
    ROLLING_BACK = "RollingBack"
    HALTED = "Halted"
    ROLLED_BACK = "RolledBack"
    DONE = "Done"


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window as it is now: open or not, and when that changes next (None: never)."""

    open: bool = True
    changes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Canary:
    """So many instances first; then a person approves the rollout by its id, or they have served for `hold`."""

    instances: int = 1
    hold: timedelta = timedelta(minutes=30)
    approval: Approval = Approval.MANUAL
    approved_rollout: int = 0


@dataclass(frozen=True, slots=True)
class Prefetched:
    """Where the target's artifact is, and where pulling it failed, with the reason, by node (S3)."""

    nodes: frozenset[str] = frozenset()
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """What one ModelInstance asks for, and what is known of it outside the pool.

    `target` is what it shall run, `because` why that is not what its spec says, and `changes_at` when it changes by itself
    (target.py). `held_back` says why no step may begin that has nothing to do with
    rollouts: its spec is refused, or its change set is under way. `prefetched` None: nobody looks after artifacts,
    or nothing of it moves.
    `causes` tell of members that do not serve what their pods say.
    """

    instance: str
    generation: int
    target: Version
    strategy: Strategy = Strategy.SURGE
    when_no_spare: WhenNoSpare = WhenNoSpare.BLOCK
    max_surge: int = 1
    paused: bool = False
    canary: Canary | None = None
    on_failure: OnFailure = OnFailure.ROLLBACK
    progress_deadline: timedelta = timedelta(minutes=45)
    window: Window = Window()
    suspended: bool = False
    because: str = ""
    changes_at: datetime | None = None
    held_back: str = ""
    prefetched: Prefetched | None = None
    causes: Mapping[str, str] = field(default_factory=dict)

    @property
    def attempt(self) -> str:
        """A digest of all that bears on success: a failed rollout is tried again when it changes. Neither a pause nor an
        approval is another attempt."""
        canary = (self.canary.instances, self.canary.hold, self.canary.approval) if self.canary else None
        bearing = (
            (self.target.snapshot, self.target.profile, self.strategy.value, self.when_no_spare.value, self.max_surge),
            (self.on_failure.value, self.progress_deadline, canary),
        )
        return hashlib.sha256(repr(bearing).encode()).hexdigest()[:10]


PROGRESS_DEADLINE_EXCEEDED: Final = "ProgressDeadlineExceeded"
ROLLBACK_FAILED: Final = "RollbackFailed"


@dataclass(frozen=True, slots=True)
class Failure:
    """The member because of which a rollout was stopped. `reason`: it did not come up in time, or it was to bring the old
    version back and did not."""

    member: str
    reason: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """One rollout: the one that runs, or the last one of its instance. Written with the holdings, in one write.

    `source` is what goes back in if it fails: what the instance ran when nothing was under way. A rollout whose target
    is its source undoes one that was under way. `strategy` (with `surge` places and `why`) is chosen when the first
    member moves; `borrowed` are the blocks that it wants beyond the contract. `vacated` are members that were stopped and whose place is not taken yet; `starting` are new members
    that have not served yet; `unready_since` is since when one that has served does not.
    """

    instance: str
    instance_uid: str
    id: int
    source: Version
    target: Version
    started_at: datetime
    attempt: str
    state: RolloutState = RolloutState.RUNNING
    strategy: Strategy | None = None
    surge: int = 0
    borrowed: int = 0
    why: str = ""
    vacated: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()
    unready_since: datetime | None = None
    canary_since: datetime | None = None
    canary_passed: bool = False
    failure: Failure | None = None
    ended_at: datetime | None = None

    @property
    def goes_back(self) -> bool:
        """Did its author set the old version back while a rollout was under way?"""
        return self.source == self.target

    @property
    def moving(self) -> bool:
        return self.state in (RolloutState.RUNNING, RolloutState.ROLLING_BACK)

    @property
    def failed(self) -> bool:
        return self.state in (RolloutState.ROLLING_BACK, RolloutState.HALTED, RolloutState.ROLLED_BACK)

    @property
    def toward(self) -> Version:
        """What members move to now, or would if it had not halted."""
        back = (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK)
        return self.source if self.state in back else self.target


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """What a ModelInstance says of its rollout (api.md, `status.rollout`). `next_moment` is when to plan again.

    `prefetch` are nodes that will need the artifact of `target` and do not have it, `unpulled` says why of those where it
    could not be pulled.
    """

    phase: RolloutPhase
    target: Version
    record: RolloutRecord | None = None
    strategy: Strategy | None = None
    why: str = ""
    step: str = ""
    blocked_on: str = ""
    next_moment: datetime | None = None
    prefetch: tuple[str, ...] = ()
    unpulled: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutsPlan:
    """The pool's holdings from now on, and all that goes with them.

    `holdings` is what plan_holdings says, rollouts included."""

    holdings: HoldingsPlan
    records: tuple[RolloutRecord, ...]
    reports: Mapping[str, RolloutReport]
    next_moment: datetime | None = None

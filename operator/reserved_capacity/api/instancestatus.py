"""Status of a ModelInstance: members, rollout, and what it measured."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from reserved_capacity.api.base import ApiModel, ListMap, ListType
from reserved_capacity.api.conditions import StatusModel
from reserved_capacity.api.fields import (
    INT32_MAX,
    ComputeUnits,
    Count,
    Long,
    Month,
    NodeName,
    Percent,
    Text,
    ThroughputRatio,
    Timestamp,
    Word,
)
from reserved_capacity.domain.downtime import Cause
from reserved_capacity.domain.lifecycle import Lifecycle
from reserved_capacity.domain.rollout.values import RolloutPhase, Strategy

MAX_STATUS_MEMBERS: Final = 100


class MemberPhase(StrEnum):
    """Where one member is in its life."""

    PENDING = "Pending"
    STARTING = "Starting"
    AVAILABLE = "Available"
    UNAVAILABLE = "Unavailable"
    TERMINATING = "Terminating"


class InstanceCounts(ApiModel):
    """Instances, counted."""

    desired: Count = 0
    """Instances that the spec asks for."""
    held: Count = 0
    """Instances that hold compute units."""
    available: Count = 0
    """Instances whose endpoint serves."""
    updated: Count = 0
    """Instances on the snapshot and profile of the spec."""
    updated_available: Count = 0
    """Instances on the snapshot and profile of the spec whose endpoint serves."""


class SnapshotView(ApiModel):
    """The snapshot that is served, and what is known about its future."""

    current: Word | None = None
    """Snapshot that the members run."""
    target: Word | None = None
    """Snapshot that a rollout moves to."""
    previous: Word | None = None
    """Snapshot that ran before the current one."""
    lifecycle: Lifecycle | None = None
    """Preview, Active, Deprecated or Retired."""
    retires_at: Timestamp | None = None
    """When the current snapshot retires. Absent: not announced."""
    days_to_retirement: Annotated[int, Field(ge=-INT32_MAX, le=INT32_MAX)] | None = None
    """Whole days until then; negative when past."""
    replacement: Word | None = None
    """Snapshot to move to."""
    emergency: Text | None = None
    """Why it retires earlier than was promised. Absent: it does not."""


class RolloutThroughput(ApiModel):
    """What old and new members make while both serve, in output tokens per working second and 100 compute units."""

    from_: Annotated[ThroughputRatio | None, Field(alias="from")] = None
    """Of the old version, a decimal string."""
    to: ThroughputRatio | None = None
    """Of the new version, a decimal string."""
    ratio: ThroughputRatio | None = None
    """New divided by old, a decimal string."""


class RolloutStatus(ApiModel):
    """The rollout that runs, or the last one."""

    id: Long = 0
    """metadata.generation that started it. 0: none yet."""
    phase: RolloutPhase = RolloutPhase.IDLE
    """Idle, Prefetching, Blocked, AwaitingWindow, AwaitingApproval, Paused, Canary, Progressing, RollingBack, Halted."""
    strategy: Strategy | None = None
    """Strategy that the planner chose."""
    why: Text | None = None
    """Why it chose it, in one sentence."""
    step: Text | None = None
    """The step that runs."""
    blocked_on: Text | None = None
    """What is missing, and what would help."""
    started_at: Timestamp | None = None
    """When it started."""
    throughput: RolloutThroughput | None = None
    """What was measured so far of the one that runs. Absent: too little, or nobody can look."""
    unavailable_seconds: Count = 0
    """Seconds of it in which fewer instances served than min(instances, minAvailable), or none. An outage is added when it
    ends."""
    unavailable_since: Timestamp | None = None
    """Since when that is so. Absent: enough serve."""


class Member(ApiModel):
    """One instance that runs or is about to: immutable in snapshot, profile and nodes."""

    name: Word
    """Name of the member and of its StatefulSet."""
    snapshot: Word = ""
    """Snapshot that it runs."""
    profile: Word = ""
    """Performance profile that it runs with."""
    nodes: Annotated[tuple[NodeName, ...], ListType("atomic"), Field(max_length=64)] = ()
    """Nodes on which it runs."""
    phase: MemberPhase
    """Pending, Starting, Available, Unavailable or Terminating."""
    since: Timestamp | None = None
    """Since when it is in this phase."""


NOT_MEASURED: Final = "NotMeasured"
"""In place of a ratio: too little was served to compare, or nobody could look."""


class UpgradeReport(ApiModel):
    """What the last rollout brought."""

    from_: Annotated[Word | None, Field(alias="from")] = None
    """Snapshot before."""
    to: Word | None = None
    """Snapshot after."""
    throughput_ratio: ThroughputRatio | None = None
    """Throughput per compute unit, new divided by old, a decimal string, from the members' own token counters while both
    served; NotMeasured when either side made fewer than 1,000 output tokens then."""
    unavailable_seconds: Count = 0
    """Seconds of it in which fewer instances served than min(instances, minAvailable), or none."""
    result: Word | None = None
    """How it ended."""


class Downtime(ApiModel):
    """Seconds in which fewer members served than min(instances, minAvailable), or none, by whose it was. An outage is added
    when it ends, when another cause takes over, and at the end of the month."""

    provider_fault: Count = 0
    """Seconds caused by the provider: failed nodes, failed servers."""
    customer_change: Count = 0
    """Seconds caused by changes of the customer; they do not count against uptime."""
    planned_maintenance: Count = 0
    """Seconds caused by planned maintenance: nodes that were cordoned, and what had to start elsewhere for it."""


class MonthOfAvailability(ApiModel):
    """Availability in one UTC month."""

    month: Month | None = None
    """UTC month, YYYY-MM."""
    uptime: Percent | None = None
    """Percent of the month (of its rest, if the instance was created in it) that is left when the downtime is taken off
    which the customer did not cause; rounded down, a decimal string. In the current month what it will be if nothing more
    happens."""
    downtime_seconds: Downtime = Downtime()
    """Seconds of downtime by who caused it."""


class Availability(MonthOfAvailability):
    """Availability of the current month. Measured from the moment at which the instance first serves."""

    counted_until: Timestamp | None = None
    """Up to when downtimeSeconds is counted: the last change, or the begin of the month."""
    cause: Cause | None = None
    """Whose the outage is that goes on since then: ProviderFault, PlannedMaintenance or CustomerChange. Absent: it serves,
    or is not meant to."""
    last_closed_month: MonthOfAvailability | None = None
    """The month before. Absent: none yet."""


class LastFailure(ApiModel):
    """The last member that did not come up."""

    member: Word
    """Name of the member."""
    reason: Word = ""
    """Why, in one word."""
    message: Text = ""
    """Why, in one sentence."""
    at: Timestamp | None = None
    """When."""


class ModelInstanceStatus(StatusModel):
    """What is served."""

    instances: InstanceCounts = InstanceCounts()
    """Instances, counted."""
    selector: Annotated[str, Field(max_length=1024)] | None = None
    """Label selector of the instance's pods, for the scale subresource."""
    compute_units: ComputeUnits = 0
    """Compute units held."""
    nodes_total: Count = 0
    """Nodes on which a member runs."""
    snapshot: SnapshotView = SnapshotView()
    """The snapshot that is served, and what is known about its future."""
    rollout: RolloutStatus = RolloutStatus()
    """The rollout that runs, or the last one."""
    members: Annotated[tuple[Member, ...], ListMap("name"), Field(max_length=MAX_STATUS_MEMBERS)] = ()
    """The first 100 members."""
    upgrade_report: UpgradeReport | None = None
    """What the last rollout brought. Absent: there was none."""
    availability: Availability | None = None
    """Availability of the current month. Absent: not measured yet."""
    endpoint: Annotated[str, Field(max_length=512)] | None = None
    """Base URL of the OpenAI-compatible API inside the cluster."""
    last_failure: LastFailure | None = None
    """The last member that did not come up. Absent: there was none."""

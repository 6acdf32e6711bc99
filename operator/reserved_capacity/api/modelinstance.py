"""ModelInstance: a model served on a pool. Its status is in `instancestatus`."""

from datetime import timedelta
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from reserved_capacity.api import meta
from reserved_capacity.api.base import (
    AGE,
    ApiModel,
    ApiObject,
    Column,
    Rule,
    ScalePaths,
    condition_column,
    immutable,
    reason_column,
)
from reserved_capacity.api.fields import INSTANCE_NAME, Duration, Label, Long, OfferingName, Subdomain, Token
from reserved_capacity.api.instancestatus import ModelInstanceStatus
from reserved_capacity.domain.rollout.target import AutoUpgrade
from reserved_capacity.domain.rollout.values import Approval, OnFailure, Strategy, WhenNoSpare

MAX_INSTANCES: Final = 1000


class ChangeSet(ApiModel):
    """Moves this instance together with others of the same pool, all or nothing."""

    id: Token
    """Id that all members of the set carry. A new id is a new set."""
    members: Annotated[int, Field(ge=2, le=20)]
    """How many ModelInstances belong to the set, 2 to 20. Nothing moves until all have arrived."""


class Canary(ApiModel):
    """Moves some instances first and waits."""

    instances: Annotated[int, Field(ge=1, le=MAX_INSTANCES)] = 1
    """How many instances move first. Default: 1."""
    hold: Duration = timedelta(minutes=30)
    """How long the canary serves before the rollout may go on. Default: 30m."""
    approval: Approval = Approval.MANUAL
    """Manual: it goes on when approvedRollout is set. Timer: after `hold`. Default: Manual."""
    approved_rollout: Long = 0
    """The status.rollout.id that may go on; approval is a change of the spec, so it is in Git. Default: 0, none."""


class Upgrade(ApiModel):
    """How members move to another snapshot or profile."""

    rules: ClassVar = (
        Rule(
            "(self.strategy != 'InPlace' && self.whenNoSpare != 'InPlace') || has(self.minAvailable)",
            "spec.upgrade.minAvailable must be given with strategy or whenNoSpare InPlace: in place means serving with "
            "fewer instances meanwhile, state how many must stay",
            field_path=".minAvailable",
        ),
    )

    strategy: Strategy = Strategy.SURGE
    """Surge: the new member serves before the old one goes, which takes spare compute units. InPlace: one by one, down to
    minAvailable. Default: Surge."""
    when_no_spare: WhenNoSpare = WhenNoSpare.BLOCK
    """What Surge does without spare compute units. Block: touch nothing and say what is missing. InPlace: one by one,
    down to minAvailable. BorrowSpare: take unclaimed units of the class, unbilled, until the rollout ends. Default:
    Block."""
    max_surge: Annotated[int, Field(ge=1, le=MAX_INSTANCES)] = 1
    """Instances that may exist above spec.instances during a rollout, at least 1. Default: 1."""
    min_available: Annotated[int, Field(ge=0, le=MAX_INSTANCES)] | None = None
    """Instances that keep serving during a rollout. Default: spec.instances; more than that counts as that. Must be given
    with InPlace."""
    accept_below_minimum: bool = False
    """Allow fewer serving instances than the offering's minimum during a rollout, move or drain. Default: false."""
    auto_upgrade: AutoUpgrade = AutoUpgrade.NEVER
    """Never, AtDeprecation or AtRetirement: when the instance moves to the replacement on its own. Default: Never."""
    paused: bool = False
    """Hold the rollout between two members. Default: false."""
    canary: Canary | None = None
    """Move some instances first and wait. Absent: no canary."""
    on_failure: OnFailure = OnFailure.ROLLBACK
    """After a step that did not succeed within progressDeadline: Rollback or Halt. Default: Rollback."""
    progress_deadline: Duration = timedelta(minutes=45)
    """Time for one step; waiting for a window, an approval, a hold or a pause does not count. Default: 45m."""


_NAME: Final = Rule(
    f"self.metadata.name.matches(r'{INSTANCE_NAME}')",
    "metadata.name of a ModelInstance must begin with a letter, consist of a-z, 0-9 and -, end with a letter or digit and "
    "have at most 40 characters, because its Service and pods carry the name: choose such a name",
)
_NEW_INSTANCE: Final = "create another ModelInstance"


class ModelInstanceSpec(ApiModel):
    """What is to be served, and how much of it."""

    pool_ref: Annotated[Subdomain, immutable("spec.poolRef", f"{_NEW_INSTANCE} on the other pool")]
    """Name of the ComputeUnitPool in the same namespace. Immutable."""
    offering: Annotated[OfferingName, immutable("spec.offering", f"another model is another instance: {_NEW_INSTANCE}")]
    """Name of the ModelOffering. Immutable: another model is another ModelInstance."""
    snapshot: Token
    """Exact name of one of the offering's snapshots. Never defaulted, and moved by nobody but you (or an opted-in
    upgrade.autoUpgrade). A change is a rollout."""
    profile: Label = "default"
    """One of the offering's performance profiles. A change is a rollout. Default: default."""
    instances: Annotated[int, Field(ge=0, le=MAX_INSTANCES)]
    """How many instances serve: 0, or such that all instances of this offering on the pool reach its minimum. `kubectl
    scale` changes it."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Higher goes first when compute units are given, and stops last when they end; a serving instance is never
    preempted. Default: 0."""
    suspend: bool = False
    """Stop serving and keep (and pay) the compute units: no pods, the holdings stay. Default: false."""
    change_set: ChangeSet | None = None
    """Move together with other instances, all or nothing. Absent: on its own."""
    upgrade: Upgrade = Upgrade()
    """How members move to another snapshot or profile. Default: Surge, and Block when there is no spare."""


class ModelInstance(ApiObject):
    """A model served on the compute units of a pool."""

    info = meta.MODEL_INSTANCE
    rules = (_NAME,)
    selectable = (".spec.poolRef", ".spec.offering", ".spec.snapshot")
    scale = ScalePaths(".spec.instances", ".status.instances.held", ".status.selector")
    columns = (
        Column("OFFERING", ".spec.offering", description="The model."),
        Column("SNAPSHOT", ".spec.snapshot", description="The snapshot asked for; UPTODATE says whether it serves."),
        Column("DESIRED", ".spec.instances", "integer", description="Instances asked for."),
        Column("AVAILABLE", ".status.instances.available", "integer", description="Instances that serve."),
        Column("CU", ".status.computeUnits", "integer", description="Compute units held."),
        condition_column("UPTODATE", "UpToDate"),
        condition_column("READY", "Ready"),
        reason_column(wide=False),
        AGE,
        Column("NODES", ".status.nodesTotal", "integer", wide=True, description="Nodes with a member."),
        Column("RETIRES", ".status.snapshot.retiresAt", wide=True, description="When the snapshot retires."),
        Column("ENDPOINT", ".status.endpoint", wide=True, description="Where the model is served."),
    )

    kind: Literal["ModelInstance"] = "ModelInstance"
    spec: ModelInstanceSpec
    """What is to be served."""
    status: ModelInstanceStatus = ModelInstanceStatus()
    """What is served. Written by the operator only."""

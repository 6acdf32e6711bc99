"""Status of a ComputeUnitPool: sums, nodes, commitments, and the allocation record (`holdings`, `changeSets`,
`rollouts`)."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from reserved_capacity.api.base import ApiModel, ListMap, ListType
from reserved_capacity.api.conditions import StatusModel
from reserved_capacity.api.fields import (
    Blocks,
    ComputeUnits,
    Count,
    Currency,
    Day,
    Fraction,
    Long,
    Money,
    NodeName,
    Text,
    Timestamp,
    Token,
    Word,
)
from reserved_capacity.domain.changesets import Phase, StepAction, StepState
from reserved_capacity.domain.holdings import HoldingState
from reserved_capacity.domain.rollout.values import RolloutState, Strategy
from reserved_capacity.domain.terms import CommitmentState

MAX_COMMITMENTS: Final = 50
MAX_STATUS_NODES: Final = 100
MAX_MEMBERS: Final = 1000
MAX_HOLDINGS: Final = 2 * MAX_MEMBERS
MAX_CHANGE_SETS: Final = 11
MAX_STOPS: Final = 100


class PoolComputeUnits(ApiModel):
    """Sums, recomputed from the lists of claims and holdings. provisioned = allocated + idle + unhealthy;
    usable = allocated + idle; provisioned <= contracted."""

    contracted: ComputeUnits = 0
    """Compute units of all commitments that have not expired."""
    provisioned: ComputeUnits = 0
    """Compute units claimed on nodes, failed ones included."""
    usable: ComputeUnits = 0
    """Compute units on healthy nodes: allocated and idle ones."""
    allocated: ComputeUnits = 0
    """Compute units on healthy nodes that an instance holds."""
    idle: ComputeUnits = 0
    """Compute units on healthy nodes that nobody holds; they are charged all the same."""
    unhealthy: ComputeUnits = 0
    """Compute units on failed nodes, held or not."""
    surge: ComputeUnits = 0
    """Compute units borrowed for a rollout, outside all other sums and not charged."""


class NodeState(StrEnum):
    """State of the pool's blocks on one node."""

    FREE = "Free"
    HELD = "Held"
    CORDONED = "Cordoned"
    UNHEALTHY = "Unhealthy"
    REPLACING = "Replacing"


class PoolNode(ApiModel):
    """The pool's blocks on one node."""

    name: NodeName
    """Name of the Node."""
    blocks: Blocks = 0
    """Blocks (100 compute units each) that the pool claims there."""
    state: NodeState
    """Free, Held, Cordoned, Unhealthy or Replacing."""
    holders: Annotated[tuple[Word, ...], ListType("atomic"), Field(max_length=64)] = ()
    """Members that hold blocks there."""


class CommitmentPrice(ApiModel):
    """Price of a compute unit and month."""

    ordered: Money | None = None
    """List price on the UTC day of acceptance, a decimal string in the price book's currency."""
    current: Money | None = None
    """Price that is charged now; never higher than the ordered one within a term."""


class Charged(ApiModel):
    """What has been charged so far."""

    days: Count = 0
    """Days charged."""
    amount: Money | None = None
    """Sum of these charges, a decimal string in the price book's currency."""
    last_day: Day | None = None
    """Last UTC day charged."""


class CommitmentAmendment(ApiModel):
    """An agreed reduction that the operator has seen."""

    at: Day
    """UTC day of the amendment in the spec."""
    compute_units: ComputeUnits
    """Compute units from then on; 0 ends the commitment."""
    seen_at: Timestamp
    """When the operator first saw it. It holds from the later of `at` and the first midnight UTC after this moment."""


class CommitmentStatus(ApiModel):
    """What became of one order."""

    id: Token
    """id of the commitment in the spec."""
    number: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Which term of the commitment this is: 1, and one more for each renewal. All dates below are of this term."""
    compute_units: ComputeUnits | None = None
    """Compute units that the commitment has now: as ordered, or fewer by an amendment."""
    amendments: Annotated[tuple[CommitmentAmendment, ...], ListMap("at"), Field(max_length=MAX_COMMITMENTS)] = ()
    """Agreed reductions that were seen, each with the moment, which decides from when it holds."""
    state: CommitmentState
    """Ordered (accepted, nothing claimed), Provisioning (some compute units claimed), Active (billingStart known),
    Expiring or Renewing (within 30 days of the end), Expired. All but Ordered and Expired are running."""
    accepted_at: Timestamp | None = None
    """When the order was accepted; decides the order in which compute units belong to commitments."""
    provisioned_compute_units: ComputeUnits = 0
    """Compute units of this commitment that are claimed on nodes."""
    first_provisioned_at: Timestamp | None = None
    """When a compute unit of this commitment was first given to an instance. Recorded once."""
    fully_provisioned_at: Timestamp | None = None
    """When all compute units of this commitment were first claimed on nodes. Recorded once."""
    billing_start: Timestamp | None = None
    """First charged day of the term, 00:00 UTC. Recorded once; a renewal begins where the term before ended."""
    term_end: Timestamp | None = None
    """End of the term, exclusive: billingStart and 90 or 365 days, or earlier where an amendment to 0 ends it."""
    renewal_deadline: Timestamp | None = None
    """Until when `renewal` may be changed: 30 days before termEnd."""
    price: CommitmentPrice = CommitmentPrice()
    """Price of a compute unit and month."""
    charged: Charged | None = None
    """What has been charged so far."""


class Holding(ApiModel):
    """Blocks of the pool that one member holds. Written before the member is made, removed after its pods are gone."""

    instance: Word
    """Name of the ModelInstance."""
    instance_uid: Annotated[str, Field(max_length=63)] = ""
    """metadata.uid of that ModelInstance: a namesake made anew does not inherit the blocks."""
    member: Word
    """Name of the member, which is also its StatefulSet's."""
    replaces: Word | None = None
    """Name of the member that this one was made in place of, because that has to leave its node or runs another version.
    Absent: none, or it is gone."""
    snapshot: Word | None = None
    """Snapshot that the member runs, or will run once it is made."""
    profile: Word | None = None
    """Performance profile that it runs with."""
    compute_units: ComputeUnits
    """Compute units held, in equal parts on the nodes."""
    nodes: Annotated[tuple[NodeName, ...], ListType("atomic"), Field(max_length=64)] = ()
    """Nodes on which they are."""
    since: Timestamp
    """When they were given."""
    state: HoldingState = HoldingState.HELD
    """Held, or Releasing while the member's pods are going away."""


class ChangeSetStep(ApiModel):
    """One step of a change set: one member placed, or one freed."""

    action: StepAction
    """Place a new member, or Free an old one."""
    instance: Word
    """Name of the ModelInstance."""
    member: Word
    """Name of the member."""
    compute_units: ComputeUnits = 0
    """Compute units that the step takes or gives back."""
    nodes: Annotated[tuple[NodeName, ...], ListType("atomic"), Field(max_length=64)] = ()
    """Nodes of the member."""
    state: StepState = StepState.PENDING
    """Pending, Running or Done."""


class ChangeSetStatus(ApiModel):
    """A move of several instances, all or nothing."""

    id: Token
    """Id that the members carry in spec.changeSet.id."""
    phase: Phase
    """Incomplete, Executing, Done, RolledBack or Rejected."""
    members: Annotated[tuple[Word, ...], ListType("atomic"), Field(max_length=20)] = ()
    """ModelInstances that have arrived."""
    steps: Annotated[tuple[ChangeSetStep, ...], ListType("atomic"), Field(max_length=MAX_MEMBERS)] = ()
    """The plan, in order; written before anything is touched."""
    message: Text | None = None
    """The state in one sentence."""


class RolloutVersion(ApiModel):
    """A snapshot with a performance profile."""

    snapshot: Word
    """Name of the snapshot."""
    profile: Word = "default"
    """Name of the profile."""


class RolloutFailure(ApiModel):
    """The member because of which a rollout was stopped."""

    member: Word
    """Name of the member."""
    reason: Word = ""
    """Why, in one word."""
    message: Text = ""
    """Why, in one sentence."""
    at: Timestamp
    """When."""


class RolloutRecord(ApiModel):
    """What is on record of an instance's rollout beside its holdings: the one that runs, or the last one."""

    instance: Word
    """Name of the ModelInstance."""
    instance_uid: Annotated[str, Field(max_length=63)] = ""
    """metadata.uid of that ModelInstance."""
    id: Long
    """metadata.generation that started it."""
    state: RolloutState = RolloutState.RUNNING
    """Running, RollingBack, Halted, RolledBack or Done."""
    from_: Annotated[RolloutVersion, Field(alias="from")]
    """What goes back in if it fails. The same as `to`: the rollout undoes one that was under way."""
    to: RolloutVersion
    """What the members move to."""
    started_at: Timestamp
    """When it started."""
    ended_at: Timestamp | None = None
    """When it ended, or halted."""
    strategy: Strategy | None = None
    """Chosen when the first member moved. Absent: none has."""
    surge: Count = 0
    """New members at a time, by the spare compute units of that moment."""
    borrowed_compute_units: ComputeUnits = 0
    """Compute units that it wants beyond the contract, unbilled, until it ends."""
    why: Text | None = None
    """Why this strategy."""
    vacated: Annotated[tuple[Word, ...], ListType("atomic"), Field(max_length=MAX_MEMBERS)] = ()
    """Members that were stopped and whose places are not taken yet."""
    starting: Annotated[tuple[Word, ...], ListType("atomic"), Field(max_length=MAX_MEMBERS)] = ()
    """New members that have not served yet."""
    unready_since: Timestamp | None = None
    """Since when a new member that has served does not."""
    canary_since: Timestamp | None = None
    """Since when the canary serves."""
    canary_passed: bool = False
    """Whether it was approved, or has served long enough."""
    attempt: Word = ""
    """Digest of what bears on success: a failed rollout is tried again when it changes."""
    failure: RolloutFailure | None = None
    """Why it was stopped."""


class ExpiryStop(ApiModel):
    """How many instances of one ModelInstance stop."""

    instance: Word
    """Name of the ModelInstance."""
    instances: Count
    """How many of its instances stop."""


class ExpiryPlan(ApiModel):
    """What stops when contracted compute units fall: at the end of a commitment, or by an amendment."""

    at: Timestamp
    """When draining begins: `expiry.drainBefore` ahead."""
    stops: Annotated[tuple[ExpiryStop, ...], ListType("atomic"), Field(max_length=MAX_STOPS)] = ()
    """What has to stop (still, once draining has begun) so that the rest fits, in order."""


class PoolBilling(ApiModel):
    """What the pool costs."""

    currency: Currency | None = None
    """Currency of all amounts here."""
    per_day: Money | None = None
    """Charge of the current day, a decimal string."""
    month_to_date: Money | None = None
    """Charges of the current UTC month so far, a decimal string."""
    idle_share: Fraction | None = None
    """Share of the charged compute units that nobody holds, from "0" to "1"."""
    last_reported_day: Day | None = None
    """Last UTC day whose charges reached billing."""
    pending_rows: Count = 0
    """Rows of the account that have not reached billing yet; all of them where there is no billing system."""


class ComputeUnitPoolStatus(StatusModel):
    """What is provided, who holds it, and what it costs."""

    compute_units: PoolComputeUnits = PoolComputeUnits()
    """Sums of compute units."""
    nodes_total: Count = 0
    """Nodes on which the pool has a claim."""
    nodes: Annotated[tuple[PoolNode, ...], ListMap("name"), Field(max_length=MAX_STATUS_NODES)] = ()
    """The first 100 of these nodes."""
    commitments: Annotated[tuple[CommitmentStatus, ...], ListMap("id"), Field(max_length=MAX_COMMITMENTS)] = ()
    """What became of each order. The admission rules read the states."""
    term_end: Timestamp | None = None
    """Earliest end of a running commitment, exclusive."""
    holdings: Annotated[tuple[Holding, ...], ListType("atomic"), Field(max_length=MAX_HOLDINGS)] = ()
    """The allocation record: which member holds which blocks."""
    change_sets: Annotated[tuple[ChangeSetStatus, ...], ListMap("id"), Field(max_length=MAX_CHANGE_SETS)] = ()
    """The running change set and the last ten."""
    rollouts: Annotated[tuple[RolloutRecord, ...], ListMap("instance"), Field(max_length=MAX_MEMBERS)] = ()
    """The rollout that runs, or the last one, of each instance."""
    expiry_plan: ExpiryPlan | None = None
    """What stops when contracted compute units next fall; written 30 days ahead, absent when nothing has to stop."""
    billing: PoolBilling | None = None
    """What the pool costs."""

    def commitment(self, id_: str) -> CommitmentStatus | None:
        """The commitment of that id, or None."""
        return next((item for item in self.commitments if item.id == id_), None)

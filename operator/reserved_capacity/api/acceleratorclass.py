"""AcceleratorClass: which nodes are capacity, and how much."""

from datetime import timedelta
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from reserved_capacity.api import meta
from reserved_capacity.api.base import AGE, ApiModel, ApiObject, Column, ListMap, Rule, condition_column, immutable
from reserved_capacity.api.conditions import StatusModel
from reserved_capacity.api.fields import ComputeUnits, Count, Duration, QualifiedName, StringMap, Token
from reserved_capacity.domain.reasons.base import ConditionStatus

_NEW_CLASS: Final = "create another AcceleratorClass with the new value and move nodes to it by their labels"


class NodeSelector(ApiModel):
    """Selects Nodes by their labels."""

    match_labels: Annotated[StringMap, Field(min_length=1, max_length=16)]
    """Labels and values that a Node must carry, all of them. A Node should match one class only."""


class RepairRule(ApiModel):
    """A node condition that, after some time, means that the node has failed."""

    condition_type: Token
    """Type of the Node condition, for example Ready."""
    status: ConditionStatus
    """Status of the condition that means failure. A dead kubelet makes Ready Unknown, never False: list both."""
    after: Duration
    """How long the status must have held before the node counts as failed, for example 10m. Pods tolerate it for as long as
    the longest rule said when their instance began to run what it runs: a shorter time holds for what is placed or rolled
    out from then on."""


DEFAULT_REPAIR: Final = (
    RepairRule(condition_type="Ready", status=ConditionStatus.FALSE, after=timedelta(minutes=10)),
    RepairRule(condition_type="Ready", status=ConditionStatus.UNKNOWN, after=timedelta(minutes=10)),
)


class AcceleratorClassSpec(ApiModel):
    """Which nodes are capacity, and how much of it each one is."""

    rules: ClassVar = (
        Rule(
            "self.gpusPerNode * 100 % self.computeUnitsPerNode == 0",
            "spec.computeUnitsPerNode: one block (100 compute units) must be a whole number of GPUs, that is, "
            "gpusPerNode * 100 must be divisible by computeUnitsPerNode",
            message_expression=(
                "'spec.computeUnitsPerNode: one block (100 compute units) must be a whole number of GPUs; %d GPUs as %d "
                "compute units do not come out whole: use %d (one GPU per block) or 100 (the whole node is one block)'"
                ".format([self.gpusPerNode, self.computeUnitsPerNode, self.gpusPerNode * 100])"
            ),
            field_path=".computeUnitsPerNode",
        ),
    )

    node_selector: NodeSelector
    """Which Nodes belong to the class. Changing it changes the inventory, never a claim that exists."""
    gpu_resource: Annotated[QualifiedName, immutable("spec.gpuResource", _NEW_CLASS)]
    """Extended resource by which the GPUs are counted and requested, for example nvidia.com/gpu. Immutable."""
    gpus_per_node: Annotated[int, Field(ge=1, le=1024), immutable("spec.gpusPerNode", _NEW_CLASS)]
    """GPUs that a node of this class has. A node with fewer allocatable GPUs counts for fewer blocks. Immutable."""
    compute_units_per_node: Annotated[
        int,
        Field(ge=100, le=102_400),
        Rule(
            "self % 100 == 0",
            "spec.computeUnitsPerNode must be a multiple of 100 (one block): use the next lower or higher multiple",
        ),
        immutable("spec.computeUnitsPerNode", _NEW_CLASS),
    ]
    """Compute units of one whole node; a multiple of 100. One block is 100 compute units, that is,
    gpusPerNode * 100 / computeUnitsPerNode GPUs, which must come out whole. 100 gives whole-node isolation. Immutable."""
    repair: Annotated[tuple[RepairRule, ...], ListMap("conditionType", "status"), Field(max_length=16)] = DEFAULT_REPAIR
    """When a node counts as failed. Default: Ready is False or Unknown for 10m."""


class NodeCounts(ApiModel):
    """Nodes of the class, counted."""

    total: Count = 0
    """Nodes that match spec.nodeSelector."""
    ready: Count = 0
    """Of these, nodes that are Ready."""
    cordoned: Count = 0
    """Of these, nodes that are unschedulable: no new placement, nothing is stopped."""
    failed: Count = 0
    """Of these, nodes that count as failed by spec.repair."""


class ClassComputeUnits(ApiModel):
    """Compute units of the class, each counted once per figure."""

    total: ComputeUnits = 0
    """Compute units of all nodes, by the GPUs they can really allocate."""
    claimed: ComputeUnits = 0
    """Compute units that pools have claimed."""
    free: ComputeUnits = 0
    """Compute units on healthy nodes that nobody has claimed and no pod uses."""
    unhealthy: ComputeUnits = 0
    """Compute units on nodes that have failed."""


class AcceleratorClassStatus(StatusModel):
    """What the operator sees."""

    nodes: NodeCounts = NodeCounts()
    """Nodes of the class."""
    compute_units: ClassComputeUnits = ClassComputeUnits()
    """Compute units of the class."""


class AcceleratorClass(ApiObject):
    """Says which Nodes are capacity for sale and how many compute units one of them is. Belongs to the provider."""

    info = meta.ACCELERATOR_CLASS
    columns = (
        Column("NODES", ".status.nodes.total", "integer", description="Nodes of the class."),
        Column("CU-TOTAL", ".status.computeUnits.total", "integer", description="Compute units of all nodes."),
        Column("CU-CLAIMED", ".status.computeUnits.claimed", "integer", description="Compute units claimed by pools."),
        Column("CU-FREE", ".status.computeUnits.free", "integer", description="Compute units that can be claimed."),
        Column("UNHEALTHY", ".status.computeUnits.unhealthy", "integer", description="Compute units on failed nodes."),
        condition_column("READY", "Ready"),
        AGE,
    )

    kind: Literal["AcceleratorClass"] = "AcceleratorClass"
    spec: AcceleratorClassSpec
    """What the provider wants: which nodes are capacity, and how much."""
    status: AcceleratorClassStatus = AcceleratorClassStatus()
    """What the operator sees. Written by the operator only."""

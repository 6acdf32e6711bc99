"""The world as values: what the store holds, read into the frozen facts that the planners take.

Everything that turns Kubernetes objects into domain values is here, so that reconcilers and the kubectl plugin see the
same world. Reading a snapshot does no I/O.
"""

from reserved_capacity.snapshot.indexes import (
    INDEXES,
    MEMBERS_BY_NODE,
    MEMBERS_BY_POOL,
    NODES_BY_LABEL,
    NODES_BY_POOL,
    POOLS_BY_COMMITMENT,
    claims_annotation,
    claims_of,
)
from reserved_capacity.snapshot.instances import (
    holding_of_stateful_set,
    instances_of_pool,
    lifecycle_dates,
    members_of,
    observed_member,
    pods_of_member,
    ready_members,
    stateful_sets_of,
)
from reserved_capacity.snapshot.nodes import (
    HOSTNAME_LABEL,
    ZONE_LABEL,
    allocatable_gpus,
    conditions_of,
    gpus_of,
    inventory,
    inventory_node,
    nodes_of_class,
    repair_rules,
    selects,
    shape_of,
    whole,
)
from reserved_capacity.snapshot.parsing import parse_class, parse_instance, parse_offering, parse_pool, timestamp
from reserved_capacity.snapshot.pools import (
    PoolPlaces,
    commitment_records,
    contracted_cu,
    holdings_of,
    places_of,
    pool_id,
    pools_of_class,
)

__all__ = [
    "HOSTNAME_LABEL",
    "INDEXES",
    "MEMBERS_BY_NODE",
    "MEMBERS_BY_POOL",
    "NODES_BY_LABEL",
    "NODES_BY_POOL",
    "POOLS_BY_COMMITMENT",
    "ZONE_LABEL",
    "PoolPlaces",
    "allocatable_gpus",
    "claims_annotation",
    "claims_of",
    "commitment_records",
    "conditions_of",
    "contracted_cu",
    "gpus_of",
    "holding_of_stateful_set",
    "holdings_of",
    "instances_of_pool",
    "inventory",
    "inventory_node",
    "lifecycle_dates",
    "members_of",
    "nodes_of_class",
    "observed_member",
    "parse_class",
    "parse_instance",
    "parse_offering",
    "parse_pool",
    "places_of",
    "pods_of_member",
    "pool_id",
    "pools_of_class",
    "ready_members",
    "repair_rules",
    "selects",
    "shape_of",
    "stateful_sets_of",
    "timestamp",
    "whole",
]

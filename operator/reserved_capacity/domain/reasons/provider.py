"""Reasons of the provider's kinds: AcceleratorClass, ModelOffering, PriceBook."""

from reserved_capacity.domain.reasons.base import FALSE, TRUE, Reason


class ClassReady(Reason):
    """AcceleratorClass, condition Ready."""

    READY = "Ready", TRUE, "Nodes match the class and have the GPUs it promises."
    NO_NODES = (
        "NoNodes",
        FALSE,
        "No Node matches spec.nodeSelector.",
        "Label the GPU nodes so that spec.nodeSelector selects them, or correct the selector.",
    )
    GPU_COUNT_MISMATCH = (
        "GpuCountMismatch",
        FALSE,
        "A matching Node has fewer allocatable GPUs than spec.gpusPerNode and counts for fewer blocks.",
        "Repair the device plugin or the GPU on the node named in the message, or move the node to another class.",
    )


class OfferingValid(Reason):
    """ModelOffering, condition Valid."""

    VALID = "Valid", TRUE, "Everything the offering refers to exists and fits."
    UNKNOWN_ACCELERATOR_CLASS = (
        "UnknownAcceleratorClass",
        FALSE,
        "spec.reserved.acceleratorClasses names a class that does not exist.",
        "Create the AcceleratorClass or correct the name.",
    )
    INSTANCE_LARGER_THAN_NODE = (
        "InstanceLargerThanNode",
        FALSE,
        "One node's part of an instance needs more compute units than a node of the class has.",
        "Raise spec.reserved.nodesPerInstance or offer the model on a class with larger nodes.",
    )


class PriceBookValid(Reason):
    """PriceBook, condition Valid."""

    VALID = "Valid", TRUE, "Every entry refers to an offering that exists, and no period is without a price."
    UNKNOWN_OFFERING = (
        "UnknownOffering",
        FALSE,
        "spec.tokenUnits names an offering that does not exist.",
        "Create the ModelOffering; entries are append-only, so a mistyped one stays and does no harm.",
    )
    PRICE_GAP = (
        "PriceGap",
        FALSE,
        "Something that is sold has no price in force on a day on which it can be bought.",
        "Append an entry whose effectiveFrom is not later than the day named in the message.",
    )

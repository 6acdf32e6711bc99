"""Carries out what the fleet behind token units has to be (T4): it grows before the limits do and shrinks after them.

What the operator has not labelled is none of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.domain.tokens.entitlement import TokenRate
from reserved_capacity.ports import MODEL_INSTANCES, AlreadyExists, Ref
from reserved_capacity.reconcilers.context import Context, precondition_of
from reserved_capacity.snapshot.fleet import FleetWorld, growth, new_instance, shrinkage


async def grow(context: Context, world: FleetWorld, wanted: Mapping[str, int]) -> None:
    for each in growth(world, wanted):
        if each.live is None:
            await _create(context, world, each.snapshot, each.instances)
        else:
            await _scale(context, each.live, each.instances)


async def shrink(context: Context, world: FleetWorld, sold: Mapping[str, TokenRate], wanted: Mapping[str, int]) -> None:
    """Once the limits say so."""
    for each in shrinkage(world, sold, wanted):
        assert each.live is not None, "what is not there does not shrink"  # noqa: S101
        if each.instances:
            await _scale(context, each.live, each.instances)
        else:
            await _delete(context, each.live)


async def _create(context: Context, world: FleetWorld, snapshot: str, number: int) -> None:
    body = new_instance(world, snapshot, number)
    try:
        await context.cluster.create(MODEL_INSTANCES, body)
    except AlreadyExists:
        # One of ours that was not to be seen yet; the next turn knows it.
        await context.cluster.get(Ref(MODEL_INSTANCES, body["metadata"]["namespace"], body["metadata"]["name"]))
        raise


async def _scale(context: Context, live: ModelInstance, number: int) -> None:
    ref = Ref(MODEL_INSTANCES, live.namespace, live.name)
    observed = context.store.get(ref)
    if observed is not None:
        await context.patch(ref, observed, {"spec": {"instances": number}})


async def _delete(context: Context, live: ModelInstance) -> None:
    ref = Ref(MODEL_INSTANCES, live.namespace, live.name)
    observed = context.store.get(ref)
    if observed is not None:
        await context.cluster.delete(ref, precondition_of(observed))

"""Units and nodes: C1's arithmetic, N1's failure."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reserved_capacity.domain.nodes import NodeCondition, RepairRule, failure_time, has_failed
from reserved_capacity.domain.units import NodeShape, blocks_of, cu_of
from tests.unit.domain.builders import BATCH, NOW, PROD, inventory_node

RULES = (
    RepairRule("Ready", "False", timedelta(minutes=10)),
    RepairRule("Ready", "Unknown", timedelta(minutes=5)),
    RepairRule("GpuHealthy", "False", timedelta(0)),
)


def test_c1_a_block_is_100_cu() -> None:
    assert [blocks_of(amount) for amount in (0, 100, 600)] == [0, 1, 6]
    assert cu_of(6) == 600


@pytest.mark.parametrize("amount", [150, 1, -100])
def test_c1_an_amount_that_is_no_whole_number_of_blocks_is_an_error(amount: int) -> None:
    with pytest.raises(ValueError, match=f"{amount} CU"):
        blocks_of(amount)


@pytest.mark.parametrize(
    ("gpus", "compute_units", "per_block", "full"), [(8, 800, 1, 8), (8, 400, 2, 4), (8, 100, 8, 1), (16, 800, 2, 8)]
)
def test_c1_a_node_divides_into_blocks_of_whole_gpus(gpus: int, compute_units: int, per_block: int, full: int) -> None:
    shape = NodeShape(gpus, compute_units)
    assert shape.gpus_per_block == per_block
    assert shape.blocks_in(gpus) == full


def test_a_node_with_fewer_gpus_has_fewer_blocks_and_one_with_more_has_no_more() -> None:
    shape = NodeShape(8, 400)
    assert [shape.blocks_in(gpus) for gpus in (0, 1, 2, 7, 8, 16)] == [0, 0, 1, 3, 4, 4]


def test_c11_one_foreign_gpu_spoils_its_block() -> None:
    shape = NodeShape(8, 400)
    assert [shape.blocks_used_by(gpus) for gpus in (0, 1, 2, 3)] == [0, 1, 1, 2]


def test_c11_free_is_what_is_neither_claimed_nor_spoilt_and_never_less_than_nothing() -> None:
    node = inventory_node("gpu-1", 8, claims={PROD: 3, BATCH: 2}, foreign=1)
    assert (node.claimed_blocks, node.free_blocks, node.claimed_by(PROD)) == (5, 2, 3)
    assert inventory_node("gpu-1", 4, claims={PROD: 6}).free_blocks == 0


def test_n1_a_node_takes_new_members_only_if_ready_not_cordoned_and_not_failed() -> None:
    assert inventory_node("gpu-1").usable
    assert not inventory_node("gpu-1", ready=False).usable
    assert not inventory_node("gpu-1", cordoned=True).usable
    assert not inventory_node("gpu-1", failed=True).usable


def test_n1_a_node_fails_when_its_condition_has_held_for_its_time_and_the_members_are_gone() -> None:
    conditions = [NodeCondition("Ready", "False", NOW)]
    due = NOW + timedelta(minutes=10)
    assert failure_time(conditions, RULES) == due
    assert has_failed(conditions, RULES, members_gone=True, now=due)
    assert not has_failed(conditions, RULES, members_gone=True, now=due - timedelta(microseconds=1))
    assert not has_failed(conditions, RULES, members_gone=False, now=due)


def test_n1_a_dead_kubelet_is_unknown_and_has_a_rule_of_its_own() -> None:
    assert failure_time([NodeCondition("Ready", "Unknown", NOW)], RULES) == NOW + timedelta(minutes=5)


def test_n1_the_rule_that_runs_out_first_decides() -> None:
    conditions = [
        NodeCondition("Ready", "False", NOW),
        NodeCondition("GpuHealthy", "False", NOW + timedelta(minutes=2)),
    ]
    assert failure_time(conditions, RULES) == NOW + timedelta(minutes=2)


def test_n1_a_healthy_node_never_fails() -> None:
    conditions = [NodeCondition("Ready", "True", NOW), NodeCondition("DiskPressure", "False", NOW)]
    assert failure_time(conditions, RULES) is None
    assert not has_failed(conditions, RULES, members_gone=True, now=NOW + timedelta(days=1))

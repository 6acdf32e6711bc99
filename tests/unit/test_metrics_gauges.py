"""The gauges over the store: they say what the statuses say, and forget what is gone."""

from __future__ import annotations

from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from reserved_capacity.adapters.gauges import StoreGauges
from reserved_capacity.adapters.metrics import Metrics
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    OUR_KINDS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
)
from tests.unit.monitoring.exporter import World, conditions, full

ORDER = {"computeUnits": 600, "term": "OneYear", "payment": "Monthly", "provisionBy": "2026-03-01"}
RECORD = {"acceptedAt": "2026-02-01T00:00:00Z", "state": "Provisioning"}


def pool(world: World, *commitments: tuple[dict[str, Any], dict[str, Any]], **status: Any) -> JsonObject:
    """A pool with these orders and what is on record of them."""
    orders = [{"id": f"po-{number}", **ORDER, **order} for number, (order, _) in enumerate(commitments)]
    records = [{"id": f"po-{number}", **RECORD, **record} for number, (_, record) in enumerate(commitments)]
    return world.put(
        COMPUTE_UNIT_POOLS,
        "prod",
        namespace="acme",
        spec={"account": "acme", "priceBookRef": "usd", "acceleratorClass": "h100-8", "commitments": orders},
        status={"observedGeneration": 1, "commitments": records, "computeUnits": {"contracted": 600}, **status},
    )


def overdue(world: World) -> float:
    return world.series("pool_overdue_compute_units", "namespace", "pool")["acme", "prod"]


def test_the_sums_of_pools_classes_and_instances_are_those_of_their_statuses() -> None:
    world = World()
    units = {"contracted": 600, "provisioned": 600, "usable": 500, "allocated": 300, "idle": 200, "unhealthy": 100}
    pool(world, computeUnits=units | {"surge": 0})
    class_units = {"total": 1600, "claimed": 600, "free": 900, "unhealthy": 100}
    world.put(ACCELERATOR_CLASSES, "h100-8", status={"computeUnits": class_units})
    counts = {"desired": 3, "held": 2, "available": 1, "updated": 2, "updatedAvailable": 1}
    spec = {"poolRef": "prod", "offering": "gpt-4-turbo"}
    world.put(MODEL_INSTANCES, "chat", namespace="acme", spec=spec, status={"instances": counts})

    assert world.series("pool_compute_units", "namespace", "pool", "state") == {
        ("acme", "prod", state): value for state, value in units.items()
    }
    assert world.series("class_compute_units", "class", "state") == {
        ("h100-8", state): value for state, value in class_units.items()
    }
    assert world.series("instance_members", "namespace", "instance", "state") == {
        ("acme", "chat", state): value for state, value in counts.items()
    }
    assert world.series("instance_info", "namespace", "instance", "pool", "offering") == {
        ("acme", "chat", "prod", "gpt-4-turbo"): 1
    }


def test_a_rollout_has_one_series_which_is_its_present_phase() -> None:
    world = World()
    world.put(MODEL_INSTANCES, "chat", namespace="acme", status={"rollout": {"id": 4, "phase": "AwaitingApproval"}})
    world.put(MODEL_INSTANCES, "fast", namespace="acme", status={"rollout": {"id": 0}})
    world.put(MODEL_INSTANCES, "late", namespace="acme", status={"rollout": {"phase": "SomethingNewer"}})

    assert world.series("rollout_phase", "namespace", "instance", "phase") == {
        ("acme", "chat", "AwaitingApproval"): 1,
        ("acme", "fast", "Idle"): 1,
        ("acme", "late", "Other"): 1,
    }


def test_a_condition_has_one_series_which_is_its_present_status_and_reason() -> None:
    world = World()
    labels = ("kind", "namespace", "name", "type", "status", "reason")
    said = conditions(CapacityReserved="False/WaitingForComputeUnits", Ready="False/WaitingForComputeUnits")
    world.put(MODEL_INSTANCES, "fast", namespace="acme", status={"conditions": said})
    world.put(MODEL_OFFERINGS, "gpt-4", status={"conditions": conditions(Valid="True/Valid")})
    assert world.series("condition", *labels) == {
        ("ModelInstance", "acme", "fast", "CapacityReserved", "False", "WaitingForComputeUnits"): 1,
        ("ModelInstance", "acme", "fast", "Ready", "False", "WaitingForComputeUnits"): 1,
        ("ModelOffering", "", "gpt-4", "Valid", "True", "Valid"): 1,
    }
    world.put(MODEL_INSTANCES, "fast", namespace="acme", status={"conditions": conditions(Ready="True/Ready")})
    assert world.series("condition", *labels) == {
        ("ModelInstance", "acme", "fast", "Ready", "True", "Ready"): 1,
        ("ModelOffering", "", "gpt-4", "Valid", "True", "Valid"): 1,
    }


def test_what_is_deleted_leaves_no_series() -> None:
    world = World()
    gone = [pool(world, ({}, {}), conditions=conditions(Ready="True/Ready"))]
    gone.append(world.put(MODEL_INSTANCES, "chat", namespace="acme", spec={}, status={"instances": {"held": 1}}))
    gone.append(world.put(ACCELERATOR_CLASSES, "h100-8", status={"computeUnits": {}}))
    assert b"prod" in generate_latest(world.registry)
    for resource, obj in zip((COMPUTE_UNIT_POOLS, MODEL_INSTANCES, ACCELERATOR_CLASSES), gone, strict=True):
        world.drop(resource, obj)
    assert not [sample for metric in world.registry.collect() for sample in metric.samples]


def test_what_has_no_status_yet_has_no_sums_and_a_sum_that_is_missing_is_zero() -> None:
    world = World()
    for resource in OUR_KINDS:
        world.put(resource, "new", namespace="acme" if resource.namespaced else "", spec={})
    names = {sample.name for metric in world.registry.collect() for sample in metric.samples}
    assert names == {"reservedcapacity_instance_info"}
    pool(world)
    assert world.series("pool_compute_units", "state")["idle",] == 0


def test_words_that_the_api_does_not_have_become_no_labels() -> None:
    world = World()
    said = conditions(Ready="False/invented-by-4711", Invented="False/NotSupportedYet", Accepted="Maybe/Accepted")
    world.put(TOKEN_UNIT_RESERVATIONS, "t", namespace="acme", status={"conditions": said})
    assert world.series("condition", "type", "status", "reason") == {("Ready", "False", "Other"): 1}


def test_units_are_overdue_the_day_after_the_agreed_one_as_far_as_they_are_missing() -> None:
    world = World()
    pool(world, ({}, {"provisionedComputeUnits": 400}))
    assert overdue(world) == 200
    pool(world, ({"provisionBy": "2026-03-02"}, {"provisionedComputeUnits": 400}))
    assert overdue(world) == 0
    pool(world, ({}, {"provisionedComputeUnits": 600}))
    assert overdue(world) == 0


def test_each_commitment_has_its_own_day() -> None:
    world = World()
    pool(world, ({}, {}), ({"computeUnits": 100, "provisionBy": "2026-06-01"}, {}))
    assert overdue(world) == 600


def test_an_order_of_after_its_day_is_not_late_on_the_day_it_is_accepted_and_one_that_ended_never() -> None:
    world = World()
    pool(world, ({}, {"acceptedAt": "2026-03-02T09:00:00Z"}))
    assert overdue(world) == 0
    pool(world, ({}, {"state": "Expired"}), ({}, {"acceptedAt": None}))
    assert overdue(world) == 0


def test_a_pool_that_cannot_be_read_hides_no_other() -> None:
    world = World()
    pool(world, ({"term": "Forever"}, {}))
    world.put(MODEL_INSTANCES, "chat", namespace="acme", status={"instances": {"held": 1}})
    assert overdue(world) == 0
    assert world.series("instance_members", "state")["held",] == 1


def test_process_and_work_are_shown() -> None:
    registry = full().registry
    assert registry.get_sample_value("reservedcapacity_leader") == 1
    assert registry.get_sample_value("reservedcapacity_queue_oldest_due_seconds") == 0.25
    names = {sample.name for metric in registry.collect() for sample in metric.samples}
    assert {"reservedcapacity_build_info", "process_start_time_seconds", "process_resident_memory_bytes"} <= names


def test_token_units_are_those_of_the_lots_by_direction_and_none_is_zero() -> None:
    world = World()
    lots = [{"direction": "Input", "units": 3}, {"direction": "Input", "units": 2}]
    world.put(TOKEN_UNIT_RESERVATIONS, "gpt-41", namespace="acme", status={"lots": lots})
    world.put(TOKEN_UNIT_RESERVATIONS, "new", namespace="acme")
    assert world.series("token_units", "namespace", "reservation", "direction") == {
        ("acme", "gpt-41", "Input"): 5,
        ("acme", "gpt-41", "Output"): 0,
    }


def test_a_reference_of_any_letters_breaks_no_line() -> None:
    """The gauges are written as text by us; what a user has written may be anything that the API server lets through."""
    world = World()
    odd = 'a"b\\c\nd'
    world.put(MODEL_INSTANCES, "chat", namespace="acme", spec={"poolRef": odd, "offering": "gpt"})
    assert world.series("instance_info", "pool", "offering") == {(odd, "gpt"): 1}


def test_what_is_shown_as_text_is_part_of_the_scrape() -> None:
    metrics = Metrics()
    world = World()
    world.put(ACCELERATOR_CLASSES, "h100-8", status={"computeUnits": {"total": 800}})
    metrics.show(StoreGauges(world.store, lambda: world.now).text)
    found = {each.name: each for each in text_string_to_metric_families(metrics.text().decode())}
    assert found["reservedcapacity_class_compute_units"].type == "gauge"
    assert "reservedcapacity_build_info" in found

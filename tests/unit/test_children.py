"""Children as pure builders (behaviour.md R1, R3)."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

from reserved_capacity.api.acceleratorclass import AcceleratorClass
from reserved_capacity.api.modelinstance import ModelInstance
from reserved_capacity.api.modeloffering import ModelOffering
from reserved_capacity.domain.holdings import Holding
from reserved_capacity.domain.versions import Version
from reserved_capacity.ports import JsonObject
from reserved_capacity.reconcilers import children
from tests.integration.world import accelerator_class, instance, offering

META = {"uid": "u-1", "resourceVersion": "1", "generation": 1, "creationTimestamp": "2026-03-01T10:00:00Z"}


def chat() -> ModelInstance:
    body = instance("chat", "m", 2)
    return ModelInstance.parse({**body, "metadata": {**body["metadata"], **META}})


def rendered() -> JsonObject:
    model = offering("m", cu=300)
    serving = model["spec"]["reserved"]["serving"]
    serving |= {"labels": {"team": "x"}, "annotations": {"scrape": "yes"}, "port": 9000, "sharedMemory": "1Gi"}
    sold = ModelOffering.parse({**model, "metadata": {**model["metadata"], **META}})
    class_ = accelerator_class()
    kind = AcceleratorClass.parse({**class_, "metadata": {**class_["metadata"], **META}})
    template = children.render_template(sold, kind, Version("m-1"), 3)
    assert template is not None
    return template


def test_there_is_no_template_of_what_the_offering_has_not_got() -> None:
    body, class_ = offering("m", cu=300), accelerator_class()
    sold = ModelOffering.parse({**body, "metadata": {**body["metadata"], **META}})
    kind = AcceleratorClass.parse({**class_, "metadata": {**class_["metadata"], **META}})
    assert children.render_template(sold, kind, Version("m-0"), 3) is None
    assert children.render_template(sold, kind, Version("m-1", "fast"), 3) is None


def member(template: JsonObject, name: str = "chat-0", node: str = "gpu-0") -> JsonObject:
    holding = Holding("chat", name, 3, (node,), datetime(2026, 3, 1, tzinfo=UTC))
    return children.stateful_set(chat(), holding, "chat-1234567890", template, hostnames=[node])


def test_r1_the_template_of_a_member_can_be_read_back_from_it() -> None:
    template = rendered()
    assert children.template_of(member(template)) == template


def test_r1_what_is_made_from_a_template_that_was_read_back_is_what_the_others_run() -> None:
    """With the defaults that the API server writes into what it stores."""
    stored = copy.deepcopy(member(rendered()))
    pod = stored["spec"]["template"]
    pod["metadata"]["creationTimestamp"] = None
    pod["spec"] |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
    pod["spec"]["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    made = member(children.template_of(stored), "chat-1", "gpu-1")
    assert made["spec"]["template"]["spec"] == {
        **pod["spec"],
        "affinity": member(rendered(), "chat-1", "gpu-1")["spec"]["template"]["spec"]["affinity"],
    }
    assert made["spec"]["template"]["metadata"]["labels"]["team"] == "x"
    assert made["spec"]["template"]["metadata"]["labels"]["reservedcapacity.io/member"] == "chat-1"


def test_a_server_is_asked_to_end_only_after_nobody_sends_to_it_and_then_has_time_for_its_answers() -> None:
    pod = rendered()["pod"]["spec"]
    (server,) = pod["containers"]
    routed_away = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert routed_away == children.ROUTED_AWAY_SECONDS
    # The grace period begins with the sleep, not after it.
    assert pod["terminationGracePeriodSeconds"] - routed_away == children.ANSWERS_SECONDS


def test_a_busy_server_may_answer_its_probe_as_late_as_the_next_one_is_due() -> None:
    (server,) = rendered()["pod"]["spec"]["containers"]
    assert server["readinessProbe"]["timeoutSeconds"] == server["readinessProbe"]["periodSeconds"]

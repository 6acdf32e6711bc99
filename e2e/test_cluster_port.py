"""The real API server keeps the contract that the fake cluster is held to (tests/contract)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.cluster.lifecycle import Cluster
from reserved_capacity.adapters.access import Access
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.ports import SERVICES, Invalid, NotFound
from tests.contract.cluster_port import ClusterContract, Subject
from tests.contract.recorded import RECORD, play_operations
from tests.contract.recorded_controllers import Controllers

CRDS = Path(__file__).resolve().parents[1] / "crds"


@pytest.fixture(scope="module")
def crds(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "-k", str(CRDS))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")


@pytest.fixture
async def subject(cluster: Cluster) -> AsyncIterator[Subject]:
    access = await Access.load(Path(cluster.kubeconfig))
    one = Subject(KubernetesCluster(access.api_client(), reload=access.reload))
    yield one
    one.namespace = "default"
    await one.clean()
    await access.close()


@pytest.mark.cluster
@pytest.mark.usefixtures("crds")
class TestClusterPortOnTheRealApiServer(ClusterContract):
    async def test_an_unknown_field_is_refused(self, subject: Subject) -> None:
        body = {"metadata": {"name": subject.name, "namespace": subject.namespace}, "spec": {"portz": []}}
        with pytest.raises(Invalid):
            await subject.cluster.create(SERVICES, body)

    async def test_a_create_in_a_namespace_that_does_not_exist_is_not_found(self, subject: Subject) -> None:
        subject.namespace = "does-not-exist"
        with pytest.raises(NotFound):
            await subject.make_service()


@pytest.mark.cluster
@pytest.mark.usefixtures("crds")
async def test_the_real_cluster_answers_as_it_did_when_it_was_recorded(cluster: Cluster) -> None:
    """What the fake is held to (tests/contract/test_recorded.py). RECORD=1 records it anew."""
    access = await Access.load(Path(cluster.kubeconfig))
    client, run = KubernetesCluster(access.api_client(), reload=access.reload), f"run{int(time.time())}"
    recorded = json.loads(RECORD.read_text())
    played = {
        "controllers": await Controllers(client, run).play(recorded["controllers"]),
        "operations": await play_operations(access, run),
    }
    await access.close()
    if os.environ.get("RECORD"):
        RECORD.write_text(json.dumps(played, indent=1) + "\n")
    assert played["controllers"] == recorded["controllers"]
    assert played["operations"] == recorded["operations"]

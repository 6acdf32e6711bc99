"""The fake cluster, and our client against the fake API server, keep the contract. The real API server: e2e."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reserved_capacity.adapters.access import Access
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.adapters.remembering import RememberingCluster
from reserved_capacity.store import Store
from tests.contract.cluster_port import ClusterContract, Subject
from tests.fakes.apiserver import FakeApiServer, kubeconfig_for
from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import FakeControllers


@pytest.fixture(params=["fake", "client", "remembering"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    fake = FakeCluster()
    controllers = FakeControllers(fake)
    if request.param == "fake":
        yield Subject(fake, settle=controllers.settle)
    elif request.param == "remembering":
        yield Subject(RememberingCluster(fake, Store()), settle=controllers.settle)
    else:
        async with FakeApiServer(fake) as server:
            access = await Access.load(kubeconfig_for(server, tmp_path))
            yield Subject(KubernetesCluster(access.api_client(), reload=access.reload), settle=controllers.settle)
            await access.close()


class TestClusterPort(ClusterContract):
    pass

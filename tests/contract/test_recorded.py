"""The fake API server answers as the real one did: operation by operation, event by event (recorded.json)."""

from __future__ import annotations

import json
from pathlib import Path

from reserved_capacity.adapters.access import Access
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from tests.contract.recorded import RECORD, play_operations
from tests.contract.recorded_controllers import Controllers
from tests.fakes.apiserver import FakeApiServer, kubeconfig_for
from tests.fakes.cluster import FakeCluster
from tests.fakes.controllers import FakeControllers


async def test_the_fake_answers_as_the_real_api_server_did(tmp_path: Path) -> None:
    async with FakeApiServer(FakeCluster()) as server:
        access = await Access.load(kubeconfig_for(server, tmp_path))
        played = await play_operations(access, "run")
        await access.close()
    recorded = json.loads(RECORD.read_text())["operations"]
    assert played.keys() == recorded.keys()
    for what, answers in recorded.items():
        assert played[what] == answers


async def test_the_fake_controllers_come_to_the_states_of_the_real_ones(tmp_path: Path) -> None:
    fake = FakeCluster()
    async with FakeApiServer(fake) as server:
        access = await Access.load(kubeconfig_for(server, tmp_path))
        cluster = KubernetesCluster(access.api_client(), reload=access.reload)
        played = await Controllers(cluster, "run", settle=FakeControllers(fake).settle).play()
        await access.close()
    for ours, theirs in zip(played, json.loads(RECORD.read_text())["controllers"], strict=True):
        assert ours == theirs

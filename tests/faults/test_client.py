"""What our client makes of every way in which a call can go wrong: above all, whether a write may have been done."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from reserved_capacity.adapters import kubernetes
from reserved_capacity.adapters.access import Access
from reserved_capacity.adapters.failures import from_answer, from_broken_call
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.ports import (
    SERVICES,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    JsonObject,
    NotFound,
    OutcomeUnknown,
    Precondition,
    Ref,
    Throttled,
    Unavailable,
)
from tests.fakes.apiserver import FakeApiServer, kubeconfig_for
from tests.fakes.cluster import FakeCluster

WEB = Ref(SERVICES, "acme", "web")
BODY = {"metadata": {"name": "web", "namespace": "acme"}, "spec": {"ports": [{"port": 80}]}}


@dataclass
class Client:
    server: FakeApiServer
    cluster: KubernetesCluster
    made: JsonObject
    reloads: int = 0
    writes: list[tuple[str, str, int]] = field(default_factory=list)

    async def label(self) -> JsonObject:
        seen = Precondition(self.made["metadata"]["uid"], self.made["metadata"]["resourceVersion"])
        return await self.cluster.patch(WEB, seen, {"metadata": {"labels": {"a": "b"}}})


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    fake = FakeCluster()
    made = fake.user_create(SERVICES, BODY)
    async with FakeApiServer(fake) as server:
        access = await Access.load(kubeconfig_for(server, tmp_path))

        async def reload() -> None:
            one.reloads += 1

        def wrote(*write: Any) -> None:
            one.writes.append(write)

        one = Client(server, KubernetesCluster(access.api_client(), reload=reload, wrote=wrote), made)
        yield one
        await access.close()


@pytest.mark.parametrize(
    ("status", "on_write", "on_read"),
    [
        (400, Invalid, Invalid),
        (403, Forbidden, Forbidden),
        (409, Conflict, Conflict),
        (413, Invalid, Invalid),
        (422, Invalid, Invalid),
        (429, Throttled, Throttled),
        (500, OutcomeUnknown, Unavailable),
        (502, OutcomeUnknown, Unavailable),
        (503, Unavailable, Unavailable),
        (504, OutcomeUnknown, Unavailable),
    ],
)
async def test_every_status_has_its_meaning(
    client: Client, status: int, on_write: type[ApiError], on_read: type[ApiError]
) -> None:
    client.server.fault("*", "/services", status=status)
    with pytest.raises(on_write) as write:
        await client.label()
    assert type(write.value) is on_write
    assert write.value.code == status
    with pytest.raises(on_read):
        await client.cluster.get(WEB)
    with pytest.raises(on_read):
        await client.cluster.list(SERVICES)
    assert client.writes == [("patch", "Service", status)]


async def test_a_kind_that_is_not_served_is_not_an_empty_list(client: Client) -> None:
    client.server.fault("LIST", "/services", status=404)
    with pytest.raises(NotFound):
        await client.cluster.list(SERVICES)


async def test_throttled_says_for_how_long(client: Client) -> None:
    client.server.fault("PATCH", "/services", status=429, headers={"Retry-After": "17"})
    with pytest.raises(Throttled) as caught:
        await client.label()
    assert caught.value.retry_after == 17


async def test_a_refused_connection_was_certainly_not_sent(client: Client) -> None:
    await client.server.__aexit__()
    with pytest.raises(Unavailable) as caught:
        await client.label()
    assert caught.value.code == 0
    assert client.writes == [("patch", "Service", 0)]


def test_a_certificate_that_is_not_trusted_is_no_outage_but_what_a_restart_may_mend() -> None:
    """ADR 0013: the authority is read once, and clusters rotate it."""
    place = ConnectionKey("api", 443, True, True, None, None, None)
    error = aiohttp.ClientConnectorCertificateError(place, ssl.SSLCertVerificationError("expired"))
    assert isinstance(from_broken_call(error, what="GET /", writing=False), Forbidden)


@pytest.mark.parametrize("applied", [False, True])
async def test_a_reset_in_the_middle_of_a_write_leaves_the_outcome_unknown(client: Client, applied: bool) -> None:
    client.server.fault("PATCH", "/services", drop=True, applied=applied, times=1)
    with pytest.raises(OutcomeUnknown):
        await client.label()
    assert len(client.server.mutations) == 1, "never sent again"
    assert bool((await client.cluster.get(WEB) or {})["metadata"].get("labels")) is applied


async def test_a_write_without_an_answer_in_time_leaves_the_outcome_unknown(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "_TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    client.server.fault("*", "/services", delay=1.0)
    with pytest.raises(OutcomeUnknown):
        await client.label()
    with pytest.raises(Unavailable):
        await client.cluster.get(WEB)


async def test_after_a_401_the_credentials_are_read_again_once(client: Client) -> None:
    client.server.fault("PATCH", "/services", status=401, times=1)
    await client.label()
    assert client.reloads == 1
    client.server.fault("GET", "/services", status=401)
    with pytest.raises(Forbidden):
        await client.cluster.get(WEB)
    assert client.reloads == 2


async def test_a_list_of_many_pages_is_one_list(client: Client) -> None:
    for number in range(7):
        body = {**BODY, "metadata": {"name": f"s{number}", "namespace": "acme"}}
        client.server.cluster.user_create(SERVICES, body)
    client.server.page = 3
    listing = await client.cluster.list(SERVICES)
    assert len(listing.items) == 8
    assert {(obj["apiVersion"], obj["kind"]) for obj in listing.items} == {("v1", "Service")}
    assert sum(request.verb == "LIST" for request in client.server.requests) == 3


async def test_a_list_whose_token_expires_begins_again_with_one_version(client: Client) -> None:
    client.server.cluster.user_create(SERVICES, {**BODY, "metadata": {"name": "other", "namespace": "acme"}})
    client.server.page = 1
    client.server.fault("LIST", "/services", status=0, delay=0.2, times=2)

    async def meanwhile() -> None:
        await asyncio.sleep(0.3)  # the first page has been sent
        client.server.cluster.user_delete(WEB)
        client.server.compact()

    listing, _ = await asyncio.gather(client.cluster.list(SERVICES), meanwhile())
    assert [obj["metadata"]["name"] for obj in listing.items] == ["other"]
    assert int(listing.resource_version) > int(client.made["metadata"]["resourceVersion"])


async def test_a_list_that_expires_for_ever_is_given_up(client: Client) -> None:
    client.server.cluster.user_create(SERVICES, {**BODY, "metadata": {"name": "other", "namespace": "acme"}})
    client.server.page = 1
    client.server._compacted = 10**9
    with pytest.raises(Unavailable, match="expired"):
        await client.cluster.list(SERVICES)


def test_a_namespace_that_is_going_away_is_no_missing_right() -> None:
    causes = [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]
    body = json.dumps({"reason": "Forbidden", "details": {"causes": causes}}).encode()
    assert isinstance(from_answer(403, {}, body, what="POST", writing=True), Conflict)
    assert isinstance(from_answer(403, {}, b"{}", what="POST", writing=True), Forbidden)

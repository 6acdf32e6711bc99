"""Owns a world that sells GPT-4.1 by the token unit: the seed's figures, one customer, and the provider's fleet."""

from __future__ import annotations

import json
from typing import Any

from reserved_capacity.domain.billing.ledger import EntryKind, Transaction
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    COMPUTE_UNIT_POOLS,
    CONFIG_MAPS,
    MODEL_INSTANCES,
    MODEL_OFFERINGS,
    PRICE_BOOKS,
    TOKEN_UNIT_RESERVATIONS,
    JsonObject,
    Ref,
)
from tests.fakes.ledger import FakeLedger
from tests.fakes.sink import FakeSink
from tests.integration.world import World, accelerator_class, offering

SNAPSHOT = "gpt-4.1-2025-04-14"
GPT_41 = Ref(TOKEN_UNIT_RESERVATIONS, "acme", "gpt-41")
BASE = (500_000, 100_000)
LIMITS = Ref(CONFIG_MAPS, "reserved-capacity", "limits-gpt-4.1")


def gpt_41(*, fleet: bool = True, snapshots: tuple[str, ...] = (SNAPSHOT,)) -> JsonObject:
    """One instance of 400 CU serves 600,000 and 50,000 tokens a minute: twenty units of each direction."""
    found = offering("gpt-4.1", cu=400)
    found["spec"]["reserved"]["sold"] = False
    found["spec"]["tokenUnits"] = {
        "baseRateLimits": [
            {"account": "*", "inputTokensPerMinute": BASE[0], "outputTokensPerMinute": BASE[1]},
        ],
        "input": {"tokensPerMinute": 30_000},
        "output": {"tokensPerMinute": 2_500},
    }
    if fleet:
        found["spec"]["tokenUnits"]["fleet"] = {"poolRef": {"namespace": "provider", "name": "fleet"}}
    artifact = found["spec"]["snapshots"][0]["artifact"]
    throughput = {"inputTokensPerMinute": 600_000, "outputTokensPerMinute": 50_000}
    found["spec"]["snapshots"] = [{"name": name, "artifact": artifact, "throughput": throughput} for name in snapshots]
    return found


def unit_price(direction: str, price: str, effective_from: str = "2025-08-01") -> JsonObject:
    return {"offering": "gpt-4.1", "direction": direction, "effectiveFrom": effective_from, "pricePerUnitDay": price}


def price_book(name: str = "usd", *units: JsonObject) -> JsonObject:
    cu = {"term": "OneYear", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "220.00"}
    found = units or (unit_price("Input", "110.00"), unit_price("Output", "36.00"))
    return {
        "metadata": {"name": name},
        "spec": {"currency": "USD", "computeUnits": [cu], "tokenUnits": list(found)},
    }


def fleet_pool(cu: int) -> JsonObject:
    order = {"id": "own-1", "computeUnits": cu, "term": "OneYear", "provisionBy": "2026-03-01"}
    return {
        "metadata": {"name": "fleet", "namespace": "provider"},
        "spec": {
            "account": "provider",
            "priceBookRef": "internal",
            "acceleratorClass": "h100-8",
            "commitments": [order],
        },
    }


def reservation(name: str = "gpt-41", *, account: str = "acme", namespace: str = "acme", **spec: Any) -> JsonObject:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "account": account,
            "priceBookRef": "usd",
            "offering": "gpt-4.1",
            "snapshot": SNAPSHOT,
            "units": {"input": 3, "output": 4},
            **spec,
        },
    }


class TokenWorld(World):
    """`nodes` of 800 CU each; the fleet has a contract for `fleet_cu` of them."""

    async def open(self, *, nodes: int = 1, fleet_cu: int = 800, model: JsonObject | None = None) -> None:
        for number in range(nodes):
            self.add_node(f"gpu-{number}")
        free = {"term": "OneYear", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "0.00"}
        internal = {"metadata": {"name": "internal"}, "spec": {"currency": "USD", "computeUnits": [free]}}
        self.cluster.user_create(ACCELERATOR_CLASSES, accelerator_class())
        self.cluster.user_create(PRICE_BOOKS, internal)
        self.cluster.user_create(PRICE_BOOKS, price_book())
        self.cluster.user_create(MODEL_OFFERINGS, model or gpt_41())
        self.cluster.user_create(COMPUTE_UNIT_POOLS, fleet_pool(fleet_cu))
        self.start_operator()
        await self.settle()

    async def buy(self, name: str = "gpt-41", **spec: Any) -> None:
        self.cluster.user_create(TOKEN_UNIT_RESERVATIONS, reservation(name, **spec))
        await self.settle()

    async def order(self, input_units: int, output_units: int, name: str = "gpt-41") -> None:
        units = {"input": input_units, "output": output_units}
        self.cluster.user_patch(Ref(TOKEN_UNIT_RESERVATIONS, "acme", name), {"spec": {"units": units}})
        await self.settle()

    async def pass_to(self, moment: str) -> None:
        """To that moment of 2026, a day at a time."""
        from tests.unit.domain.lots import at

        while self.clock.moment < at(moment):
            step = min(86_400.0, (at(moment) - self.clock.moment).total_seconds())
            self.clock.forward(seconds=step)
            await self.settle()

    def status(self, name: str = "gpt-41", namespace: str = "acme") -> JsonObject:
        return dict(self.get(TOKEN_UNIT_RESERVATIONS, name, namespace)["status"])

    def said(self, type_: str, name: str = "gpt-41") -> tuple[str, str, str]:
        return self.condition(TOKEN_UNIT_RESERVATIONS, name, type_)

    def entitled(self, name: str = "gpt-41") -> tuple[int, int]:
        return _pair(self.status(name)["entitlement"])

    def limits(self) -> dict[str, JsonObject]:
        """By account, as a gateway reads them."""
        found = self.get(CONFIG_MAPS, "limits-gpt-4.1", "reserved-capacity")
        return {each["account"]: each for each in json.loads(found["data"]["limits.json"])}

    def effective(self, account: str = "acme") -> tuple[int, int]:
        found = self.limits()
        return _pair(found.get(account, found["*"])["effective"])

    def fleet(self) -> dict[str, int]:
        """Instances asked for, by snapshot."""
        found = [each for each in self.cluster.objects(MODEL_INSTANCES) if each["metadata"]["namespace"] == "provider"]
        return {each["spec"]["snapshot"]: each["spec"]["instances"] for each in found}

    async def charges(self, account: str = "acme") -> list[Transaction]:
        assert self.ledger is not None
        rows = [each.transaction async for each in self.ledger.entries(account=account)]
        return [row for row in rows if row.kind is EntryKind.CHARGE]


def token_world(sink: FakeSink | None = None) -> TokenWorld:
    return TokenWorld(ledger=FakeLedger(), sink=sink)


def _pair(rate: JsonObject) -> tuple[int, int]:
    return (rate["inputTokensPerMinute"], rate["outputTokensPerMinute"])

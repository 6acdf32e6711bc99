"""What a customer and its nodes go through, step by step, and how long each step took to settle."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from e2e.api import NODES
from e2e.customers import SMALL, TURBO, Customer, counted


@dataclass(slots=True)
class Story:
    """Buy, place, scale, swap models both ways, lose a node with a spare at hand. `seed` orders what has no order."""

    customer: Customer
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)

    async def told(self) -> Story:
        customer = self.customer
        await customer.provide()
        with self._timed("buy and place"):
            await customer.buy()
            await customer.serve("chat", TURBO, 2)
            await customer.serve("fast", SMALL, 1)
            await customer.settled(chat=2, fast=1)
        with self._timed("scale"):
            await customer.serve("fast", SMALL, 2)
            await customer.settled(chat=2, fast=2)
        with self._timed("swap"):
            await self.swap("there", chat=0, fast=8)
        with self._timed("swap back"):
            await self.swap("back", chat=2, fast=2)
        with self._timed("node lost"):
            lost = await self.lose_the_node()
        with self._timed("fence"):
            await customer.fence(lost)
            await customer.history.until(
                lambda: not customer.claims()[lost], f"{lost} is given back", customer.patience, customer.claims
            )
            await customer.api.delete(NODES, "", lost)
            await customer.settled(chat=2, fast=2)
        return self

    async def swap(self, change_set: str, chat: int, fast: int) -> None:
        edits = [("chat", TURBO, chat), ("fast", SMALL, fast)]
        random.Random(f"{self.seed} {change_set}").shuffle(edits)  # noqa: S311 - a replay, not a secret
        for name, offering, instances in edits:
            await self.customer.serve(name, offering, instances, (change_set, 2))
        await self.customer.settled(chat=chat, fast=fast)

    async def lose_the_node(self) -> str:
        """The node that serves is lost; returns when all of it serves on the other one. Its name."""
        customer = self.customer
        lost = next(name for name, blocks in customer.claims().items() if blocks)
        before = [each["metadata"]["name"] for each in customer.pods_on(lost)]
        assert len(before) == 4, f"not on {lost} alone: {customer.claims()}, {customer.pool().get('holdings')}"
        await customer.lose_node(lost)
        await customer.history.until(
            lambda: self._held_elsewhere(lost) == customer.running() == {"chat": 2, "fast": 2},
            f"{customer.name} serves without {lost}",
            customer.patience,
            lambda: (customer.running(), customer.pool()),
        )
        # N2: for all that anybody knows they still run there.
        there = [each["metadata"]["name"] for each in customer.pods_on(lost)]
        assert len(there) == 4, f"{there} of {before} are left on {lost}"
        assert customer.claims()[lost] == 8, "nobody else may have the blocks"
        return lost

    def _held_elsewhere(self, lost: str) -> dict[str, int]:
        held = [each for each in self.customer.pool().get("holdings", ()) if each["state"] == "Held"]
        return counted(each["instance"] for each in held if lost not in each["nodes"])

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - started, 2)

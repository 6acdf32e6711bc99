"""What a test with customers of its own plays on: the cluster with our installation, and its history from the first moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from e2e.api import Api, Upstream
from e2e.cluster.lifecycle import Cluster
from e2e.customers import Customer, all_of, prepare_offerings, remove_offerings
from e2e.faults.plan import Plan
from e2e.faults.proxy import Proxy
from e2e.history import History
from e2e.operator import OperatorProcess
from e2e.waiting import until

_CHECKOUT = Path(__file__).parent.parent
_PRICES = str(_CHECKOUT / "manifests/samples/prices.yaml")


@dataclass(slots=True)
class Stage:
    """`proxy` injects nothing until it is given a plan; operators go through it if they are told to."""

    cluster: Cluster
    api: Api
    history: History
    proxy: Proxy
    directory: Path
    customers: list[Customer] = field(default_factory=list)
    operators: list[OperatorProcess] = field(default_factory=list)

    async def enter(self, *names: str, compute_units: int = 800, repair_after: str = "5s") -> list[Customer]:
        """Customers of these names come in, and can buy the two models."""
        come = [Customer(name, self.api, self.history, compute_units, repair_after) for name in names]
        self.customers += come
        await prepare_offerings(self.api, self.customers)
        return come

    async def operator(self, *flags: str, name: str = "operator", server: str = "") -> OperatorProcess:
        """One more operator, which has been started."""
        process = OperatorProcess(self.cluster, self.directory, flags, name, server=server)
        await asyncio.to_thread(process.start)
        self.operators.append(process)
        return process

    async def clear(self) -> None:
        """Customers go, and only then the operators: these have to see that nothing is pinned any more."""
        self.proxy.plan = Plan(0)
        await self.proxy.restore()
        try:
            for process in self.operators:
                process.thaw()
            if not any(process.is_running() for process in self.operators):
                await self.operator("--leader-elect=false", name="sweeper")
            await all_of(*(customer.leave() for customer in self.customers))
            await remove_offerings(self.api, self.history)
        finally:
            for process in self.operators:
                process.end()


@contextlib.asynccontextmanager
async def staged(cluster: Cluster, directory: Path) -> AsyncIterator[Stage]:
    """The stage, with everything gone from it when it is left."""
    await asyncio.to_thread(cluster.kubectl, "apply", "--server-side", "-k", str(_CHECKOUT / "manifests/install"))
    await _apply_prices(cluster)
    upstream = await Upstream.of(cluster.kubeconfig)
    async with Api(upstream) as api, History(api) as history, Proxy(upstream, Plan(0)) as proxy:
        stage = Stage(cluster, api, history, proxy, directory)
        try:
            yield stage
        finally:
            await stage.clear()
            cluster.kubectl("delete", "-f", _PRICES, "--ignore-not-found", check=False)


async def _apply_prices(cluster: Cluster) -> None:
    """As soon as the CRDs that were just applied are served."""
    command = ("apply", "--server-side", "--force-conflicts", "-f", _PRICES)
    await asyncio.to_thread(until, lambda: cluster.kubectl.succeeds(*command), "the CRDs are served")

"""Runs of an operator with books, a billing system and a calendar of their own, side by side in one cluster; and what must be
true of the books and of billing afterwards, read past the operator's own code.

Every run begins on the same day of the operator's clock, with the same two customers: so its books can be compared with those
of another run, to the letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from e2e.api import CLASSES, INSTANCES, NAMESPACES, NODES, OFFERINGS, POOLS, PRICE_BOOKS, Api, Json, Refused, body_of
from e2e.cluster import nodes
from e2e.cluster.lifecycle import Cluster
from e2e.cluster.teardown import remove_namespaces
from e2e.customers import SMALL, offerings
from e2e.operator import OperatorProcess
from e2e.waiting import eventually
from tests.fakes.sink import HttpSink

_CHECKOUT = Path(__file__).parent.parent
START = datetime(2027, 3, 25, 12, tzinfo=UTC)
FALL = date(2027, 4, 4)
"""The list price of a year falls on this day from 220.00 to 200.00, which is known from the beginning."""
_NAME = "e2e-money"  # of the price book, the class and the offering
_NODES = [f"money-{number}" for number in range(5)]
_SECONDS = 180.0
_LOOK_SECONDS = 0.1
_ROWS = text(
    "SELECT contract, day, kind, account, currency, amount_minor, receivable_minor, prepaid_minor, revenue_minor,"
    " credits_minor, compute_units, price, note FROM transactions WHERE account LIKE :of ORDER BY account, number"
)
_INVOICES = text("SELECT number, document FROM invoices WHERE account LIKE :of ORDER BY number")
_NOTICES = text("SELECT id FROM notices WHERE account LIKE :of ORDER BY id")
_PROVISIONED = text(
    "SELECT subject FROM intervals WHERE namespace = :namespace AND pool = :pool AND kind = 'Provisioned'"
    " AND until IS NULL AND compute_units = 100"
)
_WAITING = text("SELECT count(*) FROM outbox WHERE account LIKE :of")

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commitment:
    """`start` days and prices: 100 CU of a year cost 264,000.00 at 220.00 and 240,000.00 at 200.00."""

    id: str
    term: str = "OneYear"
    payment: str = "Monthly"

    def spec(self, run: str) -> Json:
        given = {"id": f"{self.id}.{run}", "computeUnits": 100, "term": self.term, "provisionBy": "2027-04-01"}
        return {**given, "payment": self.payment}


CUSTOMERS = {
    "acme": (Commitment("po-1"), Commitment("po-2", payment="AnnualPrepaid")),
    "globex": (Commitment("po-3", term="ThreeMonths"),),
}


@dataclass(frozen=True, slots=True)
class Ledger:
    """What stands in the books: rows by account in the order of posting, invoices, and ids of notices."""

    rows: dict[str, list[Row]]
    invoices: dict[str, Json]
    notices: list[str]

    def until(self, today: date) -> Ledger:
        """What stood in them on the morning of that day."""
        rows = {account: [row for row in rows if row[1] < str(today)] for account, rows in self.rows.items()}
        invoices = {number: each for number, each in self.invoices.items() if each["issuedAt"][:10] <= str(today)}
        return Ledger(rows, invoices, self.notices)

    def by_contract(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for rows in self.rows.values():
            for row in rows:
                found.setdefault(row[0], []).append(row)
        return found


@dataclass(slots=True)
class Run:
    """`name` keeps its customers and orders apart from those of other runs. `url` is where its books are."""

    name: str
    cluster: Cluster
    api: Api
    directory: Path
    url: str
    sink: HttpSink
    operators: list[OperatorProcess] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------------ its clock

    @property
    def offset(self) -> Path:
        return self.directory / f"{self.name}.offset"

    def clock(self, day: float) -> None:
        """It is noon of the day of that number, the order's being 0; at .5 midnight."""
        ahead = START + timedelta(days=day) - datetime.now(UTC)
        new = self.offset.with_suffix(".new")
        new.write_text(str(ahead.total_seconds()))
        os.replace(new, self.offset)  # never half a number

    # -------------------------------------------------------------------------------------------------- its operators

    async def operator(self, name: str = "", *flags: str) -> OperatorProcess:
        """One more, which has been started. It leads without asking unless `flags` are given."""
        told = ["--development", f"--clock-offset-file={self.offset}", f"--database-url={self.url}"]
        told += [f"--billing-url={self.sink.url}", *(flags or ["--leader-elect=false"])]
        process = OperatorProcess(self.cluster, self.directory, told, f"{self.name}{name}")
        await asyncio.to_thread(process.start)
        self.operators.append(process)
        return process

    async def stop(self, process: OperatorProcess) -> None:
        """As by a rollout or a drain."""
        self.operators.remove(process)
        assert await asyncio.to_thread(process.stop) == 0

    def close(self) -> None:
        for process in self.operators:
            process.thaw()
            process.end()
        self.operators.clear()

    # -------------------------------------------------------------------------------------------------- its customers

    def namespace(self, customer: str) -> str:
        return f"{customer}-{self.name}"

    async def order(self, customer: str, pool: str = "prod") -> None:
        """The namespace, the pool and an instance that uses all of it, as Git has them."""
        here = self.namespace(customer)
        await self.api.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": here}})
        commitments = [each.spec(self.name) for each in CUSTOMERS[customer]]
        spec = {"account": here, "priceBookRef": _NAME, "acceleratorClass": _NAME, "commitments": commitments}
        await self.api.apply(POOLS, body_of("ComputeUnitPool", pool, spec, here))
        serving = {"poolRef": pool, "offering": _NAME, "snapshot": f"{SMALL}-1", "instances": len(commitments)}
        await self.api.apply(INSTANCES, body_of("ModelInstance", "fast", serving, here))

    async def begin(self) -> None:
        """Both customers order and use what they have bought, on day 0."""
        self.clock(0)
        await self.operator()
        await self.placed()

    async def placed(self) -> None:
        for customer in CUSTOMERS:
            await self.order(customer)
        for customer in CUSTOMERS:
            await self.used(customer)

    async def used(self, customer: str, pool: str = "prod") -> None:
        """Wait until every commitment is used, so that the first day that it is charged for is known; and until its CU are in
        the books: a day that begins before that has a Shortfall."""
        bought = len(CUSTOMERS[customer])
        here = {"namespace": self.namespace(customer), "pool": pool}

        async def in_the_books() -> int:
            status = await self.pool(customer, pool)
            used = [each for each in status.get("commitments", ()) if each.get("billingStart")]
            (found,) = await self._ask(_PROVISIONED, **here) or [[]]
            allocated: int = status.get("computeUnits", {}).get("allocated", 0)
            return min(len(used), len(found), allocated // 100)

        await self.until(in_the_books, lambda count: count == bought, f"{customer} uses what it has bought")

    async def pool(self, customer: str, pool: str = "prod") -> Json:
        """The status of a pool; nothing where there is no pool."""
        try:
            obj = await self.api.get(POOLS, self.namespace(customer), pool)
        except Refused:
            return {}
        status: Json = obj.get("status") or {}
        return status

    async def leave(self, *customers: str) -> None:
        """Their namespaces are deleted, with everything in them."""
        for customer in customers or CUSTOMERS:
            await self.api.delete(NAMESPACES, "", self.namespace(customer))

    async def gone(self, *customers: str) -> None:
        names = [self.namespace(each) for each in customers or CUSTOMERS]
        await asyncio.to_thread(remove_namespaces, self.cluster.kubectl, *names)

    # ------------------------------------------------------------------------------------------------------ its books

    async def reach(self, day: int) -> None:
        """It becomes that day, and all days before it are posted and have reached billing."""
        self.clock(day)
        await self.posted(day)
        await self.delivered()

    async def posted(self, day: int) -> None:
        await self.until(
            self.ledger,
            lambda found: (
                found is not None
                and all(rows[-1][1] == _last(day) for rows in found.by_contract().values())
                and len(found.by_contract()) == 3
                and found.invoices.keys() >= self._due(day)
            ),
            f"everything before day {day} is posted",
        )

    async def delivered(self) -> None:
        await self.until(self._waiting, lambda count: count == 0, "billing has heard of everything")

    def _due(self, day: int) -> set[str]:
        """Numbers of the invoices that are issued by then."""
        today, found = START.date() + timedelta(days=day), set()
        for customer, commitments in CUSTOMERS.items():
            found |= {
                f"{customer}-USD-{month}"
                for month, at in (("2027-03", date(2027, 4, 2)), ("2027-04", date(2027, 5, 2)))
                if at <= today
            }
            found |= {f"{customer}-{each.id}-2027-03-26" for each in commitments if each.payment == "AnnualPrepaid"}
        return found

    async def ledger(self) -> Ledger | None:
        """None while the database does not answer. What tells this run from others is left out."""
        found = await self._ask(_ROWS, _INVOICES, _NOTICES)
        if found is None:
            return None
        rows: dict[str, list[Row]] = {}
        for each in found[0]:
            row = tuple(self.plain(str(value)) for value in each)
            rows.setdefault(row[3], []).append(row)
        invoices = {self.plain(number): json.loads(self.plain(document)) for number, document in found[1]}
        return Ledger(rows, invoices, [self.plain(each.id) for each in found[2]])

    async def _waiting(self) -> int | None:
        found = await self._ask(_WAITING)
        return int(found[0][0][0]) if found is not None else None

    async def _ask(self, *statements: Any, **values: str) -> list[Sequence[Any]] | None:
        def ask() -> list[Sequence[Any]] | None:
            engine = create_engine(self.url.replace("postgresql://", "postgresql+psycopg://"))
            try:
                with engine.connect() as connection:
                    return [connection.execute(each, {"of": f"%-{self.name}", **values}).all() for each in statements]
            except SQLAlchemyError:
                return None
            finally:
                engine.dispose()

        return await asyncio.to_thread(ask)

    def plain(self, words: str) -> str:
        """Without the name of the run."""
        return words.replace(f"-{self.name}", "").replace(f".{self.name}", "")

    # ---------------------------------------------------------------------------------------------- what must be true

    async def agrees(self, calm: Ledger, day: int) -> None:
        """The books are those of the undisturbed run, and billing has each row once, in the order of its account."""
        ledger = await self.ledger()
        assert ledger is not None
        wanted = calm.until(START.date() + timedelta(days=day))
        differences = _differences(ledger.by_contract(), wanted.by_contract())
        assert not differences, differences[:5]
        assert ledger.invoices == wanted.invoices
        self.billed(ledger)
        for customer in CUSTOMERS:
            conditions = {each["type"]: each for each in (await self.pool(customer)).get("conditions", ())}
            assert conditions.get("LedgerBalanced", {"status": "True"})["status"] == "True", conditions

    def billed(self, ledger: Ledger) -> None:
        """At billing: nothing twice, nothing missing, nothing from nowhere, and nothing under an id that said something else."""
        kept = {
            self.plain(account): [self.plain(each) for each in ids]
            for account, ids in self.sink.received.kept.items()
            if account.endswith(f"-{self.name}")  # the last run's may be on their way out
        }
        assert kept.keys() == ledger.rows.keys()
        others = {f"invoice/{number}" for number in ledger.invoices} | set(ledger.notices)
        for account, rows in ledger.rows.items():
            keys = [f"{row[0]}/{row[1]}/{row[2]}" for row in rows]
            came = [each for each in kept[account] if each not in others]
            assert came == keys, [pair for pair in itertools.zip_longest(came, keys) if pair[0] != pair[1]][:5]
        assert {each for ids in kept.values() for each in ids if each in others} == others
        said: dict[str, Json] = {}
        for _, events in self.sink.requests:
            for event in events:
                assert said.setdefault(event["id"], event) == event

    async def until(
        self, look: Callable[[], Awaitable[Any]], enough: Callable[[Any], Any], what: str, seconds: float = _SECONDS
    ) -> Any:
        """Wait until what `look` finds is `enough`; what it found."""
        deadline = time.monotonic() + seconds
        while not enough(found := await look()):
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}: {found}"
            for process in self.operators:
                assert process.is_running(), f"{process.name} has ended by itself"
            await asyncio.sleep(_LOOK_SECONDS)
        return found


def _differences(found: dict[str, list[Row]], wanted: dict[str, list[Row]]) -> list[tuple[str, Row]]:
    added = [("added", row) for each, rows in found.items() for row in rows if row not in wanted.get(each, [])]
    missing = [("missing", row) for each, rows in wanted.items() for row in rows if row not in found.get(each, [])]
    moved = [("moved", rows[0]) for each, rows in found.items() if not added and not missing and rows != wanted[each]]
    return [*added, *missing, *moved]


def _last(day: int) -> str:
    return str(START.date() + timedelta(days=day - 1))


async def provide(api: Api, cluster: Cluster) -> None:
    """Our installation, and what both customers of every run are sold: prices, a model, and nodes for all runs."""
    await asyncio.to_thread(cluster.kubectl, "apply", "--server-side", "-k", str(_CHECKOUT / "manifests/install"))
    entries = [
        {"term": "OneYear", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "220.00"},
        {"term": "OneYear", "effectiveFrom": str(FALL), "pricePerComputeUnitMonth": "200.00"},
        {"term": "ThreeMonths", "effectiveFrom": "2024-02-08", "pricePerComputeUnitMonth": "260.00"},
    ]
    book = body_of("PriceBook", _NAME, {"currency": "USD", "computeUnits": entries})

    async def applied() -> bool:
        with contextlib.suppress(Refused):
            await api.apply(PRICE_BOOKS, book)
            return True
        return False

    await eventually(applied, "the CRD that has just been applied is served")
    spec = {
        "nodeSelector": {"matchLabels": {"nvidia.com/gpu.product": _NAME}},
        "gpuResource": "nvidia.com/gpu",
        "gpusPerNode": 8,
        "computeUnitsPerNode": 800,
    }
    await api.apply(CLASSES, body_of("AcceleratorClass", _NAME, spec))
    (offering,) = (each for each in offerings([_NAME]) if each["metadata"]["name"] == SMALL)
    await api.apply(OFFERINGS, {**offering, "metadata": {"name": _NAME}})
    given = [nodes.gpu_node(name, "z1", product=_NAME) for name in _NODES]
    await asyncio.to_thread(nodes.apply, cluster.kubectl, given)


async def withdraw(api: Api) -> None:
    """What others would count: nodes, and what they are."""
    for name in _NODES:
        await api.delete(NODES, "", name)
    await api.delete(CLASSES, "", _NAME)

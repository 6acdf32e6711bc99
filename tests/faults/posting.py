"""An operator of the tests that does nothing but close days: as a program of its own, so that it can be killed.

    python -m tests.faults.posting URL DAYS

Waits for a line on stdin, closes day after day for all contracts, tries again whatever the database says, and prints the
number of each day that it has closed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.ledger_ports import Ledger, LedgerUnavailable, TermId
from tests.contract.ledger_port import NOW, charge, contract, day, shortfall

CONTRACTS = tuple(
    contract(f"{account}-{number}", account=account) for account in ("acme", "globex") for number in (1, 2)
)


async def order(ledger: Ledger) -> None:
    await ledger.register(CONTRACTS)


async def close(ledger: Ledger, number: int) -> None:
    """Post what is due at midnight after day `number`; every day has a charge, every third a credit."""
    after: TermId | None = None
    while page := await ledger.due(day(number + 1), after=after, limit=3):
        rows = []
        for each in page:
            done = each.posted_through
            first = 1 if done is None else (done - day(1)).days + 2
            for which in range(first, number + 1):
                row = charge(which, each.contract.commitment, minor=5000 + which, account=each.contract.account)
                rows.append(row)
                if which % 3 == 0:
                    credit = shortfall(which, each.contract.commitment)
                    rows.append(replace(credit, account=each.contract.account))
        await ledger.append(rows, now=NOW + timedelta(days=number))
        after = TermId(page[-1].contract.commitment, page[-1].contract.number)


async def close_all(ledger: Ledger, days: int, mend: Callable[[], None] = lambda: None) -> None:
    """Day after day, each until it is done; `mend` is called after each failure."""
    for number in range(1, days + 1):
        while True:
            try:
                await close(ledger, number)
                break
            except LedgerUnavailable:
                mend()


async def _main(url: str, days: int) -> None:
    database = Database(url)
    ledger = SqlLedger(database)
    await order(ledger)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    for number in range(1, days + 1):
        await close_all(ledger, number)
        print(number, flush=True)  # noqa: T201
    await database.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))

"""The books in memory, in SQLite and in PostgreSQL keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reserved_capacity.adapters.database.engine import Database
from reserved_capacity.adapters.database.ledger import SqlLedger
from reserved_capacity.ledger_ports import Ledger
from tests.contract.ledger_port import LedgerContract
from tests.contract.lots_port import LotsContract
from tests.fakes.ledger import FakeLedger


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ledger]:
    if request.param == "fake":
        yield FakeLedger()
        return
    # What is read in pages is read in more than one.
    monkeypatch.setattr("reserved_capacity.adapters.database.ledger.STREAM_PAGE", 2)
    monkeypatch.setattr("reserved_capacity.adapters.database.ledger.POOLS_PAGE", 1)
    sqlite = request.param == "sqlite"
    database = Database(f"sqlite:///{tmp_path}/books.db" if sqlite else request.getfixturevalue("postgres").create())
    yield SqlLedger(database)
    await database.close()


class TestLedgerPort(LedgerContract):
    pass


class TestLots(LotsContract):
    pass

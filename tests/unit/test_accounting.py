from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reserved_capacity import accounting
from reserved_capacity.adapters.metrics import Metrics
from reserved_capacity.ports import ApiError, JsonObject, Listing, OutcomeUnknown, Ref, Resource, Unavailable
from reserved_capacity.settings import Settings


@dataclass
class Reader:
    """Fails of these first, then answers."""

    errors: list[ApiError] = field(default_factory=lambda: [Unavailable("503"), OutcomeUnknown("500")])

    async def get(self, ref: Ref) -> JsonObject | None:
        if self.errors:
            raise self.errors.pop(0)
        return {"metadata": {"name": ref.name, "uid": "1234"}}

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        raise NotImplementedError


async def test_books_wait_for_an_api_server_that_does_not_answer_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADR 0013: it is no reason to end."""
    monkeypatch.setattr(accounting, "_RETRY_SECONDS", 0.0)
    reader = Reader()
    books = accounting.Books(Settings(database_url=f"sqlite:///{tmp_path}/books.db"), reader, Metrics())
    await books.open()
    await books.close()
    assert reader.errors == []

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reserved_capacity.adapters.limit_file import FILE, LimitFile
from reserved_capacity.gateway.ratelimit import ratelimit_config
from reserved_capacity.ports import CONFIG_MAPS, ApiError, JsonObject, Listing, Ref, Resource, Unavailable
from tests.unit.gateway.test_gateway_limits import config_map, entry


@dataclass
class Reader:
    """An API server with these ConfigMaps, or one that is away."""

    items: list[JsonObject] = field(default_factory=list)
    away: bool = False

    async def get(self, ref: Ref) -> JsonObject | None:
        raise NotImplementedError

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Listing:
        assert (resource, namespace, label_selector, field_selector) == (CONFIG_MAPS, "capacity", "", "")
        if self.away:
            raise Unavailable("503")
        return Listing(self.items, "1")


async def test_the_file_is_what_the_config_maps_say_and_written_only_when_it_changes(tmp_path: Path) -> None:
    reader = Reader([config_map("limits-a", entry())])
    file = LimitFile(reader, "capacity", tmp_path / "config")
    assert await file.refresh()
    assert not await file.refresh()
    assert [path.name for path in (tmp_path / "config").iterdir()] == [FILE]
    reader.items = []
    assert await file.refresh()
    assert json.loads((tmp_path / "config" / FILE).read_text()) == ratelimit_config({})


async def test_an_api_server_that_is_away_leaves_the_file_and_is_asked_again(tmp_path: Path) -> None:
    reader = Reader([config_map("limits-a", entry())])
    file = LimitFile(reader, "capacity", tmp_path)
    await file.refresh()
    before = (tmp_path / FILE).read_text()
    reader.away = True
    with pytest.raises(ApiError):
        await file.refresh()
    rounds = 0

    async def sleep(_seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await file.follow(sleep)
    assert (tmp_path / FILE).read_text() == before

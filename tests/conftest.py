"""Hypothesis profiles: `quick` for every run, `thorough` for `pytest --hypothesis-profile=thorough`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.postgresql import Postgres

_ALWAYS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Derandomised: what CI says of a commit does not change from run to run. Chance is for the thorough profile.
settings.register_profile("quick", _ALWAYS, max_examples=60, stateful_step_count=20, derandomize=True)
settings.register_profile("thorough", _ALWAYS, max_examples=1500, stateful_step_count=50)
settings.load_profile("quick")

# Plain logs: a traceback with every local of the simulated world, drawn in boxes, takes minutes.
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, started for the first test of this process that asks for one (half a second)."""
    from tests.postgresql import Postgres

    server = Postgres(fsync="off")
    yield server
    server.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the texts of tests/golden anew")

"""Owns bringing the tables up to date: forward only, by one process at a time, at every start."""

from __future__ import annotations

import threading

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, text

_LOCK = 0x7265_7365_7276_6564  # "reserved": the advisory lock that operators queue for
# Alembic's context is one for the process.
_one_at_a_time = threading.Lock()


def must_be_current(engine: Engine) -> None:
    """CommandError: the tables are not those of our version."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != head:
        raise CommandError(
            f"its tables are of version {found or 'none'}, ours are {head}: use the version of the operator"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "reserved_capacity.adapters.database:migrations")
    config.set_main_option("path_separator", "os")
    return config


def upgrade(engine: Engine) -> None:
    """Run the migrations that are missing, all or none. CommandError: the tables are of a newer version than ours."""
    config = _config()
    with _one_at_a_time, engine.begin() as connection:  # SQLite: BEGIN IMMEDIATE, so this is the only writer
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            connection.execute(text("SET LOCAL statement_timeout = 0"))  # a large table takes as long as it takes
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

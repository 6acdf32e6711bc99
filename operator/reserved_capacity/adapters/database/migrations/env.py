"""Alembic's entry: runs inside the connection and the transaction that `..upgrading` hands over, under its lock."""

from __future__ import annotations

from alembic import context

from reserved_capacity.adapters.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite's DDL is transactional, too; Alembic is told so, or it would commit each step by itself.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

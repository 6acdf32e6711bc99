"""Whose books these are; what was provisioned of a commitment, wherever its pool stood; a fence from the first day on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column(
            "cluster", sa.Text, nullable=False, comment="the uid of the kube-system namespace of whose books these are"
        ),
        sa.CheckConstraint("id = 1", name="identity_is_one_row"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("intervals_of_subject", "intervals", ["subject", "until"])
    # Whoever writes down a fact locks this row against a close: it has to be there before the first one.
    op.execute("INSERT INTO progress (id, last_day) VALUES (1, '1970-01-01') ON CONFLICT DO NOTHING")

"""Token units: lots, their cuts, list prices of units, and the units of a row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
DAY = sa.Date().with_variant(sa.Text(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

APPEND_ONLY = ("lot_cuts", "unit_prices")
FOR_EVER = (
    "id",
    "number",
    "direction",
    "account",
    "namespace",
    "reservation",
    "offering",
    "price_book",
    "currency",
    "units",
    "unit_tpm",
    "minimum_days",
    "ordered_price",
    "purchased_at",
)


def upgrade() -> None:
    op.add_column("transactions", sa.Column("token_units", WHOLE, nullable=False, server_default=sa.text("0")))
    op.create_table(
        "lots",
        sa.Column("id", WORD, primary_key=True),
        sa.Column("number", WHOLE, nullable=False),
        sa.Column("direction", WORD, nullable=False),
        sa.Column("account", WORD, nullable=False),
        sa.Column("namespace", WORD, nullable=False),
        sa.Column("reservation", WORD, nullable=False),
        sa.Column("offering", WORD, nullable=False),
        sa.Column("price_book", WORD, nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("units", WHOLE, nullable=False),
        sa.Column("unit_tpm", WHOLE, nullable=False),
        sa.Column("minimum_days", WHOLE, nullable=False),
        sa.Column("ordered_price", WORD, nullable=False),
        sa.Column("purchased_at", MOMENT, nullable=False),
        sa.Column("billing_start", DAY),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("lots_of_account", "lots", ["account"])
    op.create_index("lots_of_reservation", "lots", ["namespace", "reservation"])
    op.create_table(
        "lot_cuts",
        sa.Column("lot", WORD, nullable=False),
        sa.Column("number", WHOLE, nullable=False),
        sa.Column("at", DAY, nullable=False),
        sa.Column("units", WHOLE, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("lot", "number"),
        sa.ForeignKeyConstraint(["lot"], ["lots.id"]),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "unit_prices",
        sa.Column("price_book", WORD, nullable=False),
        sa.Column("offering", WORD, nullable=False),
        sa.Column("direction", WORD, nullable=False),
        sa.Column("effective_from", DAY, nullable=False),
        sa.Column("per_unit_day", WORD, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("price_book", "offering", "direction", "effective_from", "per_unit_day"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    if op.get_context().dialect.name == "sqlite":
        _sqlite_guards()
    else:
        _postgresql_guards()


def _sqlite_guards() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'the books are append-only'); END"
    for table in APPEND_ONLY:
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
    for table in (*APPEND_ONLY, "lots"):
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
    op.execute(f"CREATE TRIGGER lots_once BEFORE UPDATE ON lots WHEN {_changes('IS NOT')} {refuse}")


def _postgresql_guards() -> None:
    call = "EXECUTE FUNCTION books_are_append_only()"
    for table in APPEND_ONLY:
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW {call}")
    for table in (*APPEND_ONLY, "lots"):
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW {call}")
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}")
    condition = _changes("IS DISTINCT FROM")
    op.execute(f"CREATE TRIGGER lots_once BEFORE UPDATE ON lots FOR EACH ROW WHEN ({condition}) {call}")


def _changes(differs: str) -> str:
    """The condition that something was changed which stands for ever, or which was known already."""
    learnt = f"OLD.billing_start IS NOT NULL AND NEW.billing_start {differs} OLD.billing_start"
    return " OR ".join((*(f"NEW.{name} {differs} OLD.{name}" for name in FOR_EVER), learnt))

"""The books: agreements, intervals, transactions, invoices, and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
DAY = sa.Date().with_variant(sa.Text(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
LASTING = sa.text("until IS NULL")


def upgrade() -> None:
    _agreements()
    _transactions()
    _documents()
    _views()
    _guards()


def _agreements() -> None:
    op.create_table(
        "contracts",
        sa.Column("commitment", WORD, nullable=False),
        sa.Column("number", WHOLE, nullable=False),
        sa.Column("account", WORD, nullable=False),
        sa.Column("namespace", WORD, nullable=False),
        sa.Column("pool", WORD, nullable=False),
        sa.Column("price_book", WORD, nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("compute_units", WHOLE, nullable=False),
        sa.Column("term", WORD, nullable=False),
        sa.Column("payment", WORD, nullable=False),
        sa.Column("ordered_price", WORD, nullable=False),
        sa.Column("accepted_at", MOMENT, nullable=False),
        sa.Column("provision_by", DAY),
        sa.Column("fully_provisioned_at", MOMENT),
        sa.Column("first_provisioned_at", MOMENT),
        sa.Column("billing_start", DAY),
        sa.Column("last_day", DAY, comment="the last charged day; set with billing_start"),
        sa.PrimaryKeyConstraint("commitment", "number"),
        sa.CheckConstraint("(billing_start IS NULL) = (last_day IS NULL)", name="contract_has_both_ends"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("contracts_of_account", "contracts", ["account"])
    op.create_index("contracts_of_pool", "contracts", ["namespace", "pool"])
    op.create_table(
        "reductions",
        sa.Column("commitment", WORD, nullable=False),
        sa.Column("number", WHOLE, nullable=False),
        sa.Column("at", DAY, nullable=False),
        sa.Column("compute_units", WHOLE, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("commitment", "number", "at", "compute_units"),
        sa.ForeignKeyConstraint(["commitment", "number"], ["contracts.commitment", "contracts.number"]),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "price_sightings",
        sa.Column("price_book", WORD, nullable=False),
        sa.Column("term", WORD, nullable=False),
        sa.Column("effective_from", DAY, nullable=False),
        sa.Column("per_cu_month", WORD, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("price_book", "term", "effective_from", "per_cu_month"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "intervals",
        sa.Column("id", WHOLE, sa.Identity(), primary_key=True),
        sa.Column("namespace", WORD, nullable=False),
        sa.Column("pool", WORD, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("owner", WORD, nullable=False),
        sa.Column("compute_units", WHOLE, nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("until", MOMENT),
        sa.CheckConstraint("until >= since", name="interval_ends_after_it_began"),
        sqlite_strict=True,
    )
    op.create_index(
        "intervals_lasting",
        "intervals",
        ["namespace", "pool", "kind", "subject"],
        unique=True,
        sqlite_where=LASTING,
        postgresql_where=LASTING,
    )
    op.create_index("intervals_of_pool", "intervals", ["namespace", "pool", "until"])


def _transactions() -> None:
    op.create_table(
        "accounts",
        sa.Column("account", WORD, primary_key=True),
        sa.Column("last_number", WHOLE, nullable=False),
        sa.Column("claimed_by", sa.Text),
        sa.Column("claimed_until", MOMENT),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "books",
        sa.Column("account", WORD, nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("first_day", DAY, nullable=False),
        sa.PrimaryKeyConstraint("account", "currency"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "progress",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("last_day", DAY, nullable=False, comment="the latest day that is closed"),
        sa.CheckConstraint("id = 1", name="progress_is_one_row"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transactions",
        sa.Column("contract", WORD, nullable=False),
        sa.Column("day", DAY, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("account", WORD, nullable=False),
        sa.Column("number", WHOLE, nullable=False),
        sa.Column("posted_at", MOMENT, nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("amount_minor", WHOLE, nullable=False),
        sa.Column("receivable_minor", WHOLE, nullable=False),
        sa.Column("prepaid_minor", WHOLE, nullable=False),
        sa.Column("revenue_minor", WHOLE, nullable=False),
        sa.Column("credits_minor", WHOLE, nullable=False),
        sa.Column("compute_units", WHOLE, nullable=False),
        sa.Column("price", WORD, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("contract", "day", "kind"),
        sa.CheckConstraint(
            "receivable_minor + prepaid_minor + revenue_minor + credits_minor = 0", name="debits_equal_credits"
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("transactions_of_account", "transactions", ["account", "day", "number"])


def _documents() -> None:
    op.create_table(
        "notices",
        sa.Column("id", WORD, primary_key=True),
        sa.Column("account", WORD, nullable=False),
        sa.Column("contract", WORD, nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "invoices",
        sa.Column("number", WORD, primary_key=True),
        sa.Column("account", WORD, nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("month", DAY, nullable=False),
        sa.Column("issued_at", MOMENT, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("invoices_of_account", "invoices", ["account", "month"])
    op.create_table(
        "closed_months",
        sa.Column("account", WORD, nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("month", DAY, nullable=False),
        sa.Column("through", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("account", "currency", "month"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("account", WORD, nullable=False),
        sa.Column("place", WHOLE, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("contract", WORD, nullable=False),
        sa.Column("day", DAY, comment="with kind: the transaction that this reports"),
        sa.Column("kind", sa.Text),
        sa.Column("document", WORD, comment="the id of the invoice or notice that this reports"),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("account", "place"),
        sa.CheckConstraint(
            "(day IS NULL) = (kind IS NULL) AND (day IS NULL) <> (document IS NULL)", name="reports_one_thing"
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "halts",
        sa.Column("contract", WORD, primary_key=True),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _views() -> None:
    books = ("receivable", "prepaid", "revenue", "credits")
    sides = (
        f"SELECT contract, day, kind, account, currency, '{book}' AS book, {book}_minor AS minor "  # noqa: S608
        f"FROM transactions WHERE {book}_minor <> 0"
        for book in books
    )
    op.execute(f"CREATE VIEW postings AS {' UNION ALL '.join(sides)}")


APPEND_ONLY = ("transactions", "invoices", "closed_months", "notices", "price_sightings", "reductions")
# What may be filled in once: what was not known when the contract was written.
LEARNT = ("provision_by", "fully_provisioned_at", "first_provisioned_at", "billing_start", "last_day")


def _guards() -> None:
    """No program, and no person with a SQL prompt and a slip, changes what stands in the books."""
    if op.get_context().dialect.name == "sqlite":
        _sqlite_guards()
    else:
        _postgresql_guards()


def _sqlite_guards() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'the books are append-only'); END"
    for table in APPEND_ONLY:
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
    for table in (*APPEND_ONLY, "contracts", "intervals"):
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
    op.execute(
        f"CREATE TRIGGER contracts_once BEFORE UPDATE ON contracts WHEN {_changes(_CONTRACT, 'IS NOT')} {refuse}"
    )
    op.execute(
        f"CREATE TRIGGER intervals_once BEFORE UPDATE ON intervals WHEN {_changes(_INTERVAL, 'IS NOT')} {refuse}"
    )


def _postgresql_guards() -> None:
    op.execute(
        "CREATE FUNCTION books_are_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the books are append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    call = "EXECUTE FUNCTION books_are_append_only()"
    for table in APPEND_ONLY:
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW {call}")
    for table in (*APPEND_ONLY, "contracts", "intervals"):
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW {call}")
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}")
    for table, columns in (("contracts", _CONTRACT), ("intervals", _INTERVAL)):
        condition = _changes(columns, "IS DISTINCT FROM")
        op.execute(f"CREATE TRIGGER {table}_once BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({condition}) {call}")


_CONTRACT = (
    (
        "commitment",
        "number",
        "account",
        "namespace",
        "pool",
        "price_book",
        "currency",
        "compute_units",
        "term",
        "payment",
        "ordered_price",
        "accepted_at",
    ),
    LEARNT,
)
_INTERVAL = (("id", "namespace", "pool", "kind", "subject", "owner", "compute_units", "since"), ("until",))


def _changes(columns: tuple[tuple[str, ...], tuple[str, ...]], differs: str) -> str:
    """The condition that something was changed which stands for ever, or which was known already."""
    for_ever, once = columns
    return " OR ".join(
        (
            *(f"NEW.{name} {differs} OLD.{name}" for name in for_ever),
            *(f"OLD.{name} IS NOT NULL AND NEW.{name} {differs} OLD.{name}" for name in once),
        )
    )

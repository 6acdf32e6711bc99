"""The tables as the newest migration leaves them (a test compares). `migrations/` is what makes them.

One row of `transactions` is one balanced transaction: a column for each book, and a CHECK that they sum to 0, so the
database itself keeps debits equal to credits; the view `postings` shows them one a row (ADR 0023). Money is an integer of
minor units, a day and a moment sort as they are: DATE and TIMESTAMPTZ in PostgreSQL, ISO 8601 text in SQLite.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()

_MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Day(TypeDecorator[date]):
    impl = Date
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Date())

    def process_bind_param(self, value: date | None, dialect: Dialect) -> Any:
        return value.isoformat() if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> date | None:  # noqa: ARG002 - the base class names it
        return date.fromisoformat(value) if isinstance(value, str) else value


class Moment(TypeDecorator[datetime]):
    """Aware, UTC, to the microsecond."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment without a time zone: {value}")
        moment = value.astimezone(UTC)
        return moment.strftime(_MOMENT) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the base class names it
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return value.astimezone(UTC) if isinstance(value, datetime) else None


Whole = BigInteger().with_variant(Integer(), "sqlite")
# Ordered by code point on both, whatever the locale of a server: pages and their order do not depend on it.
Word = Text(collation="C").with_variant(Text(), "sqlite")


def _table(name: str, *items: Any) -> Table:
    return Table(name, metadata, *items, sqlite_strict=True, sqlite_with_rowid=False)


contracts = _table(
    "contracts",
    Column("commitment", Word, nullable=False),
    Column("number", Whole, nullable=False),
    Column("account", Word, nullable=False),
    Column("namespace", Word, nullable=False),
    Column("pool", Word, nullable=False),
    Column("price_book", Word, nullable=False),
    Column("currency", Word, nullable=False),
    Column("compute_units", Whole, nullable=False),
    Column("term", Word, nullable=False),
    Column("payment", Word, nullable=False),
    Column("ordered_price", Word, nullable=False),
    Column("accepted_at", Moment, nullable=False),
    Column("provision_by", Day),
    Column("fully_provisioned_at", Moment),
    Column("first_provisioned_at", Moment),
    Column("billing_start", Day),
    Column("last_day", Day, comment="the last charged day; set with billing_start"),
    PrimaryKeyConstraint("commitment", "number"),
    CheckConstraint("(billing_start IS NULL) = (last_day IS NULL)", name="contract_has_both_ends"),
    Index("contracts_of_account", "account"),
    Index("contracts_of_pool", "namespace", "pool"),
)

reductions = _table(
    "reductions",
    Column("commitment", Word, nullable=False),
    Column("number", Whole, nullable=False),
    Column("at", Day, nullable=False),
    Column("compute_units", Whole, nullable=False),
    Column("seen_at", Moment, nullable=False),
    PrimaryKeyConstraint("commitment", "number", "at", "compute_units"),
    ForeignKeyConstraint(["commitment", "number"], ["contracts.commitment", "contracts.number"]),
)

price_sightings = _table(
    "price_sightings",
    Column("price_book", Word, nullable=False),
    Column("term", Word, nullable=False),
    Column("effective_from", Day, nullable=False),
    Column("per_cu_month", Word, nullable=False),
    Column("seen_at", Moment, nullable=False),
    PrimaryKeyConstraint("price_book", "term", "effective_from", "per_cu_month"),
)

intervals = Table(
    "intervals",
    metadata,
    Column("id", Whole, Identity(), primary_key=True),
    Column("namespace", Word, nullable=False),
    Column("pool", Word, nullable=False),
    Column("kind", Word, nullable=False),
    Column("subject", Word, nullable=False),
    Column("owner", Word, nullable=False),
    Column("compute_units", Whole, nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment),
    CheckConstraint("until >= since", name="interval_ends_after_it_began"),
    # Two operators that see the same at once: one of them gets there first.
    Index(
        "intervals_lasting",
        "namespace",
        "pool",
        "kind",
        "subject",
        unique=True,
        sqlite_where=text("until IS NULL"),
        postgresql_where=text("until IS NULL"),
    ),
    Index("intervals_of_pool", "namespace", "pool", "until"),
    Index("intervals_of_subject", "subject", "until"),
    sqlite_strict=True,
)

accounts = _table(
    "accounts",
    Column("account", Word, primary_key=True),
    Column("last_number", Whole, nullable=False),
    Column("claimed_by", Text),
    Column("claimed_until", Moment),
)

books = _table(
    "books",
    Column("account", Word, nullable=False),
    Column("currency", Word, nullable=False),
    Column("first_day", Day, nullable=False),
    PrimaryKeyConstraint("account", "currency"),
)

identity = _table(
    "identity",
    Column("id", Whole, primary_key=True),
    Column("cluster", Text, nullable=False, comment="the uid of the kube-system namespace of whose books these are"),
    CheckConstraint("id = 1", name="identity_is_one_row"),
)

progress = _table(
    "progress",
    Column("id", Whole, primary_key=True),
    Column("last_day", Day, nullable=False, comment="the latest day that is closed"),
    CheckConstraint("id = 1", name="progress_is_one_row"),
)

transactions = _table(
    "transactions",
    Column("contract", Word, nullable=False),
    Column("day", Day, nullable=False),
    Column("kind", Word, nullable=False),
    Column("account", Word, nullable=False),
    Column("number", Whole, nullable=False),
    Column("posted_at", Moment, nullable=False),
    Column("currency", Word, nullable=False),
    Column("amount_minor", Whole, nullable=False),
    Column("receivable_minor", Whole, nullable=False),
    Column("prepaid_minor", Whole, nullable=False),
    Column("revenue_minor", Whole, nullable=False),
    Column("credits_minor", Whole, nullable=False),
    Column("compute_units", Whole, nullable=False),
    Column("price", Word, nullable=False),
    Column("note", Text, nullable=False),
    Column("token_units", Whole, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("contract", "day", "kind"),
    CheckConstraint(
        "receivable_minor + prepaid_minor + revenue_minor + credits_minor = 0", name="debits_equal_credits"
    ),
    Index("transactions_of_account", "account", "day", "number"),
)

lots = _table(
    "lots",
    Column("id", Word, primary_key=True),
    Column("number", Whole, nullable=False),
    Column("direction", Word, nullable=False),
    Column("account", Word, nullable=False),
    Column("namespace", Word, nullable=False),
    Column("reservation", Word, nullable=False),
    Column("offering", Word, nullable=False),
    Column("price_book", Word, nullable=False),
    Column("currency", Word, nullable=False),
    Column("units", Whole, nullable=False),
    Column("unit_tpm", Whole, nullable=False),
    Column("minimum_days", Whole, nullable=False),
    Column("ordered_price", Word, nullable=False),
    Column("purchased_at", Moment, nullable=False),
    Column("billing_start", Day),
    Index("lots_of_account", "account"),
    Index("lots_of_reservation", "namespace", "reservation"),
)

lot_cuts = _table(
    "lot_cuts",
    Column("lot", Word, nullable=False),
    Column("number", Whole, nullable=False),
    Column("at", Day, nullable=False),
    Column("units", Whole, nullable=False),
    Column("seen_at", Moment, nullable=False),
    PrimaryKeyConstraint("lot", "number"),
    ForeignKeyConstraint(["lot"], ["lots.id"]),
)

unit_prices = _table(
    "unit_prices",
    Column("price_book", Word, nullable=False),
    Column("offering", Word, nullable=False),
    Column("direction", Word, nullable=False),
    Column("effective_from", Day, nullable=False),
    Column("per_unit_day", Word, nullable=False),
    Column("seen_at", Moment, nullable=False),
    PrimaryKeyConstraint("price_book", "offering", "direction", "effective_from", "per_unit_day"),
)

notices = _table(
    "notices",
    Column("id", Word, primary_key=True),
    Column("account", Word, nullable=False),
    Column("contract", Word, nullable=False),
    Column("recorded_at", Moment, nullable=False),
    Column("data", Text, nullable=False),
)

invoices = _table(
    "invoices",
    Column("number", Word, primary_key=True),
    Column("account", Word, nullable=False),
    Column("currency", Word, nullable=False),
    Column("month", Day, nullable=False),
    Column("issued_at", Moment, nullable=False),
    Column("document", Text, nullable=False),
    Index("invoices_of_account", "account", "month"),
)

closed_months = _table(
    "closed_months",
    Column("account", Word, nullable=False),
    Column("currency", Word, nullable=False),
    Column("month", Day, nullable=False),
    Column("through", Whole, nullable=False),
    PrimaryKeyConstraint("account", "currency", "month"),
)

outbox = _table(
    "outbox",
    Column("account", Word, nullable=False),
    Column("place", Whole, nullable=False),
    Column("type", Word, nullable=False),
    Column("contract", Word, nullable=False),
    Column("day", Day, comment="with kind: the transaction that this reports"),
    Column("kind", Text),
    Column("document", Word, comment="the id of the invoice or notice that this reports"),
    Column("recorded_at", Moment, nullable=False),
    PrimaryKeyConstraint("account", "place"),
    CheckConstraint("(day IS NULL) = (kind IS NULL) AND (day IS NULL) <> (document IS NULL)", name="reports_one_thing"),
)

halts = _table(
    "halts",
    Column("contract", Word, primary_key=True),
    Column("since", Moment, nullable=False),
    Column("why", Text, nullable=False),
)

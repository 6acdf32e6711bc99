"""The books in a SQL database: SQLite, embedded, or PostgreSQL (behaviour.md M4, docs/operations/database.md)."""

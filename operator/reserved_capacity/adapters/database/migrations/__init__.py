"""How the tables came to be, step by step, forward only. Alembic runs what is in `versions/`; `env.py` is its entry."""

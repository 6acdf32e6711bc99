"""Every reason that a condition may carry: its word, its status, what it means and what to do (api.md)."""

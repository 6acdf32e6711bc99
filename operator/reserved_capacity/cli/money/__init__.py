"""What finance people ask: invoices and the ledger, from the database, and what an order would cost, from the cluster."""

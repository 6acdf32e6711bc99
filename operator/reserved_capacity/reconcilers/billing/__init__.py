"""What keeps the books (ADR 0020): `agreements` tells them what a pool's status says and the pool what they say, `close`
posts the days and issues the invoices, `delivery` reports to billing. They look at one cluster and one ledger, and touch no
capacity."""

"""Token units (ADR 0040-0043): `reservation` tells the books what a reservation orders and the reservation what counts,
`limits` plans one offering: the fleet that backs what is sold, and the rate limits that gateways read."""

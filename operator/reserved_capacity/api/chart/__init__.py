"""The parts of charts/reserved-capacity that are made from one source: CRDs, policies and rights, values, their schema."""

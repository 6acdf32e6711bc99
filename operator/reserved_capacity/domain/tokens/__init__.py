"""Token units: what is bought by the lot, what it costs, what it entitles to, and what backs it (behaviour.md T1-T4)."""

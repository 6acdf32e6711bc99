"""The ledger against an independent second implementation, on 50,000 stories (behaviour.md M1-M6, M8, C4, I5).

`make prove-money` runs a million.
"""

from __future__ import annotations

import pytest

from tests.money.__main__ import findings

_CASES = 50_000
_CHUNK = 2_500


@pytest.mark.parametrize("first", range(0, _CASES, _CHUNK))
def test_every_row_of_every_story_is_what_the_oracle_writes_down_and_invoices_sum_to_the_ledger(first: int) -> None:
    assert findings(first, _CHUNK) == []

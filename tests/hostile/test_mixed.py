"""Everything hostile at once, once, beside a hundred well-behaved streams; `tests/chaos/test_soak.py` does it for longer."""

from __future__ import annotations

import pytest

from tests.harness import bounds
from tests.hostile.hostile_clients import EVERYTHING
from tests.hostile.onslaught import hold, onslaught

WARM_UP = 0.3  # of the corpus
MOST = 256 * 1024  # bytes of a reply, for time


def test_the_corpus_has_kinds_enough():
    assert len(EVERYTHING) >= 60
    assert {name.partition(":")[0] for name in EVERYTHING} == {"request", "reply", "settings", "client"}


@pytest.mark.timeout(12 * bounds.TEST)
async def test_everything_at_once_harms_nobody(tmp_path):
    hold(await onslaught(tmp_path, 0.0, WARM_UP, MOST))

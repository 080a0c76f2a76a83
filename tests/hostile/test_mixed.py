"""A part of everything hostile at once beside a hundred well-behaved streams; `tests/chaos/test_soak.py` has all of it."""

from __future__ import annotations

import random

import pytest

from tests.harness import bounds
from tests.hostile.hostile_clients import EVERYTHING, kind_of, some_of_each
from tests.hostile.onslaught import Plan, onslaught
from tests.hostile.report import hold

KINDS = {"request", "reply", "settings", "token", "key", "client"}
PLAN = Plan(warm_up=0.05, share=1 / 10, around=0.05, most=256 * 1024)  # for time


def test_the_corpus_has_kinds_enough():
    assert len(EVERYTHING) >= 60
    assert set(map(kind_of, EVERYTHING)) == KINDS


@pytest.mark.parametrize("share", [PLAN.warm_up, PLAN.share])
def test_a_share_has_every_kind(share):
    assert set(map(kind_of, some_of_each(EVERYTHING, share, random.Random(1)))) == KINDS


@pytest.mark.timeout(6 * bounds.TEST)
async def test_much_at_once_harms_nobody(tmp_path):
    hold(await onslaught(tmp_path, PLAN))

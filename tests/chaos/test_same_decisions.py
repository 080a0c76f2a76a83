"""The memory store and the script decide the same on ten thousand random histories."""

from __future__ import annotations

import pytest

from tests.harness import bounds
from tests.harness.limit_histories import (
    BothStores,
    histories,
    histories_of_any_clock,
    never_forget,
    play_all,
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(90 * bounds.TEST)]


@pytest.fixture
def client(valkey):
    with valkey.client() as client:
        yield client


def test_ten_thousand_histories(client):
    play_all(BothStores(client), histories, 10_000)


def test_three_thousand_histories_of_clocks_that_step_back(client, monkeypatch):
    never_forget(monkeypatch)
    play_all(BothStores(client), histories_of_any_clock, 3_000)

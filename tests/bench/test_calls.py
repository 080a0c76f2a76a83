from __future__ import annotations

from tests.bench import calls


def test_every_kind_of_call_can_be_measured(monkeypatch):
    monkeypatch.setattr(calls, "ROUNDS", 1)
    monkeypatch.setattr(calls, "MANY", 2)
    costs = calls.measure()
    assert all(cost.us > 0 for cost in costs)
    assert len({cost.name for cost in costs}) == len(costs) > 10

"""What the tests of the relay share."""

from __future__ import annotations

import pytest
from harness.reads import watched_reads

from gateway import aio as ticker
from gateway.relay import run


@pytest.fixture
def reads(monkeypatch):
    """Bytes read on all connections to the upstream since the test began; each write is a read of its own."""
    return watched_reads(monkeypatch)


@pytest.fixture
def hurried(monkeypatch):
    """The coarse timer is not so coarse, and what goes on after a deadline is closed at once: `hurried(grace)`."""
    monkeypatch.setattr(ticker, "INTERVAL", 0.01)

    def grace(seconds):
        monkeypatch.setattr(run, "GRACE", seconds)

    return grace

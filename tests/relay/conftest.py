"""What the tests of the relay share."""

from __future__ import annotations

import pytest
from harness.reads import watched_reads


@pytest.fixture
def reads(monkeypatch):
    """Bytes read on all connections to the upstream since the test began; each write is a read of its own."""
    return watched_reads(monkeypatch)

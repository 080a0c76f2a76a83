"""A real Valkey for the tests of this folder: one that all share, emptied for each, and others to be broken."""

from __future__ import annotations

import pytest
from harness.valkey import running_valkey


@pytest.fixture(scope="session")
def _shared_valkey(tmp_path_factory):
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(_shared_valkey):
    """An empty server; not to be stopped."""
    with _shared_valkey.client() as client:
        client.flushall()
    return _shared_valkey


@pytest.fixture
def own_valkey(tmp_path):
    """A server of this test's own, to be killed, held and restarted."""
    with running_valkey(tmp_path) as server:
        yield server

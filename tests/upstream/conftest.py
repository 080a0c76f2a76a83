"""Pools in front of a scripted server, closed after the test."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from gateway.upstream.pool import Pool, Server
from tests.upstream.loopback import closed


@pytest.fixture
async def pool_to():
    """`pool_to(url, max_connections=10, connect_timeout=5.0, tls=None)`"""
    pools = []

    def begin(url, *, max_connections=10, connect_timeout=5.0, tls=None):
        parts = urlsplit(url)
        server = Server(parts.hostname, parts.port, tls)
        pools.append(Pool(server, max_connections=max_connections, connect_timeout=connect_timeout))
        return pools[-1]

    yield begin
    for pool in pools:
        left = list(pool._open)
        pool.close()
        for connection in left:
            await closed(connection)
        assert repr(pool).endswith(": 0 open, 0 idle, 0 waiting>")

"""What every test has: uvloop as in production, a loop that must not be blocked, a gateway to be started."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from pathlib import Path

import pytest
import uvloop
from blockbuster import blockbuster_ctx

sys.path.insert(0, str(Path(__file__).parent))

from harness.gateway import running
from harness.valkey import running_valkey
from harness.wire import Wire

SECONDS = 9  # for each test with a loop: pytest's own alarm does not wake an idle uvloop


def pytest_collection_modifyitems(items):
    for item in items:
        if inspect.iscoroutinefunction(item.obj) and item.get_closest_marker("timeout") is None:
            item.obj = _bounded(item.obj)


def _bounded(test):
    @functools.wraps(test)
    async def bounded(*args, **kwargs):
        async with asyncio.timeout(SECONDS):
            await test(*args, **kwargs)

    return bounded


def pytest_asyncio_loop_factories():
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def no_blocking_call_on_the_loop():
    """A call of the gateway that blocks its loop is an error."""
    with blockbuster_ctx("gateway") as blockbuster:
        # before the ports are open, and in the simulator that comes with a demo, nobody waits for the loop
        for function in blockbuster.functions.values():
            function.can_block_in("gateway/upstream/upstream.py", {"__init__"})
            function.can_block_in("gateway/config/yaml_reader.py", {"_text"})
            function.can_block_in("gateway/demo.py", {"demo"})
        yield


@pytest.fixture
def start(tmp_path):
    """`async with start(upstream.url, route={...}, upstreams={...}) as gateway:`"""

    def begin(upstream, **sections):
        return running(tmp_path, upstream, **sections)

    return begin


@pytest.fixture
def connect():
    """`async with connect(gateway) as wire:`: a raw client connection."""

    class Connecting:
        def __init__(self, gateway):
            self._gateway = gateway

        async def __aenter__(self):
            self._wire = await Wire.to(self._gateway.host, self._gateway.port)
            return self._wire

        async def __aexit__(self, *_):
            await self._wire.close()

    return Connecting


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

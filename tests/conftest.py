"""Fixtures and hooks for all tests: uvloop as in production, time bounds, no blocking call on the loop, gateways."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from urllib.parse import urlsplit

import pytest
import uvloop
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from gateway import aio
from gateway.relay import run
from gateway.server import reload
from gateway.telemetry import trace_export
from gateway.upstream.pool import Place, Pool, PoolSettings
from tests.harness import bounds
from tests.harness.collector import Collector
from tests.harness.gateway import running
from tests.harness.processes import serving
from tests.harness.raw_client import Wire
from tests.harness.scripted_pool import closed
from tests.harness.upstream_reads import watched_reads
from tests.harness.valkey import running_valkey

# No deadline for one example: a shared machine may stall for seconds. The test has its bound.
settings.register_profile("machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("machine")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Take what collection makes out of the garbage collector's sight.

    These millions of objects live as long as the session. A full collection would take half a second for them, at any
    moment of a test that measures the loop.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Bound every test; a `timeout` marker replaces the general bound."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(bounds.TEST))
        if inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj, bounds.SHARE * item.get_closest_marker("timeout").args[0])


def _bounded(test, seconds):
    """Cancel a test that hangs: the alarm of pytest-timeout does not wake an idle uvloop."""

    @functools.wraps(test)
    async def bounded(*args, **kwargs):
        async with asyncio.timeout(seconds):
            await test(*args, **kwargs)

    return bounded


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    """Keep the garbage collector out of `ast.parse`, which a report of a failure calls for each frame.

    A finalizer that formats a traceback calls it too, and Python 3.11 then fails with "AST constructor recursion depth
    mismatch" (python/cpython#106905).
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_asyncio_loop_factories():
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True, scope="session")
def no_blocking_call_on_the_loop():
    """Raise an error when the gateway blocks its loop. Once for all tests: to begin and end takes milliseconds."""
    with blockbuster_ctx("gateway") as blockbuster:
        # at start, before the ports are open, and in the demo's simulator, blocking delays no request
        for function in blockbuster.functions.values():
            function.can_block_in("gateway/upstream/upstream.py", {"__init__"})
            function.can_block_in("gateway/config/yaml_reader.py", {"_content"})
            function.can_block_in("gateway/config/values.py", {"_check_folder", "log_file"})
            function.can_block_in("gateway/demo.py", {"demo"})
            function.can_block_in("asyncio/runners.py", {"close"})  # a loop that ends waits for its threads
        yield


@pytest.fixture
def start(tmp_path):
    """`async with start(upstream.url, route={...}, upstreams={...}) as gateway:`"""

    def begin(upstream, **sections):
        return running(tmp_path, upstream, **sections)

    return begin


@pytest.fixture
def connect():
    """`async with connect(gateway) as wire:` a raw client connection."""

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
    """An empty server that other tests share: do not stop it."""
    with _shared_valkey.client() as client:
        client.flushall()
    return _shared_valkey


@pytest.fixture
def own_valkey(tmp_path):
    """A server for this test alone, which may kill, pause and restart it."""
    with running_valkey(tmp_path) as server:
        yield server


@pytest.fixture
def serve(tmp_path):
    """`async with serve(upstream.url, server={...}) as gateway:` a gateway in a process of its own."""

    def begin(upstream, **sections):
        return serving(tmp_path, upstream, **sections)

    return begin


@pytest.fixture
def reads(monkeypatch):
    """Bytes that the gateway has read from its upstream; waiting for them makes each write a separate read."""
    return watched_reads(monkeypatch)


@pytest.fixture
def hurried(monkeypatch):
    """Tick every 10 ms instead of once a second; `hurried(seconds)` also shortens the grace after a deadline."""
    monkeypatch.setattr(aio, "INTERVAL", 0.01)
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.01)

    def grace(seconds):
        monkeypatch.setattr(run, "GRACE", seconds)

    return grace


@pytest.fixture
async def collector(monkeypatch):
    """Takes traces, for `traces={"endpoint": collector.url}`; they are sent at once."""
    monkeypatch.setattr(trace_export, "EXPORT_EVERY", 0.0)
    async with Collector() as taking:
        yield taking


@pytest.fixture
async def pool_to():
    """`pool_to(url, max_connections=10, connect_timeout=5.0, tls=None)`"""
    pools = []

    def begin(url, *, max_connections=10, connect_timeout=5.0, tls=None):
        parts = urlsplit(url)
        place = Place(parts.hostname, parts.port, tls)
        pools.append(Pool(place, PoolSettings(max_connections, connect_timeout)))
        return pools[-1]

    yield begin
    for pool in pools:
        left = list(pool._open)
        pool.close()
        for connection in left:
            await closed(connection)
        assert repr(pool).endswith(": 0 open, 0 idle, 0 waiting>")

"""Traces of several workers, and at the end of the process."""

from __future__ import annotations

from types import SimpleNamespace

import aiohttp
import pytest

from gateway.config import TraceSettings
from gateway.server import worker
from tests.harness import bounds
from tests.harness.gateway import FLOW
from tests.harness.surface import answering

pytestmark = pytest.mark.timeout(3 * bounds.TEST)


async def test_each_worker_exports_what_it_has_answered_to_the_last_request(serve, valkey, collector):
    sections = {
        "server": {"workers": 2},
        "limits": {"store": valkey.url},
        "auth": {"secret": "s" * 32},
        "traces": {"endpoint": collector.url},
    }
    async with answering() as upstream, serve(upstream.url, **sections) as gateway:
        url = f"http://{gateway.host}:{gateway.port}/api/v1/prediction/{FLOW}"
        answered = set()
        for _ in range(20):  # each on a connection of its own, so that both workers get some
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, json={"question": "hi"}) as reply,
            ):
                assert reply.status == 200
                answered.add(reply.headers["X-Trace-Id"])
        headers = {"Accept": "application/openmetrics-text"}
        _, scrape, _ = await gateway.ask("/metrics", **headers)
        gateway.send_signal()
        status, err = await gateway.ended()
    assert (status, err) == (0, "")
    assert {span.trace_id for span in collector.spans} == answered
    assert len(collector.spans) == 2 * len(answered)
    assert len({span.resource["service.instance.id"] for span in collector.spans}) == 2
    assert " # {" not in scrape  # no exemplars


class FrozenError(Exception):
    """What there is now is exempt from collections."""


async def test_a_worker_loads_what_traces_need_before_it_exempts_what_lasts(monkeypatch):
    """Each full collection would pass over the objects of the SDK."""
    loaded = []

    def freeze():
        raise FrozenError

    monkeypatch.setattr(worker, "check_traces", loaded.append)
    monkeypatch.setattr(worker, "exempt_what_lasts", freeze)
    settings = TraceSettings()
    received = SimpleNamespace(config=SimpleNamespace(traces=settings))
    with pytest.raises(FrozenError):
        await worker._serve(None, received, None, None)
    assert loaded == [settings]

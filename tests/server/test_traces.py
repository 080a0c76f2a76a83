"""Traces of several workers, and at the end of the process."""

from __future__ import annotations

import aiohttp
import pytest

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

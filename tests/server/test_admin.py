"""The admin application: probes, scrape, token; and that a real process serves it on its own port."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_metrics

from gateway.aio import Threads
from gateway.server.admin import admin_handler
from gateway.telemetry.metrics import Metrics
from tests.harness.gateway import FLOW
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
STREAM = (
    b'message:\ndata:{"event":"token","data":"a"}\n\nmessage:\ndata:{"event":"metadata","data":{}}\n\n'
    b'message:\ndata:{"event":"end","data":"[DONE]"}\n\n'
)


async def answer(peer, _):
    peer.send(STREAM_HEAD)
    peer.chunk(STREAM)
    peer.chunk(b"")


async def ask(wire):
    wire.post(f"/api/v1/prediction/{FLOW}", {"question": "hi", "streaming": True})
    assert (await wire.reply()).body == STREAM


def samples(families):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


# `aiohttp_client` is for plain aiohttp applications: it has its own server, always cancels handlers, and does not drain.
# Tests of the public listener and the relay use the real runner (`start` and `serve` in tests/conftest.py).
@pytest.fixture
async def admin(aiohttp_client, aiohttp_raw_server):
    """`await admin(token="")`: a client of the admin handler, ready unless a reason is given."""
    threads = Threads("metrics", 4)

    async def begin(*, reason="", token="", exposition=None):
        exposition = exposition or Metrics().exposition
        handler = admin_handler(exposition, lambda: reason, token, threads)
        return await aiohttp_client(await aiohttp_raw_server(handler))

    yield begin
    await threads.close()


async def status_and_text(client, path, **headers):
    async with client.get(path, headers=headers) as response:
        return response.status, await response.text()


async def test_the_probes_answer(admin):
    client = await admin()
    assert await status_and_text(client, "/livez") == (200, "ok\n")
    assert await status_and_text(client, "/readyz") == (200, "ok\n")
    assert (await status_and_text(client, "/other"))[0] == 404


async def test_a_gateway_that_is_not_ready_is_alive_and_gives_its_reason(admin):
    client = await admin(reason="starting")
    assert await status_and_text(client, "/livez") == (200, "ok\n")
    assert await status_and_text(client, "/readyz") == (503, "starting\n")


async def test_a_token_guards_everything_but_the_probes(admin):
    client = await admin(token="a-token-for-the-scraper")
    assert (await status_and_text(client, "/livez"))[0] == 200
    assert (await status_and_text(client, "/readyz"))[0] == 200
    async with client.get("/metrics") as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="admin"')
    assert (await status_and_text(client, "/other"))[0] == 401
    assert (await status_and_text(client, "/metrics", Authorization="Bearer wrong"))[0] == 401
    right = {"Authorization": "Bearer a-token-for-the-scraper"}
    assert (await status_and_text(client, "/metrics", **right))[0] == 200


async def test_the_scrape_is_rendered_off_the_loop(admin):
    threads = []

    def exposition(accept):
        threads.append(threading.get_ident())
        return Metrics().exposition(accept)

    client = await admin(exposition=exposition)
    assert "flowise_gateway_build_info" in (await status_and_text(client, "/metrics"))[1]
    (rendered_in,) = threads
    assert rendered_in != threading.get_ident()


async def test_a_process_serves_the_probes_and_the_token_guards_the_scrape(serve):
    token = "a-token-for-the-scraper"
    async with RawUpstream(answer) as upstream, serve(upstream.url, admin={"token": token}) as gateway:
        assert (await gateway.ask("/livez"))[:2] == (200, "ok\n")
        assert (await gateway.ask("/readyz"))[:2] == (200, "ok\n")
        assert (await gateway.ask("/other", Authorization=f"Bearer {token}"))[0] == 404
        assert (await gateway.ask("/metrics"))[0] == 401
        assert (await gateway.ask("/metrics", Authorization=f"Bearer {token}"))[0] == 200


async def test_a_dead_flowise_does_not_make_the_gateway_unready(serve):
    async with serve("http://127.0.0.1:1") as gateway:
        assert (await gateway.ask("/readyz"))[0] == 200


async def test_the_admin_paths_are_not_on_the_public_port(serve, connect):
    async with RawUpstream(answer) as upstream, serve(upstream.url) as gateway, connect(gateway) as wire:
        for path in ("/metrics", "/readyz", "/livez"):
            wire.send(f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
            assert (await wire.reply()).status == 404


async def test_a_scrape_has_the_request_in_both_formats(serve, connect):
    async with RawUpstream(answer) as upstream, serve(upstream.url) as gateway, connect(gateway) as wire:
        await ask(wire)
        await gateway.until("request")
        _, text, headers = await gateway.ask("/metrics")
        _, openly, open_headers = await gateway.ask("/metrics", Accept=OPEN_METRICS)
    assert headers["Content-Type"].startswith("text/plain")
    assert open_headers["Content-Type"].startswith("application/openmetrics-text")
    assert openly.endswith("# EOF\n")
    labels = (("endpoint", "prediction"), ("outcome", "ok"), ("route", "chat"), ("status", "200"))
    for found in (samples(text_metrics(text)), samples(open_metrics(openly))):
        assert found["flowise_gateway_requests_total", *labels] == 1
        assert found["flowise_gateway_stream_events_total", ("event", "token"), ("route", "chat")] == 1
        assert found["flowise_gateway_time_to_first_token_seconds_count", ("route", "chat")] == 1
        assert found["flowise_gateway_bytes_total", ("direction", "out"), ("route", "chat")] == len(STREAM)


async def test_a_token_that_is_not_utf_8_is_wrong(start):
    async with start("http://127.0.0.1:1", admin={"token": "a-token-for-the-scraper"}) as gateway:
        admin = gateway.process.addresses[1]
        async with await Wire.to(admin.host, admin.port) as wire:
            wire.send(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer \xff\r\n\r\n")
            assert (await wire.reply()).status == 401

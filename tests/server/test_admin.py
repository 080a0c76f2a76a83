"""The admin application: probes, scrape, token; and that a real process serves it on its own port."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, suppress

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_metrics

from gateway.aio import WorkThread
from gateway.config import ServerTimeouts
from gateway.server import admin as admin_port
from gateway.server.admin import MAX_PER_ADDRESS, MOST_SCRAPES, AdminAnswers, admin_handler
from gateway.telemetry.metrics import Metrics
from tests.harness import bounds
from tests.harness.gateway import FLOW
from tests.harness.raw_client import Wire, request
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
    threads = WorkThread("metrics", 4)

    async def begin(*, reason="", token="", exposition=None):
        exposition = exposition or Metrics().exposition
        answers = AdminAnswers(exposition, lambda: reason, lambda: b"{}")
        handler = admin_handler(answers, lambda: token, threads)
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
        admin = gateway.process.admin_address
        async with await Wire.to(admin.host, admin.port) as wire:
            wire.send(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer \xff\r\n\r\n")
            assert (await wire.reply()).status == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEARER  "])
async def test_the_scheme_of_the_token_may_be_written_in_any_case(admin, scheme):
    client = await admin(token="a-token-for-the-scraper")
    fields = {"Authorization": f"{scheme} a-token-for-the-scraper"}
    assert (await status_and_text(client, "/metrics", **fields))[0] == 200


@pytest.mark.parametrize(
    "given", ["a-token", "Basic a-token", "Bearer", "Bearer a-token x", "Bearer a-tokeN"]
)
async def test_anything_else_is_not_the_token(admin, given):
    client = await admin(token="a-token")
    assert (await status_and_text(client, "/metrics", Authorization=given))[0] == 401


async def test_two_tokens_are_none(admin):
    client = await admin(token="a-token")
    fields = [("Authorization", "Bearer a-token"), ("Authorization", "Bearer a-token")]
    async with client.get("/metrics", headers=fields) as response:
        assert response.status == 401


async def test_other_methods_are_refused(admin):
    client = await admin()
    async with client.post("/metrics") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    async with client.head("/metrics") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_more_scrapes_than_may_wait_are_refused(admin):
    go = threading.Event()

    def exposition(accept):
        go.wait(bounds.STEP)
        return Metrics().exposition(accept)

    client = await admin(exposition=exposition)
    scrapes = [asyncio.create_task(status_and_text(client, "/metrics")) for _ in range(MOST_SCRAPES + 1)]
    done, _ = await asyncio.wait(scrapes, return_when=asyncio.FIRST_COMPLETED)
    assert (await status_and_text(client, "/livez"))[0] == 200
    go.set()
    statuses = [(await scrape)[0] for scrape in scrapes]
    assert [task.result()[0] for task in done] == [503]
    assert sorted(statuses) == [200] * MOST_SCRAPES + [503]


@pytest.fixture
def admin_wire():
    """`async with admin_wire(gateway) as wire:` a raw connection to the admin port."""

    class Connecting:
        def __init__(self, gateway):
            self._address = gateway.process.admin_address

        async def __aenter__(self):
            self._wire = await Wire.to(self._address.host, self._address.port)
            return self._wire

        async def __aexit__(self, *_):
            await self._wire.close()

    return Connecting


async def test_half_a_head_is_not_waited_for(start, admin_wire, hurried, monkeypatch):
    monkeypatch.setattr(admin_port, "TIMEOUTS", ServerTimeouts.model_construct(headers=0.1))
    async with start("http://127.0.0.1:1") as gateway, admin_wire(gateway) as wire:
        wire.send(b"GET /metr")
        with suppress(ConnectionError):
            assert await wire.reader.read() == b""
        (line,) = await gateway.lines.until("connection_closed")
    assert line["reason"] == "slow_head"


@pytest.mark.parametrize(
    ("field", "status", "words"),
    [
        ("Transfer-Encoding: gzip, chunked", 400, "Send `chunked`"),
        (f"X: {'a' * 20_000}", 431, "Send a shorter"),
    ],
)
async def test_a_head_that_is_refused_is_not_asked_for_its_token(field, status, words, start, admin_wire):
    token = "a-token-of-the-admin-port"
    async with start("http://127.0.0.1:1", admin={"token": token}) as gateway, admin_wire(gateway) as wire:
        wire.send(
            f"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{field}\r\n\r\n".encode()
        )
        reply = await wire.reply()
        assert await wire.reader.read() == b""
    assert (reply.status, words in reply.body.decode()) == (status, True)


async def test_an_address_cannot_take_all_descriptors(start, admin_wire, connect):
    """Half heads: a few wait for their end, the others are closed, and both ports go on."""
    async with start("http://127.0.0.1:1") as gateway, AsyncExitStack() as stack:
        half = [await stack.enter_async_context(admin_wire(gateway)) for _ in range(MAX_PER_ADDRESS + 30)]
        for wire in half:
            wire.send(b"GET /metr")
        for wire in half[MAX_PER_ADDRESS:]:
            with suppress(ConnectionError):
                assert await wire.reader.read() == b""
        async with connect(gateway) as wire:
            wire.send(request("GET", "/api/v1/ping"))
            assert (await wire.reply()).body == b"pong"
        half[0].send(b"ics HTTP/1.1\r\nHost: admin\r\n\r\n")
        assert (await half[0].reply()).status == 200
    lines = gateway.lines.of("connection_closed")
    assert {line["reason"] for line in lines} == {"max_connections_per_address"}
    assert [line.get("count") for line in lines] == [None, 29]

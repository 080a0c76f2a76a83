"""The admin listener of a real process: the two probes, the scrape in both formats, the token."""

from __future__ import annotations

import threading

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_metrics

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


async def test_the_probes_answer(serve):
    async with RawUpstream(answer) as upstream, serve(upstream.url) as gateway:
        assert (await gateway.ask("/livez"))[:2] == (200, "ok\n")
        assert (await gateway.ask("/readyz"))[:2] == (200, "ok\n")
        assert (await gateway.ask("/other"))[0] == 404


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


async def test_a_token_guards_everything_but_the_probes(serve):
    async with (
        RawUpstream(answer) as upstream,
        serve(upstream.url, admin={"token": "a-token-for-the-scraper"}) as gateway,
    ):
        assert (await gateway.ask("/livez"))[0] == 200
        assert (await gateway.ask("/readyz"))[0] == 200
        status, _, headers = await gateway.ask("/metrics")
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="admin"')
        assert (await gateway.ask("/metrics", Authorization="Bearer wrong"))[0] == 401
        assert (await gateway.ask("/metrics", Authorization="Bearer a-token-for-the-scraper"))[0] == 200


async def test_a_token_that_is_not_utf_8_is_wrong(start):
    async with start("http://127.0.0.1:1", admin={"token": "a-token-for-the-scraper"}) as gateway:
        admin = gateway.process.addresses[1]
        async with await Wire.to(admin.host, admin.port) as wire:
            wire.send(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer \xff\r\n\r\n")
            assert (await wire.reply()).status == 401


async def test_the_scrape_is_rendered_off_the_loop(start, monkeypatch):
    threads = []
    render = Metrics.exposition

    def exposition(*args):
        threads.append(threading.get_ident())
        return render(*args)

    monkeypatch.setattr(Metrics, "exposition", exposition)
    async with start("http://127.0.0.1:1") as gateway:
        assert "flowise_gateway_build_info" in " ".join(await gateway.metrics())
    (rendered_in,) = threads
    assert rendered_in != threading.get_ident()

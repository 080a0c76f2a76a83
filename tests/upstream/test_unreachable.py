"""Why Flowise could not be reached: in the log line and in the metrics, never in the client's sentence."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.frames import ASK, PATH, START, only, token
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.unreachable import CAUSES, no_descriptors, unreachable

PREDICTION = request("POST", PATH, b'{"question":"hi"}')
OWN = request("GET", f"/api/v1/public-chatbotConfig/{FLOW}")
RELAYED = request("GET", f"/api/v1/chatflows-uploads/{FLOW}")


def results_of(samples):
    """The result of each request to Flowise."""
    counted = (name for name in samples if name.startswith("flowise_gateway_upstream_requests_total"))
    return [name.partition('result="')[2].partition('"')[0] for name in counted]


@pytest.mark.parametrize("sent", [PREDICTION, RELAYED, OWN], ids=["prediction", "relayed", "own"])
@pytest.mark.parametrize("situation", CAUSES)
async def test_the_cause_of_each_situation(situation, sent, tmp_path, start, connect):
    label, said = CAUSES[situation]
    async with unreachable(situation, tmp_path) as place:
        main = {"tls": {"ca": "" if place.ca is None else str(place.ca)}}
        async with start(place.url, upstreams={"main": main}) as gateway, connect(gateway) as wire:
            wire.send(sent)
            reply = await wire.reply()
            line = await gateway.lines.request()
            results = results_of(await gateway.metrics())
    assert (reply.status, reply.json()["message"]) == (502, "Flowise cannot be reached.")
    assert line["error"].startswith("upstream_unreachable: Flowise cannot be reached. (")
    if label != "dns":  # a machine without a name server knows less
        assert line["error"].endswith(f"({said})")
    assert results == [label]


@pytest.mark.parametrize("sent", [PREDICTION, OWN], ids=["prediction", "own"])
async def test_no_file_descriptor_for_a_connection(sent, start, connect, tmp_path):
    async with (
        unreachable("refused", tmp_path) as place,
        start(place.url) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(sent)
        await wire.reply()
        with no_descriptors():
            wire.send(sent)
            assert (await wire.reply()).status == 502
            _, line = await gateway.lines.until("request", 2)
        assert set(results_of(await gateway.metrics())) == {"refused", "descriptors"}
    assert line["error"].endswith("(too many open files)")


@pytest.mark.parametrize(("way", "said"), [("fin", "connection closed"), ("rst", "connection reset")])
async def test_a_connection_that_is_lost_before_the_head(way, said, start, connect):
    async def script(peer, _):
        getattr(peer, way)()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(PREDICTION)
        reply = await wire.reply()
        line = await gateway.lines.request()
        assert results_of(await gateway.metrics()) == ["reset"]
    sentence = "Flowise closed the connection before it answered."
    assert (reply.status, reply.json()["message"]) == (502, sentence)
    assert line["error"] == f"upstream_unreachable: {sentence} ({said})"


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("fin", "connection closed"),
        ("rst", "connection reset"),
        ("nonsense", "not valid HTTP (Invalid character in chunk size)"),
    ],
)
async def test_a_stream_that_breaks_off(way, said, start, connect):
    is_read = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("a"))
        await is_read.wait()
        peer.send(b"x\r\n") if way == "nonsense" else getattr(peer, way)()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        await wire.head()
        await wire.until(b'"a"')
        is_read.set()
        await wire.until(b"[DONE]")
        line = await only(gateway)
        assert results_of(await gateway.metrics()) == ["broken_off"]
    assert (line["outcome"], line["error"]) == ("truncated", f"broken off: {said}")


async def test_a_file_that_breaks_off(start, connect):
    async def script(peer, _):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nabc")
        await peer.writer.drain()
        peer.fin()

    path = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a.png"
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("GET", path))
        await wire.head()
        line = await gateway.lines.request()
    assert (line["outcome"], line["error"]) == ("truncated", "broken off: connection closed")

"""What Flowise sees of a request that went through a whole gateway, and what the client sees of a broken Flowise."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from io import StringIO
from time import monotonic

import pytest

from gateway.config import load
from gateway.errors import UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.telemetry.logs import make_logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream import upstream as service_file
from gateway.upstream.upstream import ForwardedIdentity, Upstream
from tests.harness.gateway import FLOW
from tests.harness.ports import closed_port
from tests.harness.raw_upstream import RawUpstream

PATH = f"/api/v1/prediction/{FLOW}"
ASK = {"question": "hi"}
ANSWER = b'{"text":"hello"}'


async def answer(peer, _):
    peer.answer(ANSWER)


async def seen_through(start, connect, main, **headers):
    """The request that Flowise sees for a prediction with these headers; `main`: keys of the upstream."""
    async with (
        RawUpstream(answer) as upstream,
        start(upstream.url + main.pop("prefix", ""), upstreams={"main": main}) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK, **headers)
        reply = await wire.reply()
        assert (reply.status, reply.body) == (200, ANSWER)
        assert len(upstream.seen) == 1
        return upstream.seen[0], upstream.url.removeprefix("http://")


async def test_the_whole_head_of_the_simplest_request(start, connect):
    seen, address = await seen_through(start, connect, {}, X_Request_ID="r-1")
    assert seen.head.split(b"\r\n")[:-2] == [
        b"POST %b HTTP/1.1" % PATH.encode(),
        b"Host: %b" % address.encode(),
        b"X-Forwarded-Proto: http",
        b"Accept-Encoding: identity",
        b"X-Forwarded-For: 127.0.0.1",
        b"X-Request-ID: r-1",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(seen.body),
    ]


async def test_what_a_client_claims_to_be_never_passes(start, connect):
    seen, address = await seen_through(
        start,
        connect,
        {"api_key": "server-key"},
        Host="evil.example",
        Cookie="token=1",
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Host="evil.example",
        X_Forwarded_Proto="https",
        Forwarded="for=6.6.6.6;host=evil.example",
        X_Real_IP="6.6.6.6",
        x_request_from="internal",
        flowise_tool="true",
        Accept_Encoding="gzip",
        Proxy_Authorization="Basic YQ==",
    )
    assert seen.fields["host"] == address
    assert seen.fields["authorization"] == "Bearer server-key"
    assert seen.fields["x-forwarded-for"] == "127.0.0.1"
    assert seen.fields["x-forwarded-proto"] == "http"
    assert seen.fields["accept-encoding"] == "identity"
    hidden = {"cookie", "x-forwarded-host", "forwarded", "x-real-ip", "x-request-from", "flowise-tool"}
    assert not hidden & seen.fields.keys()
    assert b"evil" not in seen.head
    assert b"6.6.6.6" not in seen.head
    assert b"Basic" not in seen.head


async def test_what_may_pass_passes_once(start, connect):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen, _ = await seen_through(
        start,
        connect,
        {},
        Accept="application/json",
        User_Agent="widget/3",
        traceparent=trace,
        tracestate="a=b",
    )
    assert seen.fields["accept"] == "application/json"
    assert seen.fields["user-agent"] == "widget/3"
    assert (seen.fields["traceparent"], seen.fields["tracestate"]) == (trace, "a=b")
    assert seen.head.lower().count(b"\r\ncontent-type:") == 1


@pytest.mark.parametrize(
    ("origin", "passed"),
    [
        ("https://app.example.com", True),
        ("null", False),
        ("https://a:99999", False),
        ("https://1.2.3.4.5", False),
    ],
)
async def test_only_a_valid_origin_passes(start, connect, origin, passed):
    seen, _ = await seen_through(start, connect, {}, Origin=origin)
    assert seen.fields.get("origin") == (origin if passed else None)


async def test_flowise_sees_its_public_address(start, connect):
    seen, _ = await seen_through(start, connect, {"public_url": "https://flowise.example.com"})
    assert (seen.fields["host"], seen.fields["x-forwarded-proto"]) == ("flowise.example.com", "https")


async def test_a_path_in_the_url_is_a_prefix(start, connect):
    seen, address = await seen_through(start, connect, {"prefix": "/tenant/one/"})
    assert seen.target == f"/tenant/one{PATH}"
    assert seen.fields["host"] == address


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_a_reply_that_is_not_valid_is_a_502(start, connect, raw):
    async def script(peer, _):
        peer.send(raw)
        await peer.closed_by_gateway()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        reply = await wire.reply()
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")


async def test_the_reason_phrase_and_high_bytes_on_the_way_down(start, connect):
    async def script(peer, _):
        peer.send(
            b'HTTP/1.1 200 E\x01vil\r\nETag: "caf\xc3\xa9"\r\nContent-Length: 2\r\nX-Other: 1\r\n\r\n{}'
        )

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.post(PATH, ASK)
        raw = await wire.reader.readuntil(b"\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'ETag: "caf\xc3\xa9"\r\n' in raw
    assert b"X-Other" not in raw


async def test_a_flowise_that_is_not_there_is_a_502(start, connect):
    with closed_port() as port:
        async with start(f"http://127.0.0.1:{port}") as gateway, connect(gateway) as wire:
            wire.post(PATH, ASK)
            reply = await wire.reply()
    assert (reply.status, reply.json()["code"]) == (502, "upstream_unreachable")


async def test_more_than_the_connections_allow_is_a_503(start, connect):
    is_asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        is_asked.set()
        await go_on.wait()
        peer.answer(ANSWER)

    main = {"max_connections": 1, "timeouts": {"connect": "20ms"}}
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, upstreams={"main": main}) as gateway,
        connect(gateway) as first,
        connect(gateway) as second,
    ):
        first.post(PATH, ASK)
        await is_asked.wait()
        second.post(PATH, ASK)
        reply = await second.reply()
        assert (reply.status, reply.json()["code"]) == (503, "overloaded")
        go_on.set()
        assert (await first.reply()).status == 200
        second.post(PATH, ASK)
        assert (await second.reply()).status == 200


# -- the gateway's own questions --------------------------------------------------------------------


@asynccontextmanager
async def asking(tmp_path, url, **main):
    path = tmp_path / "gateway.yaml"
    path.write_text(
        json.dumps(
            {
                "upstreams": {"main": {"servers": [{"url": url}], **main}},
                "routes": [{"name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ["anonymous"]}],
            }
        )
    )
    config = await asyncio.to_thread(load, path, {})
    upstream = Upstream("main", config.upstreams["main"], Metrics(), make_logger(config.logs, StringIO()))
    try:
        yield upstream
    finally:
        upstream.close()


async def send(upstream, method, target=b"/", identity=ForwardedIdentity("r")):
    return await upstream.request(method, target, identity, upstream.choose(None, is_short=True).server)


async def test_an_own_request_carries_the_same_identity_and_its_target_untouched(tmp_path):
    async with (
        RawUpstream(answer) as flowise,
        asking(tmp_path, flowise.url, api_key="k", public_url="https://f.example") as upstream,
    ):
        target = b"/api/v1/a%2Fb/%2e%2e/c%20d?x=%26"
        assert await send(upstream, "PUT", target, ForwardedIdentity("r-1", "1.2.3.4")) == (200, ANSWER)
        seen = flowise.seen[0]
    assert (seen.method, seen.target.encode()) == ("PUT", target)
    assert seen.fields["host"] == "f.example"
    assert seen.fields["authorization"] == "Bearer k"
    assert (seen.fields["x-request-id"], seen.fields["x-forwarded-for"]) == ("r-1", "1.2.3.4")
    assert (seen.fields["x-forwarded-proto"], seen.fields["accept-encoding"]) == ("https", "identity")


async def test_a_redirect_is_returned_and_a_cookie_is_forgotten(tmp_path):
    async def script(peer, _):
        peer.send(b"HTTP/1.1 302 x\r\nLocation: /ui\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with RawUpstream(script) as flowise, asking(tmp_path, flowise.url) as upstream:
        for _ in range(2):
            assert await send(upstream, "GET") == (302, b"")
        assert [seen.fields.get("cookie") for seen in flowise.seen] == [None, None]


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"nonsense\r\n\r\n", UpstreamBadReply),
        (b"", UpstreamUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", UpstreamBadReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"a" * 101, UpstreamBadReply),
    ],
)
async def test_errors_of_an_own_request(tmp_path, raw, error, monkeypatch):
    monkeypatch.setattr(service_file, "MAX_REPLY", 100)

    async def script(peer, _):
        peer.send(raw)
        peer.fin()

    async with RawUpstream(script) as flowise, asking(tmp_path, flowise.url) as upstream:
        with pytest.raises(error):
            await send(upstream, "GET")


async def test_an_own_request_without_a_response(tmp_path, monkeypatch):
    monkeypatch.setattr(service_file, "REQUEST_TIMEOUT", 0.02)

    async def script(peer, _):
        await peer.closed_by_gateway()

    async with RawUpstream(script) as flowise, asking(tmp_path, flowise.url) as upstream:
        with pytest.raises(UpstreamTimeout, match=r"0\.02 s"):
            await send(upstream, "GET")


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("PUT", 1)])
async def test_of_own_requests_only_a_get_is_sent_again_after_its_connection_was_lost(
    tmp_path, method, times
):
    seen = []

    async def script(peer, request):
        seen.append(request.method)
        if len(seen) == 1:
            peer.answer(ANSWER)
        else:
            peer.fin()

    async with RawUpstream(script) as flowise, asking(tmp_path, flowise.url) as upstream:
        await send(upstream, "GET")
        with pytest.raises(UpstreamUnreachable):
            await send(upstream, method)
    assert seen == ["GET", *[method] * times]


async def test_own_requests_reuse_a_connection_and_close_it_in_time(tmp_path):
    async with RawUpstream(answer) as flowise, asking(tmp_path, flowise.url) as upstream:
        for _ in range(3):
            await send(upstream, "GET")
        assert flowise.connections == 1
        upstream.sweep(monotonic() + 60)
        await send(upstream, "GET")
        assert flowise.connections == 2

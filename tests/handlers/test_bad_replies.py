"""What Flowise's API never sends is 502 and counts as such: compressed bodies, redirects, web pages."""

from __future__ import annotations

import gzip

import pytest

from tests.harness.frames import PATH, WHOLE
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream

FILE = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a.txt"
CODED = ["gzip", "br", "GZIP", "deflate, gzip", "identity, gzip", "zstd"]


def sending(coding, content_type, body, status="200 OK"):
    """Answers with these bytes, compressed by gzip whatever the field says, as one length-delimited body."""
    content = gzip.compress(body)

    async def script(peer, _):
        peer.send(
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Encoding: {coding}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )

    return script


async def refused(start, connect, script, sent, message="Turn compression off"):
    """The upstream, once a request has met this script and its reply was refused."""
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(sent)
        reply = await wire.reply()
        line = await gateway.lines.request()
        samples = await gateway.metrics()
        assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
        assert message in reply.json()["message"]
        assert "content-encoding" not in reply.fields
        assert (line["status"], line["outcome"]) == (502, "upstream_error")
        results = {name for name in samples if name.startswith("flowise_gateway_upstream_requests_total")}
        assert len(results) == 1
        assert 'result="bad_reply"' in results.pop()
        return upstream


@pytest.mark.parametrize("coding", CODED)
async def test_a_compressed_stream_and_its_run_is_aborted(start, connect, coding):
    script = sending(coding, "text/event-stream", WHOLE)
    sent = request("POST", PATH, b'{"question":"hi","streaming":true,"chatId":"c"}')
    upstream = await refused(start, connect, script, sent)
    assert len(upstream.aborts) == 1


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_compressed_json(start, connect, coding, status):
    script = sending(coding, "application/json", b'{"text":"hi"}', status)
    upstream = await refused(start, connect, script, request("POST", PATH, b'{"question":"hi"}'))
    assert upstream.aborts == []


@pytest.mark.parametrize(
    "path", [FILE, f"/api/v1/public-chatbotConfig/{FLOW}", f"/api/v1/chatflows-uploads/{FLOW}"]
)
async def test_any_other_compressed_reply(start, connect, path):
    await refused(start, connect, sending("gzip", "application/json", b"{}"), request("GET", path))


@pytest.mark.parametrize("coding", ["identity", "", " identity , "])
async def test_identity_is_no_compression(start, connect, coding):
    async def script(peer, _):
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Encoding:{coding}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("POST", PATH, b'{"question":"hi"}'))
        reply = await wire.reply()
    assert (reply.status, reply.body) == (200, b"{}")


async def test_a_reply_without_a_body_is_not_compressed(start, connect):
    async def script(peer, _):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n")

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("HEAD", FILE))
        reply = await wire.reply(has_body=False)
    assert reply.status == 200


CONFIG = f"/api/v1/public-chatbotConfig/{FLOW}"
SENT = [
    ("POST", PATH, b'{"question":"hi"}'),
    ("POST", "/api/v1/leads", b'{"chatflowid":"chat"}'),
    ("GET", CONFIG, b""),
    ("GET", f"/api/v1/chatflows-uploads/{FLOW}", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), SENT)
async def test_a_redirect(start, connect, method, path, body):
    async def script(peer, _):
        peer.answer(b"", "302 Found")

    await refused(start, connect, script, request(method, path, body), "redirect (302)")


@pytest.mark.parametrize(("method", "path", "body"), SENT[:2])
async def test_a_web_page(start, connect, method, path, body):
    async def script(peer, _):
        peer.answer(b"<html>", content_type="text/html; charset=utf-8")

    await refused(start, connect, script, request(method, path, body), "a web page")


@pytest.mark.parametrize(
    "content_type",
    [
        "TEXT/HTML",
        "text/html;charset=utf-8",
        "application/xhtml+xml",
        "application/xhtml+xml; charset=utf-8",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "application/json, text/html",
    ],
)
async def test_whatever_a_browser_shows_as_a_document_is_a_web_page(content_type, start, connect):
    async def script(peer, _):
        peer.answer(b"<html>", content_type=content_type)

    for method, path, body in SENT[:2]:
        await refused(start, connect, script, request(method, path, body), "a web page")


@pytest.mark.parametrize(
    "pair", [(b"application/json", b"text/html"), (b"text/event-stream", b"application/json")]
)
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
async def test_two_content_types_are_a_bad_reply(pair, order, start, connect):
    fields = b"".join(b"Content-Type: %b\r\n" % content_type for content_type in pair[order])

    async def script(peer, _):
        peer.send(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 2\r\n\r\n{}")

    for method, path, body in (*SENT[:2], ("GET", FILE, b"")):
        await refused(start, connect, script, request(method, path, body), "several Content-Type fields")

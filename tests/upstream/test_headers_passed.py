"""Which header fields pass, in both directions, and that bodyless answers leave the connection in order."""

from __future__ import annotations

import re

import pytest

from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.surface import ANSWER, PREDICT, QUESTION, answering, answering_raw, ask, fields_of

STREAMING = f"/api/v1/chatflows-streaming/{FLOW}"
UP = {
    "Accept": "application/json", "User-Agent": "test/1", "Origin": "https://app.example.com",
    "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "v=1",
    "If-None-Match": '"x"', "Range": "bytes=0-1",
}  # fmt: skip
NOT_UP = {
    "Cookie": "a=zqx", "X-Forwarded-Host": "zqx", "X-Forwarded-Proto": "zqx", "Forwarded": "for=1.2.3.4;host=zqx",
    "X-Real-IP": "zqx", "Accept-Language": "zqx", "Referer": "zqx", "X-Request-From": "zqx", "Via": "zqx",
    "Proxy-Authorization": "zqx", "TE": "zqx", "Cf-Connecting-Ip": "zqx", "X-HTTP-Method-Override": "zqx",
}  # fmt: skip
DOWN = {
    "etag": '"x"', "last-modified": "Sat, 21 Nov 2026 07:00:00 GMT", "cache-control": "max-age=1",
    "date": "Sat, 21 Nov 2026 07:00:01 GMT", "x-accel-buffering": "no", "accept-ranges": "bytes", "retry-after": "7",
    "x-ratelimit-limit": "1", "x-ratelimit-remaining": "2", "x-ratelimit-reset": "3",
    "content-type": "application/x-own", "content-disposition": "attachment", "content-range": "bytes 0-1/2",
    "content-language": "de",
}  # fmt: skip
NOT_DOWN = [
    "Set-Cookie",
    "X-Powered-By",
    "Server-Timing",
    "Via",
    "Link",
    "Strict-Transport-Security",
    "X-Own",
    "Location",
]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_up(method, start, connect):
    path = PREDICT if method == "POST" else STREAMING
    settings = {"upstreams": {"main": {"api_key": "flowise-secret"}}}
    async with answering() as upstream, start(upstream.url, **settings) as gateway:
        server = upstream.url.removeprefix("http://")
        reply = await ask(connect, gateway, method, path, **UP, **NOT_UP, X_Request_ID="mine.1")
    (seen,) = upstream.seen
    fields = fields_of(seen)
    expected = {
        **{name.lower(): value for name, value in UP.items()},
        "host": server, "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
        "x-request-id": "mine.1", "authorization": "Bearer flowise-secret", "accept-encoding": "identity",
    }  # fmt: skip
    if method == "POST":
        expected |= {"content-type": "application/json", "content-length": str(len(QUESTION))}
    assert sorted((name.lower(), value) for name, value in fields) == sorted(expected.items())
    assert b"zqx" not in seen.head
    assert (reply.status, reply.fields["x-request-id"]) == (200, "mine.1")


async def test_flowise_sees_the_public_url(start, connect):
    settings = {"upstreams": {"main": {"public_url": "https://chat.example.com"}}}
    async with answering() as upstream, start(upstream.url, **settings) as gateway:
        await ask(connect, gateway)
    fields = upstream.seen[0].fields
    assert (fields["host"], fields["x-forwarded-proto"]) == ("chat.example.com", "https")


@pytest.mark.parametrize("origin", ["null", "", "x", "https://a/b", "https://a b", "javascript:alert(1)"])
async def test_an_invalid_origin_does_not_pass(origin, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        assert (await ask(connect, gateway, Origin=origin)).status == 200
    assert "origin" not in upstream.seen[0].fields


async def test_down(start, connect):
    lines = [f"{name}: {value}" for name, value in DOWN.items()] + [f"{name}: zqx" for name in NOT_DOWN]
    head = "HTTP/1.1 200 OK\r\n" + "".join(f"{line}\r\n" for line in lines)
    async with (
        answering_raw(f"{head}Content-Length: 2\r\n\r\n{{}}".encode()) as upstream,
        start(upstream.url) as gateway,
    ):
        reply = await ask(connect, gateway)
    ours = {"x-request-id": reply.fields["x-request-id"], "server": "flowise-gateway", "content-length": "2"}
    assert reply.fields == DOWN | ours


@pytest.mark.parametrize(("raw", "text"), [("café".encode(), "café"), ("café".encode("latin-1"), "café")])
async def test_values_beyond_ascii_leave_as_utf8(raw, text, start, connect):
    head = (
        b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename="%b"\r\n'
        % raw
    )
    path = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a"
    async with answering_raw(head + b"Content-Length: 0\r\n\r\n") as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "GET", path)
    assert reply.fields["content-disposition"] == f'attachment; filename="{text}"'


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 128])
async def test_request_id_is_taken_over(given, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, X_Request_ID=given)
        line = await gateway.lines.request()
    assert (
        reply.fields["x-request-id"] == line["request_id"] == upstream.seen[0].fields["x-request-id"] == given
    )


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\tb", 'a"', "ä"])
async def test_request_id_is_made(given, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, X_Request_ID=given)
        line = await gateway.lines.request()
    made = reply.fields["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert made == line["request_id"] == upstream.seen[0].fields["x-request-id"]


@pytest.mark.parametrize(
    ("given", "trace"),
    [
        (UP["traceparent"], "a" * 32),
        ("", None),
        ("00-" + "0" * 32 + "-" + "b" * 16 + "-01", None),
        ("ff" + UP["traceparent"][2:], None),
    ],
)
async def test_trace_id(given, trace, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        await ask(connect, gateway, traceparent=given)
        assert (await gateway.lines.request())["trace_id"] == trace


BODYLESS = {
    "304": ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n', 304, None),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
    "HEAD": (
        "HEAD",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 29\r\n\r\n",
        200,
        "29",
    ),
    "HEAD of chunked": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
}


@pytest.mark.parametrize("name", BODYLESS)
async def test_answer_without_body(name, start, connect):
    method, data, status, length = BODYLESS[name]
    async with answering_raw(data) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request(method, STREAMING))
        answered, fields = await wire.head()
        wire.send(request("GET", "/api/v1/ping"))
        following = await wire.reply()
    assert (answered, following.body) == (status, b"pong")
    if length is not None:
        assert fields["content-length"] == length
    if status == 304:
        assert fields["etag"] == '"x"'
        assert "content-type" not in fields


async def test_partial_content(start, connect):
    data = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab"
    path = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a"
    async with answering_raw(data) as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "GET", path, Range="bytes=0-1")
    assert (reply.status, reply.body, reply.fields["content-range"]) == (206, b"ab", "bytes 0-1/9")
    assert upstream.seen[0].fields["range"] == "bytes=0-1"


@pytest.mark.parametrize("path", ["/api/v1/ping", f"/api/v1/public-chatbotConfig/{FLOW}"])
async def test_head_says_the_length_of_the_get(path, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("HEAD", path))
        status, fields = await wire.head()
        wire.send(request("GET", path))
        reply = await wire.reply()
    assert (status, fields["content-length"]) == (200, str(len(reply.body)))


@pytest.mark.parametrize("body", [ANSWER, b"", b"{}\n"])
@pytest.mark.parametrize(
    "status", ["404 Not Found", "500 Internal Server Error", "429 Too Many Requests", "418 x"]
)
async def test_errors_of_flowise_pass_as_they_are(status, body, start, connect):
    data = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nRetry-After: 9\r\nX-RateLimit-Limit: 2\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    async with answering_raw(data + body) as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway)
        line = await gateway.lines.request()
    assert (reply.status, reply.body) == (int(status[:3]), body)
    assert (reply.fields["retry-after"], reply.fields["x-ratelimit-limit"]) == ("9", "2")
    assert (line["status"], line["outcome"]) == (int(status[:3]), "upstream_error")

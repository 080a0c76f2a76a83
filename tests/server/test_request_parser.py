"""Request heads up to the limit pass; above it they are refused like any other request, and the memory is bounded."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.server import listener
from gateway.server.request_parser import HEADS, MAX_FIELDS
from tests.harness.clock import until
from tests.harness.odd_requests import MARK
from tests.harness.raw_client import request
from tests.harness.surface import ANSWER, JSON_KEYS, PREDICT, QUESTION, answering, ask

APP = "https://app.example.com"
CORS = {"cors": {"origins": [APP]}}
PING = "/api/v1/ping"
LIMIT = 16 * 1024
COUNTED = 'flowise_gateway_requests_total{{endpoint="{}",outcome="refused",route="{}",status="{}"}}'


def of_size(size):
    """A field that is `size` bytes long with its name, colon and blank."""
    return {"X_Long": "a" * (size - len("X-Long: "))}


def head(*lines, first=f"POST {PREDICT} HTTP/1.1"):
    return "\r\n".join(
        [first, "Host: gateway", "Content-Length: 17", "Content-Type: application/json", *lines, "", ""]
    ).encode()


LONG = f"X-Long: {MARK}" + "a" * LIMIT
TOO_LARGE = {
    "a field": head(LONG, f"Origin: {APP}"),
    "a field before which Origin is": head(f"Origin: {APP}", LONG),
    "a name": head("X" * LIMIT + f": {MARK}", f"Origin: {APP}"),
    "too many fields": head(*[f"X-{n}: {MARK}" for n in range(MAX_FIELDS)], f"Origin: {APP}"),
    "all together": head(f"Origin: {APP}", *[f"X-{n}: " + "a" * 14_000 for n in range(HEADS + 1)]),
}


async def test_heads_up_to_the_limit_pass(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        assert (await ask(connect, gateway, **of_size(LIMIT))).body == ANSWER
        target = "/" + "a" * (LIMIT - 1)
        assert (await ask(connect, gateway, "GET", target)).json()["code"] == "unknown_route"
        every = {f"X_{n}": "a" * 15_000 for n in range(HEADS)}
        assert (await ask(connect, gateway, **every)).body == ANSWER
    assert len(upstream.seen) == 2


@pytest.mark.parametrize("size", [LIMIT + 1, 10 * LIMIT])
async def test_a_field_above_the_limit_is_431(size, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, **of_size(size))
    assert (reply.status, reply.json()["code"]) == (431, "header_too_large")
    assert upstream.seen == []


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_a_head_that_is_too_large_is_refused_in_our_form_with_cors_and_counted(
    name, start, connect, monkeypatch
):
    monkeypatch.setattr(listener, "LINGER", 0.1)
    async with (
        answering() as upstream,
        start(upstream.url, route=CORS) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(TOO_LARGE[name] + QUESTION)
        reply = await wire.reply()
        assert await wire.reader.read() == b""
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    body = reply.json()
    assert (reply.status, list(body), body["code"]) == (431, JSON_KEYS, "header_too_large")
    assert reply.fields["access-control-allow-origin"] == APP
    assert reply.fields["connection"] == "close"
    assert body["requestId"] == reply.fields["x-request-id"] == line["request_id"]
    assert (line["status"], line["outcome"], line["route"], line["endpoint"]) == (
        431,
        "refused",
        "chat",
        "prediction",
    )
    assert line["error"] == f"header_too_large: {body['message']}"
    assert metrics[COUNTED.format("prediction", "chat", 431)] == 1
    assert MARK not in gateway.lines.getvalue() + reply.body.decode()
    assert gateway.lines.of("unparsable_request") == []
    assert upstream.seen == []


async def test_an_origin_behind_what_was_too_large_is_waited_for(start, connect):
    before, behind = TOO_LARGE["a field"].split(b"Origin", 1)
    async with (
        answering() as upstream,
        start(upstream.url, route=CORS) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(before)
        await until(lambda: [one for one in gateway.connections() if one._heads.refusal is not None])
        wire.send(b"Origin" + behind)
        reply = await wire.reply()
    assert (reply.status, reply.fields["access-control-allow-origin"]) == (431, APP)


@pytest.mark.parametrize(
    ("first", "origins", "allowed"),
    [("GET /" + "a" * LIMIT, [APP], APP), ("POST /t/" + MARK * 2000, ["*"], "*")],
)
async def test_a_target_above_the_limit_is_414(first, origins, allowed, start, connect):
    async with (
        answering() as upstream,
        start(upstream.url, defaults={"cors": {"origins": origins}}) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(head(f"Origin: {APP}", first=f"{first} HTTP/1.1"))
        reply = await wire.reply()
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    assert (reply.status, reply.json()["code"]) == (414, "target_too_long")
    assert reply.fields["access-control-allow-origin"] == allowed
    assert (reply.fields.get("referrer-policy") == "no-referrer") is ("/t/" in first)
    assert (line["status"], line["outcome"], line["route"]) == (414, "refused", None)
    assert metrics[COUNTED.format("none", "none", 414)] == 1
    assert MARK not in gateway.lines.getvalue() + reply.body.decode()


async def test_what_the_request_says_of_itself_decides_the_form(start, connect):
    async with (
        answering() as upstream,
        start(upstream.url, server={"trusted_proxies": ["127.0.0.1/32"]}) as gateway,
    ):
        widget = await ask(connect, gateway, Accept="text/event-stream", **of_size(2 * LIMIT))
        problem = await ask(connect, gateway, Accept="application/problem+json", **of_size(2 * LIMIT))
        fields = {"X_Request_ID": "own-id", "X_Forwarded_For": "203.0.113.9"}
        own = await ask(connect, gateway, **fields, **of_size(2 * LIMIT))
        line = (await gateway.lines.until("request", 3))[-1]
        without_body = await ask(connect, gateway, "HEAD", PING, **of_size(2 * LIMIT))
    assert (widget.status, widget.fields["x-gateway-status"]) == (200, "431")
    assert (problem.status, problem.json()["status"]) == (431, 431)
    assert own.fields["x-request-id"] == line["request_id"] == "own-id"
    assert line["client"] == "203.0.113.9"
    assert without_body.status == 431


async def test_an_origin_that_is_not_listed_is_403_as_always(start, connect):
    async with answering() as upstream, start(upstream.url, route=CORS) as gateway:
        reply = await ask(connect, gateway, Origin="https://evil.example", **of_size(2 * LIMIT))
    assert (reply.status, reply.json()["code"]) == (403, "forbidden")
    assert "access-control-allow-origin" not in reply.fields


async def test_a_preflight_that_is_too_large_is_refused_too(start, connect):
    async with answering() as upstream, start(upstream.url, route=CORS) as gateway:
        asked = {"Origin": APP, "Access_Control_Request_Method": "POST"}
        reply = await ask(connect, gateway, "OPTIONS", **asked, **of_size(2 * LIMIT))
    assert (reply.status, reply.fields["access-control-allow-origin"]) == (431, APP)


async def test_nothing_behind_a_refused_head_is_read_as_a_request(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(TOO_LARGE["a field"] + QUESTION + request("GET", PING))
        await wire.reply()
        wire.send(request("GET", PING))
        assert await wire.reader.read() == b""
        assert len(gateway.lines.of("request")) == 1


async def test_requests_before_a_refused_one_are_answered_first(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("GET", PING))
        assert (await wire.reply()).body == b"pong"
        wire.send(request("GET", PING) + TOO_LARGE["all together"] + QUESTION)
        assert (await wire.reply()).body == b"pong"
        assert (await wire.reply()).status == 431
        *_, refused = await gateway.lines.until("request", 3)
    assert (refused["status"], refused["endpoint"]) == (431, "prediction")


async def test_a_client_that_sends_a_head_for_ever_is_answered_and_nothing_is_kept(start, connect):
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: gateway\r\n")
        wire.send(b"".join(b"X-%d: %b\r\n" % (n, b"a" * 8000) for n in range(20)))
        assert (await wire.reply()).json()["code"] == "header_too_large"
        (connection,) = gateway.connections()
        wire.send(b"a" * 1_000_000)
        await until(lambda: connection not in gateway.connections())
        assert len(connection._heads._head) == 0
    assert errors == []


async def test_a_connection_keeps_nothing_of_the_heads_that_were_complete(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        for body in (QUESTION, b'{"question":"%b"}' % (b"a " * 3000)):
            data = request("POST", PREDICT, body, X_Long="a" * 9000)
            for at in range(0, len(data), 4000):
                wire.send(data[at : at + 4000])
                await wire.writer.drain()
            assert (await wire.reply()).status == 200
            (connection,) = gateway.connections()
            assert len(connection._heads._head) == 0


async def test_large_bodies_are_not_counted_as_heads(start, connect):
    body = json.dumps({"question": "hi", "x": "a" * 300_000}).encode()
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        for _ in range(2):
            wire.send(request("POST", PREDICT, body, X_Long="a" * 10_000))
            assert (await wire.reply()).status == 200
    assert [len(seen.body) for seen in upstream.seen if seen.method == "POST"] == [len(body)] * 2


async def test_trailers_that_are_too_large_break_the_body(start, connect):
    chunked = request("POST", PREDICT, b"", Transfer_Encoding="chunked", Content_Type="application/json")
    body = b"11\r\n" + QUESTION + b"\r\n0\r\nX-Trailer: " + b"a" * 20_000
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(chunked.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert (await wire.head())[0] == 100
        wire.send(body)
        assert (await wire.reply()).status == 400
        assert await wire.reader.read() == b""
    assert upstream.seen == []


async def test_the_limit_is_configured(start, connect):
    async with answering() as upstream, start(upstream.url, server={"max_header": "4KiB"}) as gateway:
        assert (await ask(connect, gateway, **of_size(4096))).status == 200
        assert (await ask(connect, gateway, **of_size(4097))).status == 431
        assert (await ask(connect, gateway, "GET", "/" + "a" * 4096)).status == 414
        every = {f"X_{n}": "a" * 3000 for n in range(6)}
        assert (await ask(connect, gateway, **every)).status == 431


@pytest.mark.parametrize(
    ("coding", "version", "words"),
    [
        ("gzip, chunked", "1.1", "Send `chunked`, once"),
        ("gzip,chunked", "1.1", "Send `chunked`, once"),
        ("identity, chunked", "1.1", "Send `chunked`, once"),
        (", chunked", "1.1", "Send `chunked`, once"),
        ("", "1.1", "Send `chunked`, once"),
        ("chunked", "1.0", "Send Content-Length"),
        ("gzip, chunked", "1.0", "Send `chunked`, once"),
    ],
)
async def test_a_coding_other_than_chunked_is_refused_in_our_form_with_cors_and_counted(
    coding, version, words, start, connect
):
    body = b"11\r\n" + QUESTION + b"\r\n0\r\n\r\n"
    lines = f"Host: gateway\r\nContent-Type: application/json\r\nOrigin: {APP}\r\nConnection: keep-alive\r\n"
    first = f"POST {PREDICT} HTTP/{version}\r\n{lines}Transfer-Encoding: {coding}\r\n\r\n".encode()
    async with answering() as upstream, start(upstream.url, route=CORS) as gateway, connect(gateway) as wire:
        wire.send(request("GET", PING) + first)
        assert (await wire.reply()).body == b"pong"
        reply = await wire.reply()
        wire.send(body + request("GET", PING))
        assert await wire.reader.read() == b""
        _, line = await gateway.lines.until("request", 2)
        metrics = await gateway.metrics()
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")
    assert words in reply.json()["message"]
    assert reply.fields["access-control-allow-origin"] == APP
    assert (line["status"], line["outcome"], line["route"]) == (400, "refused", "chat")
    assert metrics[COUNTED.format("prediction", "chat", 400)] == 1
    assert upstream.seen == []


async def test_chunked_in_any_case_passes(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        lines = "Host: gateway\r\nContent-Type: application/json\r\nTRANSFER-encoding:  Chunked \r\n\r\n"
        wire.send(f"POST {PREDICT} HTTP/1.1\r\n{lines}".encode() + b"11\r\n" + QUESTION + b"\r\n0\r\n\r\n")
        assert (await wire.reply()).status == 200
    assert upstream.seen[0].body == QUESTION

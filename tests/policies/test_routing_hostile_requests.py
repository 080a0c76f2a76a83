"""Malformed requests are refused with a clear sentence and never reach Flowise."""

from __future__ import annotations

import pytest

from tests.harness.odd_bodies import BODIES
from tests.harness.odd_requests import CHUNKED, MARK, ROUTE, UNPARSABLE, post, raw
from tests.harness.odd_targets import METHODS, TARGETS
from tests.harness.surface import JSON_KEYS, QUESTION, answering


@pytest.mark.parametrize("name", TARGETS)
async def test_odd_target(name, start, connect):
    await _is_refused(TARGETS[name], start, connect)


@pytest.mark.parametrize("name", BODIES)
async def test_odd_body(name, start, connect):
    await _is_refused(BODIES[name], start, connect)


async def _is_refused(case, start, connect):
    data, status, code, words = case
    async with answering() as upstream, start(upstream.url, route=ROUTE) as gateway, connect(gateway) as wire:
        wire.send(data)
        reply = await wire.reply()
        line = await gateway.lines.request()
    assert (reply.status, reply.fields["content-type"]) == (status, "application/json; charset=utf-8")
    body = reply.json()
    assert list(body) == JSON_KEYS
    assert (body["statusCode"], body["success"], body["code"]) == (status, False, code)
    assert words in body["message"]
    assert body["requestId"] == reply.fields["x-request-id"] == line["request_id"]
    assert (line["status"], line["outcome"]) == (status, "refused")
    assert line["error"] == f"{code}: {body['message']}"
    assert MARK not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


@pytest.mark.parametrize("name", METHODS)
async def test_wrong_method(name, start, connect):
    data, allow = METHODS[name]
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(data)
        reply = await wire.reply(has_body=not data.startswith(b"HEAD"))
        line = await gateway.lines.request()
    assert (reply.status, reply.fields["allow"]) == (405, allow)
    assert (line["status"], line["outcome"]) == (405, "refused")
    assert upstream.seen == []


@pytest.mark.parametrize("name", UNPARSABLE)
async def test_unparsable_request(name, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(UNPARSABLE[name])
        reply = await wire.reply()
        assert await wire.reader.read() == b""
        lines = await gateway.lines.until("unparsable_request")
        metrics = await gateway.metrics()
    assert (reply.status, reply.fields["content-type"]) == (400, "application/json; charset=utf-8")
    body = reply.json()
    assert (body["statusCode"], body["success"], body["code"]) == (400, False, "bad_request")
    assert body["message"].startswith("This is not a valid HTTP/1.1 request")
    assert (": " in body["message"]) is (name != "GET of an asterisk")  # all others have a reason
    assert (wire.version, reply.fields["connection"]) == ("HTTP/1.1", "close")
    assert reply.fields["server"] == "flowise-gateway"
    (line,) = lines
    assert (line["client"], line["request_id"]) == ("127.0.0.1", body["requestId"])
    assert line["reason"] == body["message"]
    assert reply.fields["x-request-id"] == body["requestId"]
    assert gateway.lines.of("request") == []
    counted = {name: count for name, count in metrics.items() if "_requests_total{" in name and count}
    assert counted == {
        'flowise_gateway_requests_total{endpoint="none",outcome="refused",route="none",status="400"}': 1
    }
    told = (gateway.lines.getvalue() + reply.body.decode()).lower()
    assert MARK.lower() not in told
    assert "traceback" not in told
    assert upstream.seen == []


async def test_smuggled_request_is_not_answered(start, connect):
    """Bytes that follow a request that cannot be parsed are not read as a request."""
    smuggled = raw(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n") + post(QUESTION)
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(smuggled)
        everything = await wire.reader.read()
    assert everything.count(b"\r\nServer: ") == 1
    assert upstream.seen == []


async def test_request_behind_a_broken_body_is_not_answered(start, connect):
    smuggled = raw(CHUNKED, b"xyz\r\n") + post(QUESTION)
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(smuggled)
        everything = await wire.reader.read()
    assert everything.count(b"\r\nServer: ") == 1
    assert upstream.seen == []


async def test_chunk_extensions_and_trailers_are_dropped(start, connect):
    body = b'5;a=b;c\r\n{"que\r\nC\r\nstion":"hi"}\r\n0\r\nX-Trailer: zqxSECRETzqx\r\n\r\n'
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(raw(CHUNKED, body))
        assert (await wire.reply()).status == 200
    assert upstream.seen[0].body == QUESTION
    assert MARK.encode() not in upstream.seen[0].head


@pytest.mark.parametrize(
    "body",
    [
        b"xyz\r\n{}\r\n",
        b"-2\r\n{}\r\n",
        b"1\r\n{}\r\n",
        b"fffffffffffffffff\r\n",
        b"11\r\n" + QUESTION + b"\r\nxyz\r\n",
    ],
)
async def test_framing_that_breaks_after_the_head_was_taken(body, start, connect):
    headers = CHUNKED + b"Expect: 100-continue\r\n"
    async with answering() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(raw(headers, b""))
        assert (await wire.head())[0] == 100
        wire.send(body + post(QUESTION))
        reply = await wire.reply()
        rest = await wire.reader.read()
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"], line["status"]) == (400, "bad_request", 400)
    assert "framing" in reply.json()["message"]
    assert rest == b""
    assert gateway.lines.of("library") == []
    assert upstream.seen == []

"""Each kind of client gets errors in the shape that it displays; log and metrics keep the real status."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.harness.surface import JSON_KEYS, PREDICT, answering, ask

ORIGIN = "https://app.example.com"
CORS = {"cors": {"origins": [ORIGIN]}}
EVENTS = "text/event-stream"
REFUSALS = {
    "bad_request": (400, {"body": b"[]"}),
    "too_large": (413, {"body": b'{"question":"%s"}' % (b"a" * 3000)}),
    "unauthenticated": (401, {"Authorization": "Bearer fgw_x"}),
    "forbidden": (403, {"Origin": "https://evil.example"}),
    "upstream_bad_reply": (502, {}),
}


def upstream_for(code):
    return answering(status="302 Found") if code == "upstream_bad_reply" else answering()


@pytest.mark.parametrize("code", REFUSALS)
async def test_json_by_default(code, start, connect):
    status, asked = REFUSALS[code]
    async with upstream_for(code) as upstream, start(upstream.url, route=CORS) as gateway:
        reply = await ask(connect, gateway, **asked)
        await gateway.lines.request()
    assert (reply.status, reply.fields["content-type"]) == (status, "application/json; charset=utf-8")
    assert list(reply.json()) == JSON_KEYS
    assert (reply.json()["statusCode"], reply.json()["code"]) == (status, code)


@pytest.mark.parametrize("accept", ["application/problem+json", "text/html, application/problem+json;q=0.5"])
@pytest.mark.parametrize("code", REFUSALS)
async def test_problem_document_on_request(code, accept, start, connect):
    status, asked = REFUSALS[code]
    async with upstream_for(code) as upstream, start(upstream.url, route=CORS) as gateway:
        reply = await ask(connect, gateway, Accept=accept, **asked)
        await gateway.lines.request()
    assert (reply.status, reply.fields["content-type"]) == (status, "application/problem+json")
    problem = reply.json()
    assert list(problem) == ["type", "title", "status", "detail", "instance", "code", "requestId"]
    assert (problem["type"], problem["status"], problem["code"]) == ("about:blank", status, code)
    assert problem["instance"] == f"urn:request:{reply.fields['x-request-id']}"


async def test_problem_document_that_is_not_wanted(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, body=b"[]", Accept="application/problem+json;q=0")
    assert list(reply.json()) == JSON_KEYS


@pytest.mark.parametrize("code", ["unauthenticated", "forbidden"])
async def test_the_widget_prints_the_bare_sentence(code, start, connect):
    status, asked = REFUSALS[code]
    async with answering() as upstream, start(upstream.url, route=CORS) as gateway:
        reply = await ask(connect, gateway, Accept=EVENTS, **asked)
        line = await gateway.lines.request()
    assert (reply.status, reply.fields["content-type"]) == (status, "text/plain; charset=utf-8")
    assert line["error"] == f"{code}: {reply.body.decode()}"


@pytest.mark.parametrize("code", ["bad_request", "too_large", "upstream_bad_reply"])
async def test_the_widget_gets_a_stream_of_error_and_end(code, start, connect):
    status, asked = REFUSALS[code]
    async with upstream_for(code) as upstream, start(upstream.url, route=CORS) as gateway:
        reply = await ask(connect, gateway, Accept=EVENTS, Origin=ORIGIN, **asked)
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    assert (reply.status, reply.fields["x-gateway-status"], line["status"]) == (200, str(status), status)
    assert (reply.fields["content-type"], reply.fields["cache-control"]) == (EVENTS, "no-cache")
    assert reply.fields["access-control-allow-origin"] == ORIGIN
    error, end, rest = reply.body.split(b"\n\n")
    assert json.loads(error.removeprefix(b"message:\ndata:")) == {
        "event": "error", "data": line["error"].removeprefix(f"{code}: "),
    }  # fmt: skip
    assert (end, rest) == (b'message:\ndata:{"event":"end","data":"[DONE]"}', b"")
    (counted,) = [name for name in metrics if name.startswith("flowise_gateway_requests_total{")]
    assert f'status="{status}"' in counted


async def test_event_stream_is_for_predictions_only(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "GET", "/api/v1/nothing", Accept=EVENTS)
        assert (reply.status, reply.json()["code"]) == (404, "unknown_route")


async def test_upstream_that_cannot_be_reached(start, connect):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with start(f"http://127.0.0.1:{port}") as gateway:
        reply = await ask(connect, gateway)
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"]) == (502, "upstream_unreachable")
    assert (line["status"], line["outcome"]) == (502, "upstream_error")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
@pytest.mark.parametrize(
    "path",
    [
        PREDICT,
        PREDICT.replace("prediction", "chatflows-streaming"),
        PREDICT.replace("prediction", "public-chatbotConfig"),
    ],
)
async def test_redirect_of_flowise(path, status, start, connect):
    async with answering(status=status) as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "POST" if path == PREDICT else "GET", path)
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert line["outcome"] == "upstream_error"


@pytest.mark.parametrize(
    "path",
    [
        PREDICT,
        PREDICT.replace("prediction", "chatflows-uploads"),
        PREDICT.replace("prediction", "public-chatbotConfig"),
    ],
)
async def test_web_page_of_flowise(path, start, connect):
    page = answering(b"<!DOCTYPE html>", content_type="text/html; charset=utf-8")
    async with page as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "POST" if path == PREDICT else "GET", path)
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")


async def test_once_everything_was_ended_nothing_new_begins(start, connect):
    async with answering() as upstream, start(upstream.url, route=CORS) as gateway:
        gateway.process.gateway.end_all()
        reply = await ask(connect, gateway, Origin=ORIGIN)
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"]) == (503, "draining")
    assert reply.fields["access-control-allow-origin"] == ORIGIN
    assert (line["status"], line["outcome"]) == (503, "refused")
    assert upstream.seen == []

"""Real requests to the gateway in front of the simulated Flowise, and its answers, are as the document says."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from gateway.simulator import Flow, Simulator
from tests.harness import recorded_requests
from tests.harness.api_keys import key_of
from tests.harness.documented_calls import JSON, Caller, every_operation
from tests.harness.exact_client import ask as ask_exactly
from tests.harness.openapi import find, mistakes_in_answer, operations

FLOW = "3f6a9b1c-2222-4333-8444-555566667777"
AGENT, PUBLIC, TIGHT = (f"{FLOW[:-1]}{digit}" for digit in "123")
ORIGIN = "https://app.example.com"
CONFIG = {"fullFileUpload": {"status": True}}


async def instantly(_seconds):
    """Let the model's time pass at once."""
    await asyncio.sleep(0)


@pytest.fixture
async def flowise():
    flows = [
        Flow(id=FLOW, name="chain", chatbot_config=CONFIG, speaks=True, stores=True),
        Flow(id=AGENT, name="agent", kind="agentflow"),
        Flow(id=PUBLIC, name="public"),
        Flow(id=TIGHT, name="tight"),
    ]
    async with Simulator(flows, api_key="key", sleep=instantly) as simulator:
        yield simulator


@pytest.fixture
async def called(flowise, start, tmp_path):
    """Sends requests with a key, checks them and their answers against the document, and notes the operations."""
    routes = [
        {
            "name": "chat",
            "chatflow": FLOW,
            "auth": ["api_key", "session"],
            "uploads": True,
            "upsert": True,
            "speech": True,
            "limits": [limited(99)],
        },
        {"name": "agent", "chatflow": AGENT, "auth": ["api_key"]},
        {"name": "public", "chatflow": PUBLIC, "auth": ["anonymous"]},
        {"name": "tight", "chatflow": TIGHT, "auth": ["anonymous"], "limits": [limited(1)]},
    ]
    defaults = {"upstream": "main", "cors": {"origins": [ORIGIN]}}
    key = await key_of(tmp_path, "backend")
    async with (
        start(
            flowise.url, routes=routes, defaults=defaults, upstreams={"main": {"api_key": "key"}}
        ) as gateway,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(gateway.url, key, session)


def limited(requests):
    return {"name": "hourly", "requests": requests, "per": "1h"}


async def test_every_operation_answers_as_documented(called):
    await every_operation(
        called, chat="chat", agent="agent", files="chat", spoken="chat", library="chat", origin=ORIGIN
    )
    assert (await called("POST", "/api/v1/prediction/public", {"question": "hi"}))[0] == 200
    assert called.operations == operations()


@pytest.mark.parametrize("accept", ["*/*", "application/problem+json", "text/event-stream"])
async def test_every_error_of_a_prediction_is_as_documented(called, accept):
    path, ask, accepts = "/api/v1/prediction/{}", {"question": "hi"}, {"Accept": accept}
    wrong = {"Authorization": "Bearer fgw_wrong"}
    requests = {
        400: [("chat", {"question": [5]}, called.key, True), ("chat", b"{", {**called.key, **JSON}, True)],
        401: [("chat", ask, {}, False), ("chat", ask, wrong, False)],
        403: [("public", ask, {"Origin": "https://other.example.com"}, False)],
        404: [("nothing", ask, {}, False)],
        415: [("public", ask, {"Content-Encoding": "gzip"}, False)],
        413: [
            ("public", {"question": "x " * 20_000}, {}, False),
            ("public", {"question": "x" * 3000}, {}, False),
        ],
        429: [("tight", ask, {}, False), ("tight", ask, {}, False)],
    }
    for status, calls in requests.items():
        for flow, body, headers, is_wrong in calls:
            found, _ = await called("POST", path.format(flow), body, is_wrong=is_wrong, **headers, **accepts)
        is_shown = accept == "text/event-stream" and status not in (401, 403, 429)
        assert found == (200 if is_shown else status)


async def test_errors_of_other_endpoints_are_as_documented(called):
    for method, target, body, headers, status in (
        ("POST", "/api/v1/feedback/chat", {"chatId": "c"}, called.key, 400),
        ("POST", "/api/v1/feedback/chat", {"chatId": "c", "messageId": "none"}, called.key, 404),
        ("POST", "/api/v1/leads", {"name": "n"}, called.key, 400),
        ("GET", "/api/v1/get-upload-file?chatflowId=chat", None, called.key, 400),
        ("GET", "/api/v1/chatflows-streaming/chat", None, {"Authorization": "Bearer fgw_x"}, 401),
        ("GET", "/api/v1/chatflows-streaming/nothing", None, {}, 404),
        ("POST", "/gateway/v1/session-tokens", {"caller": "a"}, {}, 401),
        ("POST", "/gateway/v1/session-tokens", {}, called.key, 400),
        ("GET", "/gateway/v1/limits", None, {"X-API-Key": "fgw_x"}, 401),
        ("PUT", "/api/v1/chatmessage/abort/chat/c1", None, {}, 401),
        ("POST", "/api/v1/attachments/public/c1", None, {}, 400),
        ("OPTIONS", "/api/v1/prediction/chat", None, {"Origin": "https://other.example.com"}, 403),
    ):
        is_wrong = status == 400 or (method, target) == ("POST", "/api/v1/attachments/public/c1")
        found, _ = await called(method, target, body, is_wrong=is_wrong, **headers)
        assert (method, target, found) == (method, target, status)


async def test_a_flowise_that_is_away_is_as_documented(called, flowise):
    await flowise.stop()
    found, _ = await called("POST", "/api/v1/prediction/public", {"question": "hi"})
    assert found == 502


def targets(name):
    line = recorded_requests.WHOLE[name].partition(b"\r\n")[0]
    method, target, _ = line.decode("latin-1").split(" ", 2)
    return method, target


@pytest.mark.parametrize(
    "name", [name for name in recorded_requests.WHOLE if find(*targets(name))[1] is not None]
)
async def test_what_was_recorded_of_flowise_is_answered_as_documented(name, start):
    """Right and wrong requests alike; they are sent byte for byte."""
    flows = recorded_requests.flows()
    routes = [
        {"name": f"flow{at}", "chatflow": flow.id, "upstream": "main", "auth": ["anonymous"], "uploads": True}
        for at, flow in enumerate(flows)
    ]
    async with (
        Simulator(flows, api_key=recorded_requests.KEY, sleep=instantly) as flowise,
        start(flowise.url, routes=routes) as gateway,
    ):
        raw = await ask_exactly(gateway.url, recorded_requests.WHOLE[name])
    head, _, body = raw.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    if fields.get("transfer-encoding") == "chunked":
        body = b"x"  # a stream: its media type is what the document says of it
    assert mistakes_in_answer(*targets(name), int(head[:3]), fields, body) == []

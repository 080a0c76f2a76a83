"""The simulator answers as a recorded Flowise did, header by header and chunk by chunk."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.simulator import Flow, Simulator
from tests.harness import captures as recorded
from tests.harness import recorded_requests as requests
from tests.harness.captures import comparable
from tests.harness.exact_client import Wire, ask, request
from tests.simulator.conftest import instantly

WITH_KEY = {"Authorization": f"Bearer {requests.KEY}"}
BEGINNINGS = {
    "hangup-chain": requests.stream(requests.CHAIN, "hi [[tokens=60 delay=0.1]]"),
    "hangup-chain-rst": requests.stream(requests.CHAIN, "hi [[tokens=60 delay=0.1]]"),
    "hangup-abort-chain": requests.stream(requests.CHAIN, "hi [[tokens=60 delay=0.1]]", chatId="gone-1"),
    "hangup-agentflow": requests.stream(requests.AGENTFLOW, "hi [[tokens=60 delay=0.1]]"),
    "hangup-abort-agentflow": requests.stream(
        requests.AGENTFLOW, "hi [[tokens=60 delay=0.1]]", chatId="gone-2"
    ),
    "hangup-abort-agentflow-session": requests.stream(
        requests.AGENTFLOW, "hi [[tokens=60 delay=0.1]]", overrideConfig={"sessionId": "gone-3"}
    ),
}


@pytest.mark.parametrize("name", requests.WHOLE)
async def test_answers_as_recorded(flowise, name):
    got = await ask(flowise.url, requests.WHOLE[name])
    assert comparable(got) == comparable(recorded.load(name))


async def test_a_json_answer_has_the_tools_that_were_used_where_flowise_has_them(flowise):
    """As the capture 3.1.2/toolagent_json, whose tool is the same."""
    recording = json.loads((recorded.HERE / "3.1.2" / "toolagent_json.body").read_bytes())
    asked = requests.ask(requests.CHAIN, "hi [[tokens=1 tools=1]]")
    got = json.loads((await ask(flowise.url, asked)).partition(b"\r\n\r\n")[2])
    assert list(got) == list(recording)
    assert got["usedTools"] == recording["usedTools"]


@pytest.mark.parametrize("name", requests.PAGES)
async def test_answers_the_page_as_recorded(flowise, name):
    got = await ask(flowise.url, requests.PAGES[name])
    assert comparable(got, is_page=True) == comparable(recorded.load(name), is_page=True)


@pytest.mark.parametrize("name", requests.SILENT)
async def test_sends_nothing_where_nothing_was_recorded(flowise, name):
    assert recorded.load(name) == b""
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.SILENT[name])
        await flowise.until(lambda: len(flowise.requests) == 1)
        await ask(flowise.url, requests.get("ping"))
        stopped = asyncio.ensure_future(flowise.stop())
        assert await wire.end() == b""
        await stopped


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_begins_as_recorded_until_the_client_disconnects(flowise, name):
    expected = recorded.load(name)
    async with await Wire.to(flowise.url) as wire:
        wire.send(BEGINNINGS[name])
        got = await wire.bytes(len(expected))
    assert comparable(got) == comparable(expected)


async def test_http_1_0_is_answered_without_chunks_and_closed(flowise):
    data = requests.stream(requests.CHAIN, requests.THREE).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    async with await Wire.to(flowise.url) as wire:
        wire.send(data)
        got = await wire.end()
    assert got.startswith(b"HTTP/1.0 200 OK\r\n")
    assert comparable(got.replace(b"HTTP/1.0", b"HTTP/1.1", 1)) == comparable(
        recorded.load("stream-chain-http10")
    )


async def test_the_rate_limit_trusts_any_forwarded_address(flowise):
    for _ in range(2):
        await ask(flowise.url, requests.ask(requests.RATE_LIMITED, "hi [[tokens=1]]"))
    cases = {
        "rate-limited": requests.ask(requests.RATE_LIMITED, "hi [[tokens=1]]"),
        "rate-limited-stream": requests.stream(requests.RATE_LIMITED, "hi [[tokens=1]]"),
        "rate-limited-forwarded": requests.ask(
            requests.RATE_LIMITED, "hi [[tokens=1]]", {"X-Forwarded-For": "203.0.113.9"}
        ),
    }
    for name, data in cases.items():
        assert comparable(await ask(flowise.url, data)) == comparable(recorded.load(name)), name


async def test_an_uploaded_file_is_public(flowise):
    await ask(flowise.url, requests.WHOLE["upload-in-prediction"])
    got = await ask(
        flowise.url,
        requests.get(f"get-upload-file?chatflowId={requests.CHAIN_2}&chatId=upload-1&fileName=a.png"),
    )
    assert comparable(got) == comparable(recorded.load("get-upload-file"))


async def test_feedback_requires_an_existing_message(flowise):
    answer = await ask(flowise.url, requests.WHOLE["upload-in-prediction"])
    message = json.loads(answer.partition(b"\r\n\r\n")[2])["chatMessageId"]
    fields = {"chatId": "upload-1", "messageId": message, "rating": "THUMBS_UP"}
    cases = {
        "feedback": {**fields, "content": "x", "chatflowid": requests.CHAIN_2},
        "feedback-no-content": fields,
        "feedback-unknown-message": {**fields, "messageId": "cccccccc-0000-4000-8000-000000000001"},
    }
    for name, body in cases.items():
        got = await ask(flowise.url, requests.post(f"feedback/{requests.CHAIN_2}", body))
        assert comparable(got) == comparable(recorded.load(name)), name
    (stored, *_) = flowise.feedback
    got = await ask(
        flowise.url,
        request("PUT", f"/api/v1/feedback/{stored}", requests.JSON, b'{"content":"it was wrong"}'),
    )
    assert comparable(got) == comparable(recorded.load("feedback-change"))
    assert flowise.feedback[stored]["content"] == "it was wrong"


async def test_a_stored_file_is_that_of_an_assistant(flowise):
    await ask(flowise.url, requests.WHOLE["upload-in-prediction"])
    wanted = {"chatflowId": requests.CHAIN_2, "chatId": "upload-1", "fileName": "a.png"}
    got = await ask(flowise.url, requests.post("openai-assistants-file/download", wanted))
    assert comparable(got) == comparable(recorded.load("assistant-file"))


async def test_a_page_of_chatflows_has_the_members_that_were_recorded_in_their_order():
    (row,) = json.loads(recorded.load("chatflows-page").partition(b"\r\n\r\n")[2])["data"]
    flow = Flow(id=row["id"], name="agentflow", kind="agentflow", flow_data=row["flowData"])
    async with Simulator([flow], api_key=requests.KEY) as simulator:
        got = await ask(simulator.url, requests.get("chatflows?page=1&limit=1", **WITH_KEY))
        end = await ask(simulator.url, requests.get("chatflows?page=9&limit=2", **WITH_KEY))
    answer = json.loads(got.partition(b"\r\n\r\n")[2])
    volatile = dict.fromkeys(("createdDate", "updatedDate", "workspaceId"), "")
    assert answer["total"] == 1
    assert {**answer["data"][0], **volatile} == {**row, **volatile}
    assert list(answer["data"][0]) == list(row)
    expected = recorded.load("chatflows-page-end").replace(b'"total":7', b'"total":1')
    assert end.partition(b"\r\n\r\n")[2] == expected.partition(b"\r\n\r\n")[2]
    assert got.split(b"\r\n")[:5] == recorded.load("chatflows-page").split(b"\r\n")[:5]


@pytest.mark.parametrize("name", ["stream-chain-close-wait", "keepalive-idle"])
async def test_an_idle_connection_is_closed_by_the_server(name):
    close = {"Connection": "close"}
    data = {
        "stream-chain-close-wait": requests.stream(requests.CHAIN, requests.THREE, close),
        "keepalive-idle": requests.get("ping"),
    }[name]
    async with (
        Simulator(requests.flows(), keep_alive=-0.9, sleep=instantly) as simulator,
        await Wire.to(simulator.url) as wire,
    ):
        wire.send(data)
        got = await wire.end()
    assert comparable(got.replace(b"timeout=0", b"timeout=5")) == comparable(recorded.load(name))


def test_every_capture_is_compared():
    named = [*requests.WHOLE, *requests.PAGES, *requests.SILENT, *BEGINNINGS, *requests.WITH_SEVERAL_STEPS]
    assert sorted(named) == sorted(recorded.ALL)


def test_the_comparison_finds_every_difference():
    """In a head, a body, a chunk boundary and an end."""
    right = recorded.load("stream-chain")
    for wrong in (
        right.replace(b"no-cache", b"no-store"),
        right.replace(b"Vary: Origin\r\n", b""),
        right.replace(b"tok3", b"tok4"),
        right.replace(b'"memoryType":"Buffer Memory"', b'"memoryType":"Buffer memory"'),
        right.replace(b"\r\n0\r\n\r\n", b"\r\n"),
        right.replace(b"30\r\nmessage:\ndata:", b"8\r\nmessage:\r\n28\r\n\ndata:"),
    ):
        assert wrong != right
        assert comparable(wrong) != comparable(right)

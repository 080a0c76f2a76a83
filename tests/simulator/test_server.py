"""The simulator as a test uses it: scripts, recorded requests, start and stop."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway import simulator as package
from gateway.simulator import (
    AGENTFLOW_ID,
    CHAIN_ID,
    DEFAULT_FLOWS,
    NOT_STREAMABLE_ID,
    PROTECTED_ID,
    Close,
    Event,
    Fail,
    Heartbeat,
    Raw,
    Simulator,
    Token,
    Wait,
    frame,
)
from tests.harness import recorded_requests as requests
from tests.harness.captures import HEARTBEAT, comparable
from tests.harness.exact_client import Wire, ask, request


@pytest.fixture
async def flowise():
    """A running simulator, for tests of its bytes and connections on raw sockets."""
    async with Simulator(api_key="key") as simulator:
        yield simulator


@pytest.fixture
async def client(aiohttp_client):
    """A client of a simulator's application; `client.simulator` is the simulator."""
    simulator = Simulator(api_key="key")
    client = await aiohttp_client(simulator.application())
    client.simulator = simulator
    return client


def prediction(flow_id):
    return f"/api/v1/prediction/{flow_id}"


async def text_of(client, flow_id, question):
    """The text of a JSON answer."""
    async with client.post(prediction(flow_id), json={"question": question}) as response:
        return (await response.json())["text"]


async def test_a_script_continues_when_the_client_has_seen_the_event(flowise):
    seen = asyncio.Event()
    flowise.set_script(lambda _: [Token("one"), Wait(seen), Token("two")])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(CHAIN_ID))
        assert b"two" not in await wire.until(b"one")
        seen.set()
        chunks = comparable(await wire.response()).chunks
    assert chunks[:2] == (frame(Event("token", "one")), frame(Event("token", "two")))
    assert b'"metadata"' in chunks[2]
    assert chunks[3] == frame(Event("end", "[DONE]"))


async def test_a_script_may_be_an_asynchronous_generator_that_reads_the_request(client):
    async def echo(request):
        yield Token(f"{request.question} on {request.flow}")

    client.simulator.set_script(echo)
    assert await text_of(client, CHAIN_ID, "why") == f"why on {CHAIN_ID}"


async def test_a_flows_own_script_precedes_the_common_one_and_none_means_the_question(client):
    simulator = client.simulator
    simulator.set_script(lambda _: [Token("common")])
    simulator.set_script(lambda _: [Token("own")], CHAIN_ID)
    simulator.set_script(lambda _: None, DEFAULT_FLOWS[1])
    question = "hi [[tokens=1 text=asked delay=0]]"
    assert await text_of(client, CHAIN_ID, question) == "own"
    assert await text_of(client, NOT_STREAMABLE_ID, question) == "common"
    assert await text_of(client, AGENTFLOW_ID, question) == "asked "
    simulator.set_script(None, CHAIN_ID)
    assert await text_of(client, CHAIN_ID, question) == "common"


async def test_raw_bytes_are_one_chunk_each_and_a_clean_close_sends_no_end(flowise):
    parts = [b"data: half", b" an event\r\n\r\n", b":comment\n"]
    flowise.set_script(lambda _: [*map(Raw, parts), Heartbeat(), Close("clean")])
    got = await ask(flowise.url, requests.stream(CHAIN_ID))
    assert (
        got.partition(b"\r\n\r\n")[2]
        == b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*parts, HEARTBEAT]) + b"0\r\n\r\n"
    )


async def test_an_rst_resets_the_connection(flowise):
    flowise.set_script(lambda _: [Token("one"), Close("rst")])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(CHAIN_ID))
        with pytest.raises(ConnectionResetError):
            await wire.end()
    assert flowise.runs[0].outcome == "cut"


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_run_that_is_not_streamed_can_drop_the_connection(flowise, how):
    flowise.set_script(lambda _: [Close(how)])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.ask(CHAIN_ID))
        if how == "rst":
            with pytest.raises(ConnectionResetError):
                await wire.end()
        assert wire.got == b"" == await wire.more() if how == "fin" else wire.got == b""
    assert not flowise.runs[0].client_left.is_set()


async def test_a_scripted_failure_has_the_message_of_flowise(flowise):
    flowise.set_script(lambda _: [Token("one"), Fail("out of order")])
    chunks = comparable(await ask(flowise.url, requests.stream(CHAIN_ID))).chunks
    message = "Error: predictionsServices.buildChatflow - out of order"
    assert chunks[1:] == (frame(Event("error", message)), frame(Event("end", "[DONE]")))
    assert flowise.runs[0].outcome == "failed"
    assert flowise.runs[0].failure == message


@pytest.mark.parametrize("rudely", [False, True])
@pytest.mark.parametrize("fields", [{"streaming": True}, {}])
async def test_a_client_that_hangs_up_stops_nothing(flowise, rudely, fields):
    gone = asyncio.Event()
    flowise.set_script(lambda _: [Token("one"), Wait(gone), Token("two"), Token("three")])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.ask(CHAIN_ID, **fields))
        await flowise.until(lambda: len(flowise.runs) == 1)
        if fields:
            await wire.until(b"one")
        wire.hang_up(rudely=rudely)
        run = flowise.runs[0]
        await run.client_left.wait()
        assert not run.done.is_set()
        gone.set()
        await run.done.wait()
    assert run.outcome == "complete"
    assert run.events == ({"token": 3, "metadata": 1, "end": 1} if fields else {})


async def test_an_agentflow_can_still_be_aborted_when_its_client_has_left(flowise):
    flowise.set_script(lambda _: [Token("one"), Wait(asyncio.Event())])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(AGENTFLOW_ID, chatId="a chat/1"))
        await wire.until(b"one")
        wire.hang_up()
        await flowise.runs[0].client_left.wait()
        await ask(flowise.url, request("PUT", f"/api/v1/chatmessage/abort/{AGENTFLOW_ID}/a%20chat%2F1"))
        await flowise.runs[0].done.wait()
    assert flowise.runs[0].outcome == "aborted"
    assert flowise.aborts == [(AGENTFLOW_ID, "a chat/1")]


async def test_heartbeats_have_one_timer_for_all_but_a_replaced_stream(flowise):
    flowise.set_script(lambda request: [Token(request.question), Wait(asyncio.Event())])
    async with (
        await Wire.to(flowise.url) as old,
        await Wire.to(flowise.url) as new,
        await Wire.to(flowise.url) as other,
    ):
        for wire, chat in ((old, "same"), (new, "same"), (other, "other")):
            wire.send(requests.stream(CHAIN_ID, f"for {chat}", chatId=chat))
            await wire.until(b'"event":"token"')
        await flowise.beat()
        for wire in (new, other):
            assert (await wire.until(HEARTBEAT)).count(HEARTBEAT) == 1
        stopped = asyncio.ensure_future(flowise.stop())
        assert HEARTBEAT not in await old.end()
        await stopped


async def test_heartbeats_are_periodic():
    async with Simulator(heartbeat=0.001) as flowise, await Wire.to(flowise.url) as wire:
        flowise.set_script(lambda _: [Wait(asyncio.Event())])
        wire.send(requests.stream(CHAIN_ID))
        await wire.until(b"c\r\n" + HEARTBEAT + b"\r\n", 3)


async def test_a_run_waits_for_a_client_that_does_not_read(flowise):
    sent = 0

    def endless(_request):
        nonlocal sent
        while True:
            sent += 1
            yield Raw(b"x" * 65536)

    flowise.set_script(endless)
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(CHAIN_ID))
        await flowise.until(lambda: len(flowise.runs) == 1)
        for _ in range(50):
            await ask(flowise.url, requests.get("ping"))
        assert sent < 200
        wire.hang_up(rudely=True)
        await flowise.runs[0].client_left.wait()
        await flowise.stop()
    assert flowise.runs[0].outcome == "stopped"


async def test_every_request_is_recorded(client):
    body = b'{"question": "hi [[tokens=0]]", "chatId": "c"}'
    headers = {"X-Own": "1", "Content-Type": "application/json"}
    await client.post(prediction(CHAIN_ID), data=body, headers=headers)
    await client.post(f"/api/v1/attachments/{AGENTFLOW_ID}/chat", data=form(field="1"))
    first, second = client.simulator.requests
    assert (first.method, first.path, first.flow) == ("POST", prediction(CHAIN_ID), CHAIN_ID)
    assert first.raw == body
    assert first.body == json.loads(body)
    assert first.headers["x-own"] == "1"
    assert second.body == {"field": "1"}
    assert [(file.name, file.content) for file in second.files] == [("a.txt", b"hello")]


def form(**fields):
    """Multipart with these fields and one file."""
    data = aiohttp.FormData(fields)
    data.add_field("files", b"hello", filename="a.txt", content_type="text/plain")
    return data


async def test_an_attachment_can_be_downloaded(client):
    async with client.post(f"/api/v1/attachments/{AGENTFLOW_ID}/chat", data=form()) as response:
        stored = [{"name": "a.txt", "mimeType": "text/plain", "size": 5, "content": "hello"}]
        assert await response.json() == stored
    query = {"chatflowId": AGENTFLOW_ID, "chatId": "chat", "fileName": "a.txt"}
    async with client.get("/api/v1/get-upload-file", params=query) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert await response.read() == b"hello"


async def test_without_an_api_key_no_request_has_it(aiohttp_client):
    client = await aiohttp_client(Simulator().application())
    response = await client.post(prediction(PROTECTED_ID), json={}, headers={"Authorization": ""})
    assert response.status == 500


async def test_one_connection_serves_many_requests_even_after_a_stream_with_connection_close(flowise):
    async with await Wire.to(flowise.url) as wire:
        for _ in range(2):
            wire.got = b""
            wire.send(requests.stream(CHAIN_ID, "hi [[tokens=1 delay=0]]", {"Connection": "close"}))
            await wire.response()


async def test_it_can_be_started_again_on_its_port(flowise):
    flowise.set_script(lambda _: [Wait(asyncio.Event())])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(CHAIN_ID))
        await wire.until(b"\r\n\r\n")
        await flowise.stop()
        assert flowise.runs[0].outcome == "stopped"
        assert not flowise.runs[0].client_left.is_set()
    with pytest.raises(ConnectionRefusedError):
        await Wire.to(flowise.url)
    await flowise.start(port=urlsplit(flowise.url).port)
    assert b"pong" in await ask(flowise.url, requests.get("ping"))


def test_it_imports_nothing_of_the_gateway():
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway"):
                assert (node.module or "").startswith("gateway.simulator"), path.name


def test_it_runs_alone_until_a_signal():
    command = [sys.executable, "-m", "gateway.simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            with urllib.request.urlopen(f"{url}/api/v1/version") as answer:
                assert json.load(answer) == {"version": "3.1.4"}
        finally:
            process.terminate()
        rest = process.stdout.read()
    assert process.returncode == 0
    assert [row.split() for row in rest.splitlines()] == [[flow.id, flow.name] for flow in DEFAULT_FLOWS]

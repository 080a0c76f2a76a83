"""Captures with several steps: aborts, disconnects, mixed streams, a server that stops."""

from __future__ import annotations

import asyncio

import pytest

from gateway.simulator import Close, Event, Hang, Simulator, Token, Wait
from tests.harness import captures as recorded
from tests.harness import recorded_requests as requests
from tests.harness.captures import comparable
from tests.harness.exact_client import Wire, ask, request

FIVE = [Event("start", ""), *(Token(f"tok{index} ") for index in range(5))]


async def test_abort_does_nothing_to_a_chain(flowise):
    seen = asyncio.Event()
    flowise.set_script(lambda _: [*FIVE, Wait(seen), *(Token(f"tok{index} ") for index in range(5, 100))])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(requests.CHAIN, "hi [[tokens=100 delay=0.1]]", chatId="abort-chain-b1ab55"))
        await wire.until(b'"event":"token"', 5)
        await ask(
            flowise.url, request("PUT", f"/api/v1/chatmessage/abort/{requests.CHAIN}/abort-chain-b1ab55")
        )
        seen.set()
        got = await wire.response()
    assert comparable(got) == comparable(recorded.load("abort-chain"))
    assert flowise.aborts == [(requests.CHAIN, "abort-chain-b1ab55")]


def hanging_after(count):
    """The model hangs after `count` tokens."""
    passed = 0

    async def sleep(_seconds):
        nonlocal passed
        passed += 1
        if passed > count:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    return sleep


async def test_abort_ends_an_agentflow(flowise):
    async with (
        Simulator(requests.flows(), sleep=hanging_after(4)) as simulator,
        await Wire.to(simulator.url) as wire,
    ):
        wire.send(requests.stream(requests.AGENTFLOW, "hi [[tokens=100 delay=0.1]]", chatId="abort-agent"))
        await wire.until(b'"event":"token"', 5)
        await ask(
            simulator.url, request("PUT", f"/api/v1/chatmessage/abort/{requests.AGENTFLOW}/abort-agent")
        )
        assert comparable(await wire.response()) == comparable(recorded.load("abort-agentflow"))


async def test_abort_fails_an_agentflow_that_is_not_streamed():
    async with (
        Simulator(requests.flows(), sleep=hanging_after(10)) as simulator,
        await Wire.to(simulator.url) as wire,
    ):
        wire.send(requests.ask(requests.AGENTFLOW, "hi [[tokens=60 delay=0.1]]", chatId="wait"))
        await simulator.until(lambda: len(simulator.runs) == 1)
        await ask(simulator.url, request("PUT", f"/api/v1/chatmessage/abort/{requests.AGENTFLOW}/wait"))
        assert comparable(await wire.response()) == comparable(recorded.load("abort-agentflow-nonstream"))


@pytest.mark.parametrize("name", ["hangup-abort-agentflow-nonstream", "hangup-chain-nonstream"])
async def test_a_run_that_is_not_streamed_sends_nothing_before_its_end(flowise, name):
    flowise.set_script(lambda _: [Hang()])
    flow = requests.AGENTFLOW if "agentflow" in name else requests.CHAIN
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.ask(flow, "hi [[tokens=60 delay=0.1]]", chatId="gone"))
        await flowise.until(lambda: len(flowise.runs) == 1)
        await ask(flowise.url, requests.get("ping"))
        stopped = asyncio.ensure_future(flowise.stop())
        assert await wire.end() == recorded.load(name) == b""
        await stopped


@pytest.mark.parametrize("name", ["server-sigterm", "server-sigkill"])
async def test_a_stop_ends_a_stream_with_only_a_fin(flowise, name):
    flowise.set_script(lambda _: [*FIVE, Hang()])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(requests.CHAIN, "hi [[tokens=60 delay=0.1]]"))
        await wire.until(b'"event":"token"', 5)
        stopped = asyncio.ensure_future(flowise.stop())
        got = await wire.end()
        await stopped
    assert comparable(got) == comparable(recorded.load(name))


async def test_a_killed_flowise_looks_like_a_stopped_one(flowise):
    flowise.set_script(lambda _: [*FIVE, Close("fin")])
    async with await Wire.to(flowise.url) as wire:
        wire.send(requests.stream(requests.CHAIN, "hi"))
        assert comparable(await wire.end()) == comparable(recorded.load("server-sigkill"))


@pytest.mark.parametrize("name", ["same-chatid-first", "same-chatid-two-flows"])
async def test_two_streams_with_one_chat_id_mix(flowise, name):
    both, turns = asyncio.Event(), [asyncio.Event() for _ in range(4)]
    first = [Event("start", ""), *[Token("AAA ")] * 6, Wait(both)]
    second = [Event("start", ""), Token("BBB ")]
    answered = [asyncio.Event() for _ in turns]
    for turn, answer in zip(turns, answered, strict=True):
        first += [Token("AAA "), notify(turn), Wait(answer)]
        second += [Wait(turn), Token("BBB "), notify(answer)]
    flowise.set_script(
        lambda request: running(first if request.question.startswith("first") else [*second, Hang()])
    )
    other = requests.CHAIN if name == "same-chatid-first" else requests.AGENTFLOW
    async with await Wire.to(flowise.url) as old, await Wire.to(flowise.url) as new:
        old.send(
            requests.stream(requests.CHAIN, "first [[tokens=10 delay=0.1 text=AAA]]", chatId="same-e52705")
        )
        await old.until(b"AAA ", 6)
        new.send(requests.stream(other, "second [[tokens=10 delay=0.1 text=BBB]]", chatId="same-e52705"))
        await new.until(b"BBB ")
        both.set()
        mixed = comparable(await new.response())
        stopped = asyncio.ensure_future(flowise.stop())
        assert comparable(await old.end()) == comparable(recorded.load(name))
        await stopped
    assert mixed == comparable(recorded.load("same-chatid-second"))


def notify(event):
    """A step of this file: set an event."""
    return event.set


async def running(steps):
    for step in steps:
        if callable(step):
            step()
        else:
            yield step


async def test_an_abort_of_speech_ends_it_with_an_error():
    expected = comparable(recorded.load("speech-aborted"))
    parts = len(expected.chunks) - 2
    async with (
        Simulator(requests.flows(), sleep=hanging_after(parts)) as simulator,
        await Wire.to(simulator.url) as wire,
    ):
        wire.send(requests.post("text-to-speech/generate", {**requests.SPEECH, "text": "hi [[seconds=5]]"}))
        await wire.until(b"event: tts_data", parts)
        await ask(simulator.url, requests.post("text-to-speech/abort", requests.SPEECH))
        got = comparable(await wire.response())
    assert got.head == expected.head
    assert (len(got.chunks), got.chunks[0], got.chunks[-1]) == (
        parts + 2,
        expected.chunks[0],
        expected.chunks[-1],
    )


async def test_an_abort_of_speech_ends_the_answer_of_its_chat_without_an_end():
    async with (
        Simulator(requests.flows(), sleep=hanging_after(8)) as simulator,
        await Wire.to(simulator.url) as wire,
    ):
        chat = {"chatId": "speech-3", "chatMessageId": "m-1"}
        wire.send(requests.stream(requests.SPEAKING, "hi [[tokens=40 delay=0.1]]", chatId="speech-3"))
        await wire.until(b'"event":"token"', recorded.load("speech-abort-run").count(b'"event":"token"'))
        await ask(simulator.url, requests.post("text-to-speech/abort", {**requests.SPEECH, **chat}))
        got = comparable(await wire.response())
    expected = comparable(recorded.load("speech-abort-run"))
    assert (got.chunks[-1], got.is_whole) == (expected.chunks[-1], expected.is_whole)

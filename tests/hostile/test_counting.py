"""What Flowise reports about a run is made to cost much, or to say too much: it is counted in bounds, or estimated."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.harness.clock import until
from tests.harness.frames import ASK, END, METADATA, PATH, START, event, only, settled, token
from tests.harness.loop_turns import LONGEST, LONGEST_WAIT, LoopTurns, raw_answer
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.hostile.corpus.replies import KILOBYTE, MEGABYTE, TRACES, array, entry

ASKED = json.dumps(ASK).encode()


def streaming(data: str):
    body = START + token("x") + event("agentFlowExecutedData", data) + METADATA + END
    sent = STREAM_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def script(peer, _):
        peer.send(sent)

    return script


def answering(data: str):
    body = f'{{"text":"x","agentFlowExecutedData":{data}}}'.encode()

    async def script(peer, _):
        peer.answer(body)

    return script


@pytest.mark.parametrize("way", [streaming, answering])
@pytest.mark.parametrize("size", [255 * KILOBYTE, 4 * MEGABYTE - 500])
@pytest.mark.parametrize("unit", TRACES)
async def test_no_trace_holds_the_loop_or_the_interpreter(start, unit, size, way):
    async with RawUpstream(way(array(TRACES[unit], size))) as upstream, start(upstream.url) as gateway:
        with LoopTurns() as turns:
            await raw_answer(gateway.host, gateway.port, PATH, ASKED)
            line = await only(gateway)
    assert (line["outcome"], line["token_source"], line["tokens_out"]) == ("ok", "estimated", 1)
    assert turns.longest < LONGEST
    assert turns.longest_wait < LONGEST_WAIT


async def test_many_streams_with_large_traces_share_one_budget(start):
    """Each would keep a trace of 2 MB and the next one while it arrives."""
    runs, budget = 5, 6 * MEGABYTE
    trace = event("agentFlowExecutedData", entry('[{"content":"' + "x" * 2 * MEGABYTE + '"}]'))
    arrived, may_end = 0, asyncio.Event()

    async def script(peer, seen):
        nonlocal arrived
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("x") + trace)
        peer.chunk(trace[:-2])
        await peer.writer.drain()
        arrived += 1
        await may_end.wait()
        peer.chunk(b"\n\n" + METADATA + END)
        peer.chunk(b"")

    server = {"kept_replies": f"{budget}B"}
    async with RawUpstream(script) as upstream, start(upstream.url, server=server) as gateway:
        asks = [json.dumps({**ASK, "chatId": f"chat-{number}"}).encode() for number in range(runs)]
        answers = asyncio.gather(*[raw_answer(gateway.host, gateway.port, PATH, ask) for ask in asks])
        await until(lambda: arrived == runs)
        assert 0 < gateway.kept_replies() <= budget
        may_end.set()
        for answer in await answers:
            assert answer.count(b"agentFlowExecutedData") == 2
        lines = await settled(gateway, runs)
        assert gateway.kept_replies() == 0
    assert any(line.get("uncounted") == "trace_over_budget" for line in lines)
    assert all(line["token_source"] == "estimated" for line in lines)


async def test_json_answers_share_the_budget(start):
    async with (
        RawUpstream(answering(array("0", 60 * KILOBYTE))) as upstream,
        start(upstream.url, server={"kept_replies": "50KiB"}) as gateway,
    ):
        answer = await raw_answer(gateway.host, gateway.port, PATH, ASKED)
        line = await only(gateway)
        assert gateway.kept_replies() == 0
    assert answer.endswith(b"]}")
    assert (line["uncounted"], line["token_source"]) == ("answer_over_budget", "estimated")
    assert line["tokens_out"] == -(-len(answer.partition(b"\r\n\r\n")[2]) // 4)


async def test_an_answer_above_its_own_limit_says_so(start):
    async with RawUpstream(answering(array("0", 5 * MEGABYTE))) as upstream, start(upstream.url) as gateway:
        await raw_answer(gateway.host, gateway.port, PATH, ASKED)
        line = await only(gateway)
    assert (line["uncounted"], line["token_source"]) == ("answer_too_large", "estimated")


async def test_a_run_that_ends_without_a_client_gives_its_memory_back(start):
    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START + event("agentFlowExecutedData", array("0", MEGABYTE)))
        peer.chunk(event("agentFlowExecutedData", array("0", MEGABYTE))[:-2])
        await peer.writer.drain()
        await until(lambda: gateway.kept_replies() > MEGABYTE)
        peer.rst()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        await raw_answer(gateway.host, gateway.port, PATH, ASKED)
        line = await only(gateway)
        assert gateway.kept_replies() == 0
    assert line["outcome"] == "truncated"

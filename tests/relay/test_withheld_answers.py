"""What `events.withhold` names reaches nobody in an answer that is no stream: it is taken out, or the answer is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket

import pytest

from gateway.relay import whole_answer
from gateway.simulator import AGENTFLOW_ID, CHAIN_ID, Simulator
from tests.harness.clock import until
from tests.harness.frames import ASK, ASK_JSON, PATH, metered, only
from tests.harness.gateway import FLOW
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import RawUpstream

SECRET = "s3cret"
MEMBERS = {
    "text": '"hi \\u00e9"',
    "json": '{ "a" : 1 }',
    "question": '"hi"',
    "chatId": '"chat-1"',
    "chatMessageId": '"m"',
    "sessionId": '"chat-1"',
    "memoryType": '"Buffer Memory"',
    "followUpPrompts": '"[]"',
    "flowVariables": "{}",
    "isStreamValid": "false",
    "executionId": '"e"',
    "sourceDocuments": "[1.0]",
    "usedTools": "[1e2]",
    "artifacts": "[]",
    "fileAnnotations": "[]",
    "agentReasoning": "[[]]",
    "agentFlowExecutedData": '[{"data":{"output":{"usageMetadata":{"input_tokens":11,"output_tokens":7}}}}]',
    "action": "{}",
    "reasonContent": "{}",
    "ownMember": "null",
}
OF_METADATA = (
    "question",
    "chatId",
    "chatMessageId",
    "sessionId",
    "memoryType",
    "followUpPrompts",
    "flowVariables",
)
TABLE = {
    "usedTools": ("usedTools",),
    "sourceDocuments": ("sourceDocuments",),
    "artifacts": ("artifacts",),
    "fileAnnotations": ("fileAnnotations",),
    "agentReasoning": ("agentReasoning",),
    "agentFlowExecutedData": ("agentFlowExecutedData",),
    "action": ("action",),
    "thinking": ("reasonContent",),
    "token": ("text", "json"),
    "metadata": OF_METADATA,
    "custom:ownMember": ("ownMember",),
    "nextAgentFlow": (),
}
WITHHOLDING = {"events": {"withhold": ["usedTools"]}}


def written(members):
    return ",".join(f'"{name}": {raw}' for name, raw in members.items()).join("{}").encode()


def answering(body, content_type="application/json; charset=utf-8", status="200 OK", more=""):
    """Answers with this body and an ETag, as Flowise does."""

    async def script(peer, _):
        peer.send(
            f'HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nETag: W/"2-x"\r\n{more}'
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    return script


async def asked(start, connect, script, sent=ASK_JSON, route=WITHHOLDING, **sections):
    """Reply, line and metrics of one request, of which nothing is left."""
    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=route, **sections) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, sent)
        reply = await wire.reply()
        line = await only(gateway)
        assert gateway.kept_replies() == 0
        return reply, line, await metered(gateway)


@pytest.mark.parametrize("event", TABLE)
async def test_each_event_takes_its_members_out_of_the_answer(start, connect, event):
    route = {"events": {"withhold": [event]}}
    reply, line, _ = await asked(start, connect, answering(written(MEMBERS)), route=route)
    left = {name: raw for name, raw in MEMBERS.items() if name not in TABLE[event]}
    expected = written(MEMBERS) if left == MEMBERS else written(left).replace(b', "', b',"')
    assert reply.body == expected
    assert reply.status == 200
    assert int(reply.fields["content-length"]) == len(expected) == line["bytes_out"]
    assert reply.fields["content-type"] == "application/json; charset=utf-8"
    assert ("etag" in reply.fields) is (left == MEMBERS)
    assert (line["outcome"], line["status"], line["streaming"]) == ("ok", 200, False)
    assert (line["tokens_in"], line["tokens_out"], line["token_source"]) == (11, 7, "reported")


async def test_an_answer_in_chunks_to_a_request_for_a_stream(start, connect, reads):
    """The flow does not stream, or not always."""
    body = written({"usedTools": f'["{SECRET}"]', "text": '"a"'})

    async def script(peer, _):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        peer.send(head)
        await reads.reach(len(head))
        for byte in body:
            peer.chunk(bytes([byte]))
        peer.chunk(b"")

    reply, line, metrics = await asked(start, connect, script, ASK)
    assert (reply.body, reply.fields["content-length"]) == (b'{"text": "a"}', "13")
    assert (line["outcome"], line["bytes_out"]) == ("ok", 13)
    assert metrics("overhead_seconds_count") == 1


@pytest.mark.parametrize("size", [whole_answer.LONG, whole_answer.LARGEST])
async def test_an_answer_of_any_size_up_to_the_bound(start, connect, size):
    frame = written({"usedTools": '"%s"', "text": '"a"'})
    body = frame.replace(b"%s", SECRET.encode() + b"x" * (size - len(frame) + 2 - len(SECRET)))
    assert len(body) == size
    reply, line, _ = await asked(start, connect, answering(body))
    assert (reply.status, reply.body) == (200, b'{"text": "a"}')
    assert line["outcome"] == "ok"


HIDING = written({"usedTools": f'"{SECRET}"', "text": '"a"'})
TOO_LARGE = HIDING + b" " * whole_answer.LARGEST
REFUSED = {
    "text": (answering(HIDING, "text/plain"), "content type text/plain"),
    "no type": (answering(HIDING, ""), "content type none"),
    "JSON of another kind": (answering(HIDING, "application/ld+json"), "content type application/ld+json"),
    "binary": (answering(HIDING, "application/octet-stream"), "content type application/octet-stream"),
    "page": (answering(HIDING, "text/html"), "a web page"),
    "stream that is not a 200": (answering(HIDING, "text/event-stream", "201 Created"), "text/event-stream"),
    "compressed": (answering(gzip.compress(HIDING), more="Content-Encoding: gzip\r\n"), "compressed (gzip)"),
    "list": (answering(b"[%b]" % HIDING), "not a JSON object"),
    "text in JSON": (answering(b'"%b"' % SECRET.encode()), "not a JSON object"),
    "empty": (answering(b""), "not a JSON object"),
    "not JSON": (answering(HIDING + HIDING), "not valid JSON"),
    "NaN": (answering(HIDING.replace(b'"a"', b"NaN")), "not valid JSON"),
    "deep": (answering(HIDING.replace(b'"a"', b"[" * 100_000 + b"]" * 100_000)), "not valid JSON"),
    "many members": (answering(written({f"a{i}": "1" for i in range(257)})), "more than 256 members"),
    "part": (answering(HIDING[:20], status="206 Partial Content"), "not valid JSON"),
    "too large": (answering(TOO_LARGE), "larger than 4 MiB"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_looked_into_is_refused(start, connect, case):
    script, message = REFUSED[case]
    reply, line, _ = await asked(start, connect, script)
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert message in reply.json()["message"]
    assert SECRET.encode() not in reply.body
    assert "etag" not in reply.fields
    assert (line["status"], line["outcome"]) == (502, "upstream_error")
    assert line["error"].startswith("upstream_bad_reply: ")


async def test_a_refusal_is_a_bad_reply_in_the_metrics_whenever_it_is_found(start, connect):
    for case in ("text", "list", "too large"):
        async with (
            RawUpstream(REFUSED[case][0]) as upstream,
            start(upstream.url, route=WITHHOLDING) as gateway,
            connect(gateway) as wire,
        ):
            wire.post(PATH, ASK_JSON)
            await wire.reply()
            await only(gateway)
            samples = await gateway.metrics()
        (sent,) = [name for name in samples if name.startswith("flowise_gateway_upstream_requests_total")]
        assert 'result="bad_reply"' in sent


async def test_too_large_in_chunks_is_closed_at_the_bound_and_its_run_aborted(start, connect):
    """The run may go on: what is no JSON that ends is no answer of Flowise."""
    closed = asyncio.Event()

    async def script(peer, _):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.chunk(TOO_LARGE)
        await peer.closed_by_gateway()
        closed.set()

    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=WITHHOLDING) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK_JSON)
        reply = await wire.reply()
        await closed.wait()
        line = await only(gateway)
        assert (gateway.kept_replies(), len(upstream.aborts)) == (0, 1)
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert (line["outcome"], line["token_source"], line["abort"]) == ("upstream_error", "estimated", "ran_on")


async def test_a_widget_is_told_in_its_own_way(start, connect):
    async with (
        RawUpstream(REFUSED["list"][0]) as upstream,
        start(upstream.url, route=WITHHOLDING) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK, Accept="text/event-stream")
        reply = await wire.reply()
        await only(gateway)
    assert (reply.status, reply.fields["x-gateway-status"]) == (200, "502")
    assert b'"event":"error"' in reply.body
    assert SECRET.encode() not in reply.body


@pytest.mark.parametrize("framing", ["Content-Length: 99", "Transfer-Encoding: chunked"])
async def test_an_answer_that_breaks_off(start, connect, framing):
    async def script(peer, _):
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode())
        if "chunked" in framing:
            peer.chunk(HIDING)
        else:
            peer.send(HIDING)
        peer.fin()

    reply, line, _ = await asked(start, connect, script)
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert SECRET.encode() not in reply.body
    assert (line["outcome"], line["error"][:10]) == ("upstream_error", "broken off")


async def test_an_answer_that_ends_with_its_connection(start, connect):
    async def script(peer, _):
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + HIDING)
        peer.fin()

    reply, line, _ = await asked(start, connect, script)
    assert (reply.status, reply.body, line["outcome"]) == (200, b'{"text": "a"}', "ok")


ERRORS = {
    "500 Internal Server Error": "application/json",
    "429 Too Many Requests": "text/html; charset=utf-8",
    "403 Forbidden": "text/plain",
}


@pytest.mark.parametrize("status", ERRORS)
async def test_an_error_of_flowise_passes_as_it_is(start, connect, status):
    body = b'{"statusCode":500,"success":false,"message":"m","usedTools":1}'
    reply, line, _ = await asked(start, connect, answering(body, ERRORS[status], status))
    assert (reply.status, reply.body, reply.fields["etag"]) == (int(status[:3]), body, 'W/"2-x"')
    assert line["outcome"] == "upstream_error"


async def test_no_content_has_nothing_to_withhold(start, connect):
    async def script(peer, _):
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    reply, line, _ = await asked(start, connect, script)
    assert (reply.status, line["outcome"]) == (204, "ok")


async def test_a_route_that_withholds_nothing_passes_any_body(start, connect):
    reply, _, _ = await asked(start, connect, answering(HIDING + HIDING, "text/plain"), route={})
    assert (reply.body, reply.fields["etag"]) == (HIDING + HIDING, 'W/"2-x"')


async def test_a_client_of_http_1_0(start, connect):
    async with (
        RawUpstream(answering(HIDING)) as upstream,
        start(upstream.url, route=WITHHOLDING) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(request("POST", PATH, json.dumps(ASK_JSON).encode()).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        reply = await wire.reply()
        await only(gateway)
    assert (reply.body, reply.fields["content-length"]) == (b'{"text": "a"}', "13")


PART = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n" + HIDING


async def test_a_client_that_leaves_while_the_answer_comes(start, connect):
    has_left = asyncio.Event()

    async def script(peer, _):
        peer.send(PART)
        await has_left.wait()
        peer.fin()

    async with RawUpstream(script) as upstream, start(upstream.url, route=WITHHOLDING) as gateway:
        async with connect(gateway) as wire:
            wire.post(PATH, ASK_JSON)
            await until(lambda: gateway.kept_replies() == len(HIDING))
            wire.reset()
            await until(lambda: gateway.kept_replies() == 0)
        await upstream.aborted.wait()
        has_left.set()
        line = await only(gateway)
        assert gateway.kept_replies() == 0
    assert (line["outcome"], line["status"]) == ("client_closed", 499)


async def test_a_deadline_while_the_answer_comes(start, connect, hurried):
    async def script(peer, _):
        peer.send(PART)
        await peer.closed_by_gateway()

    hurried(0.05)
    upstreams = {"main": {"timeouts": {"total": "100ms"}}}
    reply, line, _ = await asked(start, connect, script, upstreams=upstreams)
    assert (reply.status, reply.json()["code"]) == (504, "upstream_timeout")
    assert (line["outcome"], line["status"]) == ("timeout", 504)


async def test_more_answers_than_the_gateway_may_hold(start, connect):
    """The answer is read to its end, and its tokens are estimated by its size."""
    body = written({**MEMBERS, "text": '"%s"' % ("x" * 60_000)})
    is_refused = asyncio.Event()

    async def script(peer, _):
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.send(head.encode() + body[:50_000])
        await is_refused.wait()
        peer.send(body[50_000:])

    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=WITHHOLDING, server={"kept_replies": "40KiB"}) as gateway,
        connect(gateway) as wire,
    ):
        wire.post(PATH, ASK_JSON)
        reply = await wire.reply()
        is_refused.set()
        line = await only(gateway)
        samples = await gateway.metrics()
        assert (gateway.kept_replies(), upstream.aborts) == (0, [])
    assert (reply.status, reply.json()["code"]) == (503, "overloaded")
    assert (line["outcome"], line["error"].split(":")[0]) == ("refused", "overloaded")
    assert (line["uncounted"], line["token_source"]) == ("answer_over_budget", "estimated")
    assert line["tokens_out"] == -(-len(body) // 4)
    (sent,) = [name for name in samples if name.startswith("flowise_gateway_upstream_requests_total")]
    assert 'result="ok"' in sent


async def test_the_memory_is_held_until_the_client_has_taken_the_answer(start, monkeypatch):
    """The bound is raised because 4 MiB fit into the buffers of the kernel."""
    monkeypatch.setattr(whole_answer, "LARGEST", 16 * 1024 * 1024)
    body = written({"text": '"%s"' % ("x" * 14_000_000), "usedTools": "1"})
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    async with RawUpstream(answering(body)) as upstream, start(upstream.url, route=WITHHOLDING) as gateway:
        sock.connect((gateway.host, gateway.port))
        async with await Wire.to(None, None, sock=sock) as wire:
            wire.writer.transport.pause_reading()
            wire.post(PATH, ASK_JSON)
            line = await only(gateway)
            assert gateway.kept_replies() == len(body)
            wire.writer.transport.resume_reading()
            reply = await wire.reply()
            await until(lambda: gateway.kept_replies() == 0)
    assert len(reply.body) == line["bytes_out"] == len(body) - len(',"usedTools": 1')


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("flow", "event"),
    [(CHAIN_ID, "usedTools"), (AGENTFLOW_ID, "agentFlowExecutedData")],
    ids=["tools", "trace"],
)
async def test_with_the_simulator(start, connect, flow, event, streaming):
    async with Simulator() as flowise:
        for route, has_it in (({}, True), ({"events": {"withhold": [event]}}, False)):
            async with (
                start(flowise.url, route={"chatflow": flow, **route}) as gateway,
                connect(gateway) as wire,
            ):
                ask = {"question": "[[tokens=2 tools=1 delay=0]]", "streaming": streaming}
                wire.post(PATH.replace(FLOW, flow), ask)
                reply = await wire.reply()
                line = await only(gateway)
            assert (event.encode() in reply.body) is has_it
            assert b"tok1" in reply.body
            assert line["outcome"] == "ok"
            assert line["token_source"] == ("reported" if flow == AGENTFLOW_ID else "estimated")

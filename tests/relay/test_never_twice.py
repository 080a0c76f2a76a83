"""Wherever Flowise dies, it sees a request at most once: at every byte of the request and of its reply, by FIN and RST."""

from __future__ import annotations

import json

import pytest

from gateway.errors import UpstreamBadReply, UpstreamUnreachable
from gateway.relay.call import UpstreamCall
from gateway.upstream.response_parser import BodyEnd
from tests.harness.dying_upstream import Death, DyingUpstream
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.scripted_pool import (
    OnlyPool,
    RecordingListener,
    RecordingWriter,
    ask,
    deadlines,
    exchange,
    send,
)
from tests.harness.servers import chat_on, servers

JSON_REPLY = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"text":"hi"}'
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'2f\r\nmessage:\ndata:{"event":"end","data":"[DONE]"}\n\n\r\n0\r\n\r\n'
)
QUESTION = b'{"question":"hi"}'
SIZE = len(ask(QUESTION).encoded())

is_rude = pytest.mark.parametrize("is_rude", [False, True], ids=["fin", "rst"])


async def end_of(upstream, pool, death, method="POST"):
    """How a call ends that takes a used connection and meets this death: its error, or the end of its body."""
    upstream.death = None
    upstream.begun.clear()
    await exchange(pool)
    upstream.death = death
    listener = RecordingListener()
    call = UpstreamCall(listener, deadlines(), OnlyPool(None))
    try:
        await send(call, pool, ask(QUESTION if method == "POST" else b"", method))
    except (UpstreamUnreachable, UpstreamBadReply):
        pass
    else:
        call.attach(RecordingWriter())
    await listener.over.wait()
    (end,) = listener.ends
    return end


@is_rude
async def test_a_death_at_any_byte_of_the_request(pool_to, is_rude):
    async with DyingUpstream() as upstream:
        pool = pool_to(upstream.url)
        for read in range(SIZE + 1):
            end = await end_of(upstream, pool, Death(read, is_rude=is_rude))
            assert isinstance(end, UpstreamUnreachable), read
            assert [len(begun) for begun in upstream.begun] == [read]


@is_rude
@pytest.mark.parametrize("reply", [JSON_REPLY, STREAM], ids=["json", "stream"])
async def test_a_death_at_any_byte_of_the_reply(pool_to, is_rude, reply):
    head = reply.index(b"\r\n\r\n") + 4
    async with DyingUpstream() as upstream:
        pool = pool_to(upstream.url)
        for sent in range(len(reply)):
            end = await end_of(upstream, pool, Death(SIZE, reply[:sent], is_rude))
            assert isinstance(end, UpstreamUnreachable) if sent < head else end is BodyEnd.CUT, sent
            assert len(upstream.begun) == 1, sent


@is_rude
async def test_a_put_is_not_sent_twice_either(pool_to, is_rude):
    size = len(ask(b"", "PUT").encoded())
    async with DyingUpstream() as upstream:
        pool = pool_to(upstream.url)
        for read in range(size + 1):
            assert isinstance(
                await end_of(upstream, pool, Death(read, is_rude=is_rude), "PUT"), UpstreamUnreachable
            )
            assert len(upstream.begun) == 1, read


@is_rude
async def test_a_get_is_seen_twice_at_most(pool_to, is_rude):
    size = len(ask(b"", "GET").encoded())
    async with DyingUpstream() as upstream:
        pool = pool_to(upstream.url)
        for read in range(size + 1):
            assert isinstance(
                await end_of(upstream, pool, Death(read, is_rude=is_rude), "GET"), UpstreamUnreachable
            )
            assert len(upstream.begun) == 2, read


# -- through a whole gateway ------------------------------------------------------------------------

CHAT = "0a000000-0000-4000-8000-000000000001"
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\nhi\r\n'
    b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nx\r\n'
    b"--b--\r\n"
)
FORM_TYPE = {"Content_Type": "multipart/form-data; boundary=b"}


def body(**members):
    return json.dumps(members).encode()


SENT = {
    "prediction": ("POST", f"/api/v1/prediction/{FLOW}", body(question="hi"), {}),
    "stream": ("POST", f"/api/v1/prediction/{FLOW}", body(question="hi", streaming=True), {}),
    "upload": ("POST", f"/api/v1/prediction/{FLOW}", FORM, FORM_TYPE),
    "lead": ("POST", "/api/v1/leads", body(chatflowid=FLOW, chatId=CHAT, name="n", email="e@x"), {}),
    "feedback": (
        "POST", f"/api/v1/feedback/{FLOW}", body(chatId=CHAT, messageId=CHAT, rating="THUMBS_UP", content=""), {},
    ),
    "attachments": ("POST", f"/api/v1/attachments/{FLOW}/{CHAT}", FORM.replace(b'"question"', b'"chatId"').replace(b"hi", CHAT.encode()), FORM_TYPE),
    "abort": ("PUT", f"/api/v1/chatmessage/abort/{FLOW}/{CHAT}", b"", {}),
}  # fmt: skip


@is_rude
@pytest.mark.parametrize("name", SENT)
async def test_every_kind_of_request_that_changes_something_reaches_flowise_once(
    start, connect, name, is_rude
):
    method, path, content, fields = SENT[name]
    async with (
        DyingUpstream() as upstream,
        start(upstream.url, route={"uploads": True}) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(
            request("GET", f"/api/v1/chatflows-streaming/{FLOW}")
        )  # leaves a used connection in the pool
        assert (await wire.reply()).status == 200
        upstream.death = Death(200, is_rude=is_rude)
        wire.send(request(method, path, content, **fields))
        reply = await wire.reply()
        assert (reply.status, reply.json()["code"]) == (502, "upstream_unreachable")
        assert len(upstream.begun) == 1
        assert upstream.begun[0].startswith(f"{method} ".encode())
        line = (await gateway.lines.until("request", 2))[1]
        assert (line["status"], line["outcome"]) == (502, "upstream_error")


# -- with another server behind it ------------------------------------------------------------------


def dies_before_the_request(death, *, is_get):
    """Whether another server may get the request: never a POST, whose first byte was written."""
    return is_get and not death.sent


@is_rude
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_with_two_servers_a_death_at_any_byte_is_seen_by_one_of_them(start, connect, method, is_rude):
    """Of a GET by each at most once; of a POST by the first alone, wherever it dies after it was connected to."""
    path = f"/api/v1/prediction/{FLOW}"
    async with DyingUpstream() as first, DyingUpstream() as second:
        sections = servers(first.url, second.url, eject={"most": 0}, health={"every": "0s"})
        async with start(first.url, **sections) as gateway, connect(gateway) as wire:
            chat = chat_on(gateway, first.url)
            if method == "GET":
                path = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId={chat}&fileName=a"
            body = b"" if method == "GET" else json.dumps({"question": "hi", "chatId": chat}).encode()
            wire.send(request(method, path, body))  # leaves a used connection in the pool
            assert (await wire.reply()).status == 200
            size = len(first.last)
            deaths = [Death(read, is_rude=is_rude) for read in range(0, size + 1, 1 if size < 300 else 7)]
            deaths += [
                Death(size, JSON_REPLY[:sent], is_rude) for sent in range(JSON_REPLY.index(b"\r\n\r\n") + 4)
            ]
            for death in deaths:
                for upstream in (first, second):
                    upstream.death = death
                    upstream.begun.clear()
                wire.send(request(method, path, body))
                reply = await wire.reply()
                assert reply.status == 502, death
                assert len(first.begun) >= 1, death
                begun = len(first.begun) + len(second.begun)
                assert begun <= (2 if dies_before_the_request(death, is_get=method == "GET") else 1), death
                for upstream in (first, second):
                    upstream.death = None
                wire.send(request(method, path, body))
                assert (await wire.reply()).status == 200

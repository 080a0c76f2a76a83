"""The gateway's own requests to Flowise: their targets, and how odd replies are read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.causes import REFUSED
from gateway.errors import UpstreamUnreachable
from gateway.upstream.flowise_api import Streamability, abort
from gateway.upstream.upstream import ForwardedIdentity

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
ROUTE = SimpleNamespace(name="chat", chatflow=FLOW, upstream="main")


class Flowise:
    """Answers requests with these replies, one after the other."""

    server = SimpleNamespace(prefix=("a b",))

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []

    async def request(self, method, target, identity):
        self.requests.append((method, target, identity.request_id))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


class Log:
    def __init__(self):
        self.lines = []

    def debug(self, *args, **fields):
        self.lines.append(("debug", fields))

    def warning(self, *args, **fields):
        self.lines.append(("warning", fields))


IDENTITY = ForwardedIdentity("r", "1.2.3.4")


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ((200, b"{}"), ""),
        ((500, b""), "Flowise answered with status 500"),
        (UpstreamUnreachable("No.", REFUSED), "upstream_unreachable: No. (connection refused)"),
    ],
)
async def test_abort(answer, failure):
    flowise = Flowise(answer)
    assert await abort(flowise, ROUTE, "c@1", IDENTITY) == failure
    assert flowise.requests == [("PUT", f"/a%20b/api/v1/chatmessage/abort/{FLOW}/c%401".encode(), "r")]


async def test_a_run_without_a_chat_id_cannot_be_aborted():
    flowise = Flowise()
    assert "known to Flowise alone" in await abort(flowise, ROUTE, None, IDENTITY)
    assert flowise.requests == []


@pytest.mark.parametrize(
    ("replies", "streams"),
    [
        ([], True),
        ([(200, b'{"isStreaming":true}')], True),
        ([(200, b'{"isStreaming":false}')], False),
        ([(200, b'{"isStreaming":false}'), (200, b'{"isStreaming":true}')], True),
        ([(200, b'{"isStreaming":false}'), (500, b"")], False),
        ([(200, b'{"isStreaming":false}'), UpstreamUnreachable("x")], False),
        ([(200, b"nonsense")], True),
        ([(200, b'{"isStreaming":0}')], True),
        ([(200, b"[]")], True),
        ([(404, b'{"isStreaming":false}')], True),
    ],
)
async def test_streamability(replies, streams):
    flowise = Flowise(*replies)
    known = Streamability([ROUTE], {"main": flowise}, Log())
    for _ in replies:
        await known.refresh()
    assert known.may_stream(ROUTE) is streams
    target = f"/a%20b/api/v1/chatflows-streaming/{FLOW}".encode()
    assert flowise.requests == [("GET", target, "streamability")] * len(replies)


@pytest.mark.parametrize("body", [b'{"isStreaming":"\xff"}', b'{"a":' + b"[" * 100_000, b"nonsense"])
async def test_an_unreadable_reply_is_logged_and_ends_nothing(body):
    log = Log()
    known = Streamability([ROUTE], {"main": Flowise((200, body), (200, b'{"isStreaming":false}'))}, log)
    await known.refresh()
    (line,) = log.lines
    assert (line[1]["route"], known.may_stream(ROUTE)) == ("chat", True)
    await known.refresh()
    assert known.may_stream(ROUTE) is False

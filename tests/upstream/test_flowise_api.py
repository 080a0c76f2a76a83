"""The gateway's own requests to Flowise: their targets, and what an abort reports."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.causes import REFUSED
from gateway.errors import UpstreamUnreachable
from gateway.upstream.flowise_api import abort, chatflows_streaming
from gateway.upstream.short_request import ShortReply
from gateway.upstream.upstream import ForwardedIdentity

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
ROUTE = SimpleNamespace(name="chat", chatflow=FLOW, upstream="main")


class Flowise:
    """Answers requests with these replies, one after the other."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests, self.servers = [], []

    async def request(self, method, target, identity, server=None):
        self.requests.append((method, target, identity.request_id))
        self.servers.append(server)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def fetch(self, choice, target, identity):
        return ShortReply(*await self.request("GET", target, identity, choice), b"")


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
    assert await abort(flowise, "its server", ROUTE, "c@1", IDENTITY) == failure
    assert flowise.requests == [("PUT", f"/api/v1/chatmessage/abort/{FLOW}/c%401".encode(), "r")]
    assert flowise.servers == ["its server"]


async def test_a_run_without_a_chat_id_cannot_be_aborted():
    flowise = Flowise()
    assert "known to Flowise alone" in await abort(flowise, "its server", ROUTE, None, IDENTITY)
    assert flowise.requests == []


async def test_the_question_about_a_chatflow():
    flowise = Flowise((200, b'{"isStreaming":true}'))
    assert await chatflows_streaming(flowise, "its choice", ROUTE) == (200, b'{"isStreaming":true}')
    target = f"/api/v1/chatflows-streaming/{FLOW}".encode()
    assert flowise.requests == [("GET", target, "streamability")]
    assert flowise.servers == ["its choice"]

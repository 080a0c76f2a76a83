"""An upstream with one answer for every request, and the shapes of error responses."""

from __future__ import annotations

from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream

FLOW = "3f6a9b1c-2222-4333-8444-555566667777"
PREDICT = f"/api/v1/prediction/{FLOW}"
QUESTION = b'{"question":"hi"}'
ANSWER = b'{"text":"hello","chatId":"c"}'
JSON_KEYS = ["statusCode", "success", "message", "code", "requestId"]


def answering(body=ANSWER, status="200 OK", content_type="application/json"):
    """An upstream with one answer for everything."""

    async def script(peer, _):
        peer.answer(body, status, content_type)

    return RawUpstream(script)


def answering_raw(data):
    """An upstream that sends these bytes to every request."""

    async def script(peer, _):
        peer.send(data)

    return RawUpstream(script)


def fields_of(seen):
    """The header fields that Flowise received, as pairs of name and value in the order and case of the wire."""
    return [line.split(": ", 1) for line in seen.head.decode("latin-1").split("\r\n")[1:] if line]


async def ask(connect, gateway, method="POST", path=PREDICT, body=QUESTION, **headers):
    """One request on a connection of its own, and its whole reply."""
    async with connect(gateway) as wire:
        wire.send(request(method, path, body if method not in ("GET", "HEAD", "OPTIONS") else b"", **headers))
        return await wire.reply(has_body=method != "HEAD")


async def answer_with_store(connect, gateway):
    """The first reply that is no 503: a request waits 0.1 s for the limit store, late on a busy machine."""
    while (reply := await ask(connect, gateway)).status == 503:
        pass
    return reply

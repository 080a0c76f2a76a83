"""The gateway's own questions to Flowise: what they ask, and what is made of odd answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.errors import UpstreamUnreachable
from gateway.upstream.flowise_api import Streamability, abort

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
ROUTE = SimpleNamespace(name="chat", chatflow=FLOW, upstream="main")


class Flowise:
    """Answers every question with the same answer."""

    server = SimpleNamespace(prefix=("a b",))

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def ask(self, method, target, sender):
        self.asked.append((method, target, sender.request_id))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Log:
    def __init__(self):
        self.lines = []

    def debug(self, *args, **fields):
        self.lines.append(("debug", fields))

    def warning(self, *args, **fields):
        self.lines.append(("warning", fields))


def exchange(chat_id="c@1", route=ROUTE):
    return SimpleNamespace(route=route, chat_id=chat_id, request_id="r", client="1.2.3.4")


@pytest.mark.parametrize(
    ("answer", "taken"), [((200, b"{}"), True), ((500, b""), False), (UpstreamUnreachable("x"), False)]
)
async def test_abort(answer, taken):
    flowise = Flowise(answer)
    assert await abort(flowise, exchange()) is taken
    assert flowise.asked == [("PUT", f"/a%20b/api/v1/chatmessage/abort/{FLOW}/c%401".encode(), "r")]


@pytest.mark.parametrize("unknown", [{"chat_id": None}, {"route": None}])
async def test_what_is_not_known_cannot_be_aborted(unknown):
    flowise = Flowise()
    assert await abort(flowise, exchange(**unknown)) is False
    assert flowise.asked == []


@pytest.mark.parametrize(
    ("answers", "streams"),
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
async def test_streamability(answers, streams):
    flowise = Flowise(*answers)
    known = Streamability([ROUTE], {"main": flowise}, Log())
    for _ in answers:
        await known.refresh()
    assert known.may_stream(ROUTE) is streams
    target = f"/a%20b/api/v1/chatflows-streaming/{FLOW}".encode()
    assert flowise.asked == [("GET", target, "streamability")] * len(answers)


@pytest.mark.parametrize("body", [b'{"isStreaming":"\xff"}', b'{"a":' + b"[" * 100_000, b"nonsense"])
async def test_an_answer_that_cannot_be_read_is_logged_and_ends_nothing(body):
    log = Log()
    known = Streamability([ROUTE], {"main": Flowise((200, body), (200, b'{"isStreaming":false}'))}, log)
    await known.refresh()
    (line,) = log.lines
    assert (line[1]["route"], known.may_stream(ROUTE)) == ("chat", True)
    await known.refresh()
    assert known.may_stream(ROUTE) is False

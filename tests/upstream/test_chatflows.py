"""What is known of each chatflow, and the lines about it: one for what was found, one for each change."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from gateway.aio import Tasks
from gateway.causes import REFUSED
from gateway.errors import Overloaded, UnknownRoute, UpstreamBadReply, UpstreamUnreachable
from gateway.flowise.error_texts import of_text
from gateway.upstream import chatflows as chatflows_file
from gateway.upstream.chatflows import Chatflows
from gateway.upstream.short_request import ShortReply

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
ROUTE = SimpleNamespace(name="chat", chatflow=FLOW, upstream="main")
OTHER = SimpleNamespace(name="other", chatflow=FLOW, upstream="main")
ELSEWHERE = SimpleNamespace(name="elsewhere", chatflow=FLOW, upstream="second")
SENTENCE = f"Chatflow {FLOW} not found"

STREAMS, PLAIN = (200, b'{"isStreaming":true}'), (200, b'{"isStreaming":false}')
MISSING = (
    500,
    b'{"message":"Error: chatflowsService.checkIfChatflowIsValidForStreaming - %b"}' % SENTENCE.encode(),
)
ODD, KEYED = (500, b"oops"), (401, b'{"error":"Unauthorized Access"}')
BROKEN = UpstreamBadReply("Flowise broke off its reply.")
DOWN = UpstreamUnreachable("Flowise cannot be reached.", REFUSED)
WRONG_KEY = of_text("Error: predictionsServices.buildChatflow - Unauthorized")

REACHABLE = ("info", "upstream_reachable", {"upstream": "main", "server": "f:2"})
UNREACHABLE = (
    "warning",
    "upstream_unreachable",
    {
        "upstream": "main",
        "server": "f:1, f:2",
        "error": "upstream_unreachable: Flowise cannot be reached. (connection refused)",
    },
)


def line(level, event, **fields):
    return (level, event, {"route": "chat", "upstream": "main", "chatflow": FLOW, **fields})


FOUND, FOUND_PLAIN = (line("info", "chatflow_found", streaming=streams) for streams in (True, False))
NOT_FOUND = line("error", "chatflow_not_found", error=SENTENCE)
WANTS_KEY = line("warning", "chatflow_wants_key")
UNKNOWN = line("warning", "streamability_unknown", status=500)
UNREADABLE = line(
    "warning", "streamability_unknown", error="upstream_bad_reply: Flowise broke off its reply."
)


class Flowise:
    """Answers with these replies, one after the other, the last one for ever."""

    def __init__(self, name="main"):
        self.name, self.label = name, "f:1, f:2"
        self.replies = [STREAMS]
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def choose(self, _, *, is_short):
        """A choice that moves on to the second server, the only one that answers."""
        assert is_short
        return SimpleNamespace(server=SimpleNamespace(label="f:1"))

    async def fetch(self, choice, *_):
        self.asked += 1
        choice.server = SimpleNamespace(label="f:2")
        await self.may_answer.wait()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return ShortReply(*reply, b"")


class Log:
    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda event, **fields: self.lines.append((level, event, fields))


class Known:
    """Chatflows in front of a scripted Flowise, on a clock of the test."""

    def __init__(self, *routes):
        self.flowise, self.second, self.log = Flowise(), Flowise("second"), Log()
        self.tasks = Tasks(lambda error: self.log.lines.append(("bug", error, {})))
        upstreams = {"main": self.flowise, "second": self.second}
        self.chatflows = Chatflows(routes or (ROUTE,), upstreams, self.tasks, self.log)

    async def refreshed(self, *replies):
        """The lines of one refresh for each reply."""
        self.log.lines.clear()
        for reply in replies:
            self.flowise.replies = [reply]
            await self.chatflows.refresh("main")
        return self.log.lines


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(chatflows_file, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def known(clock):
    return Known()


@pytest.mark.parametrize(
    ("replies", "streams"),
    [
        ([], True),
        ([STREAMS], True),
        ([PLAIN], False),
        ([PLAIN, STREAMS], True),
        ([PLAIN, ODD], False),
        ([PLAIN, DOWN], False),
        ([PLAIN, MISSING], False),
        ([ODD], True),
        ([MISSING], True),
    ],
)
async def test_what_may_stream(known, replies, streams):
    await known.refreshed(*replies)
    assert known.chatflows.may_stream(ROUTE) is streams


@pytest.mark.parametrize(
    ("replies", "lines"),
    [
        ([STREAMS], [REACHABLE, FOUND]),
        ([STREAMS, STREAMS], [REACHABLE, FOUND]),
        ([PLAIN], [REACHABLE, FOUND_PLAIN]),
        ([STREAMS, PLAIN, PLAIN], [REACHABLE, FOUND, FOUND_PLAIN]),
        ([MISSING, MISSING], [REACHABLE, NOT_FOUND]),
        ([MISSING, STREAMS], [REACHABLE, NOT_FOUND, FOUND]),
        ([STREAMS, MISSING], [REACHABLE, FOUND, NOT_FOUND]),
        ([KEYED, KEYED], [REACHABLE, WANTS_KEY]),
        ([KEYED, STREAMS], [REACHABLE, WANTS_KEY, FOUND]),
        ([ODD, ODD], [REACHABLE, UNKNOWN]),
        ([BROKEN, BROKEN, STREAMS], [REACHABLE, UNREADABLE, FOUND]),
        ([MISSING, BROKEN], [REACHABLE, NOT_FOUND, UNREADABLE]),
        ([STREAMS, ODD, STREAMS], [REACHABLE, FOUND, UNKNOWN, FOUND]),
        ([DOWN, DOWN], [UNREACHABLE]),
        ([DOWN, STREAMS], [UNREACHABLE, REACHABLE, FOUND]),
        ([STREAMS, DOWN, STREAMS], [REACHABLE, FOUND, UNREACHABLE, REACHABLE]),
        ([MISSING, DOWN, MISSING], [REACHABLE, NOT_FOUND, UNREACHABLE, REACHABLE, NOT_FOUND]),
        ([Overloaded("x")], []),
    ],
)
async def test_one_line_for_what_is_found_and_for_each_change(known, replies, lines):
    assert await known.refreshed(*replies) == lines


async def test_of_an_upstream_that_does_not_answer_one_chatflow_is_asked_about(clock):
    known = Known(ROUTE, OTHER, ELSEWHERE)
    known.flowise.replies = [DOWN]
    assert not known.chatflows.is_silent("main")
    await known.chatflows.refresh("main")
    assert known.chatflows.is_silent("main")
    assert (known.flowise.asked, known.second.asked) == (1, 0)
    known.flowise.replies = [STREAMS]
    await known.chatflows.refresh("main")
    assert not known.chatflows.is_silent("main")
    assert (known.flowise.asked, known.second.asked) == (3, 0)
    assert [fields.get("route") for _, event, fields in known.log.lines if event == "chatflow_found"] == [
        *("chat", "other")
    ]


# -- a key that predictions are refused for ---------------------------------------------------------


async def test_a_refused_key_is_reported_once_until_a_prediction_ends_well(known):
    await known.refreshed(STREAMS)
    known.log.lines.clear()
    for failure in (WRONG_KEY, WRONG_KEY, of_text("400 no"), None, None):
        known.chatflows.learn(ROUTE, failure)
    assert known.log.lines == [WANTS_KEY, FOUND]
    assert await known.refreshed(STREAMS) == []


async def test_a_refresh_does_not_forget_a_refused_key(known):
    await known.refreshed(STREAMS)
    known.chatflows.learn(ROUTE, WRONG_KEY)
    assert await known.refreshed(STREAMS, STREAMS) == []


async def test_a_key_that_is_refused_before_the_first_answer_is_reported_once(known):
    known.chatflows.learn(ROUTE, WRONG_KEY)
    assert known.log.lines == [WANTS_KEY]
    assert await known.refreshed(STREAMS) == [REACHABLE]
    known.chatflows.learn(ROUTE, None)
    assert known.log.lines == [REACHABLE, FOUND]


async def test_before_the_first_answer_each_change_of_a_refused_key_is_reported(known):
    for failure in (WRONG_KEY, None, WRONG_KEY, None):
        known.chatflows.learn(ROUTE, failure)
    assert known.log.lines == [WANTS_KEY, WANTS_KEY]
    assert await known.refreshed(ODD) == [REACHABLE, UNKNOWN]


async def test_of_a_chatflow_with_a_refused_key_it_is_reported_that_it_was_deleted(known):
    await known.refreshed(STREAMS)
    known.chatflows.learn(ROUTE, WRONG_KEY)
    assert await known.refreshed(MISSING, STREAMS) == [NOT_FOUND, WANTS_KEY]


async def test_before_the_first_answer_nothing_is_said_about_streaming(known):
    known.chatflows.learn(ROUTE, None)
    assert known.log.lines == []


# -- requests for a chatflow that is missing --------------------------------------------------------


async def refused(known):
    """The error of a request, None if it may go on."""
    checking = known.chatflows.check(ROUTE)
    if checking is None:
        return None
    try:
        await checking
    except UnknownRoute as error:
        return error
    return None


@pytest.mark.parametrize("replies", [[], [STREAMS], [PLAIN], [ODD], [KEYED], [DOWN]])
async def test_what_is_not_known_to_be_missing_goes_on_without_a_question(known, replies):
    await known.refreshed(*replies)
    assert known.chatflows.check(ROUTE) is None
    assert known.flowise.asked == len(replies)


async def test_a_missing_one_is_refused_with_the_sentence_of_flowise(known, clock):
    await known.refreshed(MISSING)
    error = await refused(known)
    assert (error.code, error.status) == ("unknown_route", 404)
    assert error.message.startswith(f"{SENTENCE}. ")


async def test_requests_ask_again_at_most_once_a_second_and_share_the_question(known, clock):
    await known.refreshed(MISSING)
    assert await refused(known)
    assert known.flowise.asked == 1
    clock.seconds += 1.0
    errors = await asyncio.gather(*(refused(known) for _ in range(10)))
    assert all(errors)
    assert known.flowise.asked == 2


@pytest.mark.parametrize("reply", [STREAMS, ODD, DOWN, BROKEN])
async def test_the_first_request_after_a_change_goes_on(known, clock, reply):
    await known.refreshed(MISSING)
    clock.seconds += 1.0
    known.flowise.replies = [reply]
    assert await refused(known) is None
    assert known.chatflows.check(ROUTE) is None


async def test_a_question_that_is_not_answered_holds_a_request_up_for_a_moment_only(
    known, clock, monkeypatch
):
    monkeypatch.setattr(chatflows_file, "ANSWER_WITHIN", 0.01)
    await known.refreshed(MISSING)
    clock.seconds += 1.0
    known.flowise.may_answer.clear()
    assert await refused(known)
    known.chatflows.close()
    await known.tasks.join(0)
    assert not any(level == "bug" for level, *_ in known.log.lines)


async def test_a_prediction_that_found_no_chatflow_has_it_looked_up(known, clock):
    await known.refreshed(STREAMS)
    clock.seconds += 1.0
    known.flowise.replies = [MISSING]
    known.chatflows.learn(ROUTE, of_text(f"{SENTENCE} in the database!"))
    await known.tasks.join(1)
    assert known.log.lines[-1] == NOT_FOUND

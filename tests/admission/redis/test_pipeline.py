"""The request queue: replies in order, deadlines, and late replies."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic

import pytest

from gateway.admission.redis import pipeline as pipeline_module
from gateway.admission.redis.commands import PING, Command, ErrorReply, NoScript
from gateway.admission.redis.pipeline import FAILURES, Breaker, RequestQueue
from gateway.admission.store import StoreError
from tests.harness.clock import time_passes

LONG, SHORT = 60.0, 0.005


class Recorder:
    """A `RequestQueue` and its callbacks."""

    def __init__(self):
        self.failed, self.given_up, self.late = [], [], []
        self.queue = RequestQueue(
            Breaker(), self.failed.append, lambda error: self.given_up.append((error.kind, error.reason))
        )

    def add(self, within=LONG, command=PING):
        return self.queue.add(command, within, self.late.append)


@pytest.fixture
def recorder():
    return Recorder()


async def kind_of(reply):
    with pytest.raises(StoreError) as failure:
        await reply
    return failure.value.kind


async def test_replies_are_matched_in_order(recorder):
    first, second = recorder.add(), recorder.add(command=Command(("GET", "a")))
    assert recorder.queue.next_batch() == [("PING",), ("GET", "a")]
    assert recorder.queue.next_batch() == []
    third = recorder.add()
    assert recorder.queue.next_batch() == [("PING",)]
    for reply in (1, 2, 3):
        recorder.queue.on_reply(reply)
    assert [await first, await second, await third] == [1, 2, 3]
    assert len(recorder.queue) == 0
    assert recorder.queue.replied_at <= monotonic()


async def test_the_sender_is_woken(recorder):
    assert not recorder.queue.wakeup.is_set()
    recorder.add().cancel()
    assert recorder.queue.wakeup.is_set()
    recorder.queue.next_batch()
    assert not recorder.queue.wakeup.is_set()


async def test_a_reply_that_does_not_come_is_a_timeout(recorder):
    began = monotonic()
    reply = recorder.add(SHORT)
    recorder.queue.next_batch()
    assert await kind_of(reply) == "timeout"
    assert monotonic() - began >= SHORT / 2
    assert recorder.failed == ["timeout"]


async def test_the_deadline_runs_from_sending(recorder):
    reply = recorder.add(SHORT)
    await time_passes(2 * SHORT)
    assert not reply.done()
    recorder.queue.next_batch()
    assert await kind_of(reply) == "timeout"


async def test_while_the_store_accepts_no_bytes_the_deadline_runs_at_once(recorder):
    recorder.queue.is_blocked = True
    assert await kind_of(recorder.add(SHORT)) == "timeout"
    assert recorder.queue.next_batch() == []


async def test_a_reply_that_arrived_in_time_counts_although_the_loop_was_busy(recorder):
    """The socket is read, and the deadline passes before the reader is woken."""
    reply = recorder.add(SHORT)
    recorder.queue.next_batch()
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()

    def read():
        loop.remove_reader(here)
        until = monotonic() + 4 * SHORT
        while monotonic() < until:
            pass
        loop.call_soon(recorder.queue.on_reply, "in time")

    loop.add_reader(here, read)
    there.send(b"x")
    assert await reply == "in time"
    assert recorder.failed == []
    here.close()
    there.close()


async def test_a_late_reply_goes_to_its_own_callback(recorder):
    late, following = recorder.add(SHORT), recorder.add()
    recorder.queue.next_batch()
    assert await kind_of(late) == "timeout"
    recorder.queue.on_reply("late")
    recorder.queue.on_reply("right")
    assert recorder.late == ["late"]
    assert await following == "right"


async def test_a_call_cancelled_before_sending_is_not_sent(recorder):
    recorder.add().cancel()
    assert recorder.queue.next_batch() == []


async def test_a_call_cancelled_after_sending_gets_a_late_reply(recorder):
    reply = recorder.add()
    recorder.queue.next_batch()
    reply.cancel()
    recorder.queue.on_reply("done")
    assert recorder.late == ["done"]


async def test_an_error_reply_is_a_failure_and_never_late(recorder):
    reply, left = recorder.add(), recorder.add()
    recorder.queue.next_batch()
    left.cancel()
    recorder.queue.on_reply(ErrorReply())
    recorder.queue.on_reply(ErrorReply())
    assert await kind_of(reply) == "reply"
    assert recorder.late == []


async def test_a_missing_script_is_sent_in_full_within_the_same_deadline(recorder):
    command = Command(("EVALSHA", "name", 1, "key"), "return 1")
    reply, quick = recorder.add(command=command), recorder.add(SHORT, command)
    recorder.queue.next_batch()
    recorder.queue.on_reply(NoScript())
    recorder.queue.on_reply(NoScript())
    assert recorder.queue.next_batch() == [("EVAL", "return 1", 1, "key")] * 2
    assert await kind_of(quick) == "timeout"
    recorder.queue.on_reply(1)
    assert await reply == 1


async def test_a_script_that_stays_missing_is_a_failure(recorder):
    reply = recorder.add(command=Command(("EVALSHA", "name", 0), "return 1"))
    recorder.queue.next_batch()
    recorder.queue.on_reply(NoScript())
    recorder.queue.next_batch()
    recorder.queue.on_reply(NoScript())
    assert await kind_of(reply) == "reply"


async def test_failures_in_a_row_open_the_breaker(recorder):
    replies = [recorder.add() for _ in range(FAILURES + 1)]
    recorder.queue.next_batch()
    recorder.queue.on_reply(ErrorReply())
    recorder.queue.on_reply("fine")
    for _ in range(FAILURES - 1):
        recorder.queue.on_reply(ErrorReply())
    assert recorder.given_up == []
    await asyncio.wait(replies)
    last = recorder.add()
    recorder.queue.next_batch()
    recorder.queue.on_reply(ErrorReply())
    assert await kind_of(last) == "reply"
    assert recorder.given_up == [("reply", "reply")]
    assert [reply.exception() is None for reply in replies] == [False, True, False, False]


async def test_fail_all_fails_every_call_at_once(recorder):
    sent, left = recorder.add(), recorder.add()
    recorder.queue.next_batch()
    queued = recorder.add()
    left.cancel()
    recorder.queue.fail_all("connection")
    assert [await kind_of(sent), await kind_of(queued)] == ["connection", "connection"]
    assert recorder.failed == ["connection", "connection"]
    assert len(recorder.queue) == 0
    assert recorder.queue.next_batch() == []


async def test_a_reply_without_a_command_is_an_error(recorder):
    with pytest.raises(StoreError, match="reply"):
        recorder.queue.on_reply("what")


async def test_the_queue_is_bounded(recorder, monkeypatch):
    monkeypatch.setattr(pipeline_module, "MAX_PENDING", 2)
    kept = [recorder.add(), recorder.add()]
    with pytest.raises(StoreError, match="overflow"):
        recorder.add()
    for reply in kept:
        reply.cancel()


async def test_without_a_timeout_nothing_is_sent(recorder):
    with pytest.raises(StoreError, match="timeout"):
        recorder.add(0.0)
    assert recorder.queue.next_batch() == []

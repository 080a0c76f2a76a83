"""Commands on their way: answered in order, never waited for too long, and late answers known for what they are."""

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
    """RequestQueue, and what it tells."""

    def __init__(self):
        self.failed, self.given_up, self.late = [], [], []
        self.queue = RequestQueue(Breaker(), self.failed.append, self.given_up.append)

    def add(self, within=LONG, command=PING):
        return self.queue.add(command, within, self.late.append)


@pytest.fixture
def recorder():
    return Recorder()


async def kind_of(answer):
    with pytest.raises(StoreError) as failure:
        await answer
    return failure.value.kind


async def test_answers_come_in_the_order_of_the_questions(recorder):
    first, second = recorder.add(), recorder.add(command=Command(("GET", "a")))
    assert recorder.queue.next_batch() == [("PING",), ("GET", "a")]
    assert recorder.queue.next_batch() == []
    third = recorder.add()
    assert recorder.queue.next_batch() == [("PING",)]
    for answer in (1, 2, 3):
        recorder.queue.on_reply(answer)
    assert [await first, await second, await third] == [1, 2, 3]
    assert len(recorder.queue) == 0
    assert recorder.queue.replied_at <= monotonic()


async def test_who_sends_is_woken(recorder):
    assert not recorder.queue.wakeup.is_set()
    recorder.add().cancel()
    assert recorder.queue.wakeup.is_set()
    recorder.queue.next_batch()
    assert not recorder.queue.wakeup.is_set()


async def test_an_answer_that_does_not_come_is_a_timeout(recorder):
    began = monotonic()
    answer = recorder.add(SHORT)
    recorder.queue.next_batch()
    assert await kind_of(answer) == "timeout"
    assert monotonic() - began >= SHORT / 2
    assert recorder.failed == ["timeout"]


async def test_the_time_begins_when_it_is_sent(recorder):
    answer = recorder.add(SHORT)
    await time_passes(2 * SHORT)
    assert not answer.done()
    recorder.queue.next_batch()
    assert await kind_of(answer) == "timeout"


async def test_while_the_store_takes_no_bytes_the_time_begins_at_once(recorder):
    recorder.queue.is_blocked = True
    assert await kind_of(recorder.add(SHORT)) == "timeout"
    assert recorder.queue.next_batch() == []


async def test_an_answer_that_was_there_in_time_counts_though_the_loop_was_busy(recorder):
    """As it comes about: the socket is read, who reads is to be woken, and the deadline passes before that."""
    answer = recorder.add(SHORT)
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
    assert await answer == "in time"
    assert recorder.failed == []
    here.close()
    there.close()


async def test_a_late_answer_is_handed_on_and_belongs_to_nobody_else(recorder):
    late, following = recorder.add(SHORT), recorder.add()
    recorder.queue.next_batch()
    assert await kind_of(late) == "timeout"
    recorder.queue.on_reply("late")
    recorder.queue.on_reply("right")
    assert recorder.late == ["late"]
    assert await following == "right"


async def test_who_has_left_before_it_was_sent_costs_nothing(recorder):
    recorder.add().cancel()
    assert recorder.queue.next_batch() == []


async def test_who_has_left_afterwards_gets_a_late_answer(recorder):
    answer = recorder.add()
    recorder.queue.next_batch()
    answer.cancel()
    recorder.queue.on_reply("done")
    assert recorder.late == ["done"]


async def test_an_error_of_the_server_is_a_failure_and_never_late(recorder):
    answer, left = recorder.add(), recorder.add()
    recorder.queue.next_batch()
    left.cancel()
    recorder.queue.on_reply(ErrorReply())
    recorder.queue.on_reply(ErrorReply())
    assert await kind_of(answer) == "reply"
    assert recorder.late == []


async def test_a_forgotten_script_is_sent_in_full_within_the_same_time(recorder):
    command = Command(("EVALSHA", "name", 1, "key"), "return 1")
    answer, quick = recorder.add(command=command), recorder.add(SHORT, command)
    recorder.queue.next_batch()
    recorder.queue.on_reply(NoScript())
    recorder.queue.on_reply(NoScript())
    assert recorder.queue.next_batch() == [("EVAL", "return 1", 1, "key")] * 2
    assert await kind_of(quick) == "timeout"
    recorder.queue.on_reply(1)
    assert await answer == 1


async def test_a_script_that_stays_unknown_is_a_failure(recorder):
    answer = recorder.add(command=Command(("EVALSHA", "name", 0), "return 1"))
    recorder.queue.next_batch()
    recorder.queue.on_reply(NoScript())
    recorder.queue.next_batch()
    recorder.queue.on_reply(NoScript())
    assert await kind_of(answer) == "reply"


async def test_failures_in_a_row_give_the_store_up(recorder):
    answers = [recorder.add() for _ in range(FAILURES + 1)]
    recorder.queue.next_batch()
    recorder.queue.on_reply(ErrorReply())
    recorder.queue.on_reply("fine")
    for _ in range(FAILURES - 1):
        recorder.queue.on_reply(ErrorReply())
    assert recorder.given_up == []
    await asyncio.wait(answers)
    last = recorder.add()
    recorder.queue.next_batch()
    recorder.queue.on_reply(ErrorReply())
    assert await kind_of(last) == "reply"
    assert recorder.given_up == ["reply"]
    assert [answer.exception() is None for answer in answers] == [False, True, False, False]


async def test_when_all_is_lost_everybody_is_told_at_once(recorder):
    sent, left = recorder.add(), recorder.add()
    recorder.queue.next_batch()
    queued = recorder.add()
    left.cancel()
    recorder.queue.fail_all("connection")
    assert [await kind_of(sent), await kind_of(queued)] == ["connection", "connection"]
    assert recorder.failed == ["connection", "connection"]
    assert len(recorder.queue) == 0
    assert recorder.queue.next_batch() == []


async def test_an_answer_to_nothing_is_an_error(recorder):
    with pytest.raises(StoreError, match="reply"):
        recorder.queue.on_reply("what")


async def test_there_is_a_most(recorder, monkeypatch):
    monkeypatch.setattr(pipeline_module, "MAX_PENDING", 2)
    kept = [recorder.add(), recorder.add()]
    with pytest.raises(StoreError, match="overflow"):
        recorder.add()
    for answer in kept:
        answer.cancel()


async def test_without_time_nothing_is_sent(recorder):
    with pytest.raises(StoreError, match="timeout"):
        recorder.add(0.0)
    assert recorder.queue.next_batch() == []

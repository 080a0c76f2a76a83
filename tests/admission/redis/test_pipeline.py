"""Commands on their way: answered in order, never waited for too long, and late answers known for what they are."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic

import pytest

from gateway.admission.redis import pipeline as traffic_module
from gateway.admission.redis.commands import PING, Command
from gateway.admission.redis.pipeline import FAILURES, Breaker, RequestQueue
from gateway.admission.store import ErrorReply, NoScript, StoreError
from tests.harness.clock import time_passes

LONG, SHORT = 60.0, 0.005


class Road:
    """RequestQueue, and what it tells."""

    def __init__(self):
        self.failed, self.given_up, self.late = [], [], []
        self.traffic = RequestQueue(Breaker(), self.failed.append, self.given_up.append)

    def add(self, within=LONG, command=PING):
        return self.traffic.add(command, within, self.late.append)


@pytest.fixture
def road():
    return Road()


async def kind_of(answer):
    with pytest.raises(StoreError) as failure:
        await answer
    return failure.value.kind


async def test_answers_come_in_the_order_of_the_questions(road):
    first, second = road.add(), road.add(command=Command(("GET", "a")))
    assert road.traffic.sending() == [("PING",), ("GET", "a")]
    assert road.traffic.sending() == []
    third = road.add()
    assert road.traffic.sending() == [("PING",)]
    for answer in (1, 2, 3):
        road.traffic.take(answer)
    assert [await first, await second, await third] == [1, 2, 3]
    assert len(road.traffic) == 0
    assert road.traffic.answered_at <= monotonic()


async def test_who_sends_is_woken(road):
    assert not road.traffic.something.is_set()
    road.add().cancel()
    assert road.traffic.something.is_set()
    road.traffic.sending()
    assert not road.traffic.something.is_set()


async def test_an_answer_that_does_not_come_is_a_timeout(road):
    began = monotonic()
    answer = road.add(SHORT)
    road.traffic.sending()
    assert await kind_of(answer) == "timeout"
    assert monotonic() - began >= SHORT / 2
    assert road.failed == ["timeout"]


async def test_the_time_begins_when_it_is_sent(road):
    answer = road.add(SHORT)
    await time_passes(2 * SHORT)
    assert not answer.done()
    road.traffic.sending()
    assert await kind_of(answer) == "timeout"


async def test_while_the_store_takes_no_bytes_the_time_begins_at_once(road):
    road.traffic.is_stuck = True
    assert await kind_of(road.add(SHORT)) == "timeout"
    assert road.traffic.sending() == []


async def test_an_answer_that_was_there_in_time_counts_though_the_loop_was_busy(road):
    """As it comes about: the socket is read, who reads is to be woken, and the deadline passes before that."""
    answer = road.add(SHORT)
    road.traffic.sending()
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()

    def read():
        loop.remove_reader(here)
        until = monotonic() + 4 * SHORT
        while monotonic() < until:
            pass
        loop.call_soon(road.traffic.take, "in time")

    loop.add_reader(here, read)
    there.send(b"x")
    assert await answer == "in time"
    assert road.failed == []
    here.close()
    there.close()


async def test_a_late_answer_is_handed_on_and_belongs_to_nobody_else(road):
    late, following = road.add(SHORT), road.add()
    road.traffic.sending()
    assert await kind_of(late) == "timeout"
    road.traffic.take("late")
    road.traffic.take("right")
    assert road.late == ["late"]
    assert await following == "right"


async def test_who_has_left_before_it_was_sent_costs_nothing(road):
    road.add().cancel()
    assert road.traffic.sending() == []


async def test_who_has_left_afterwards_gets_a_late_answer(road):
    answer = road.add()
    road.traffic.sending()
    answer.cancel()
    road.traffic.take("done")
    assert road.late == ["done"]


async def test_an_error_of_the_server_is_a_failure_and_never_late(road):
    answer, left = road.add(), road.add()
    road.traffic.sending()
    left.cancel()
    road.traffic.take(ErrorReply())
    road.traffic.take(ErrorReply())
    assert await kind_of(answer) == "reply"
    assert road.late == []


async def test_a_forgotten_script_is_sent_in_full_within_the_same_time(road):
    command = Command(("EVALSHA", "name", 1, "key"), "return 1")
    answer, quick = road.add(command=command), road.add(SHORT, command)
    road.traffic.sending()
    road.traffic.take(NoScript())
    road.traffic.take(NoScript())
    assert road.traffic.sending() == [("EVAL", "return 1", 1, "key")] * 2
    assert await kind_of(quick) == "timeout"
    road.traffic.take(1)
    assert await answer == 1


async def test_a_script_that_stays_unknown_is_a_failure(road):
    answer = road.add(command=Command(("EVALSHA", "name", 0), "return 1"))
    road.traffic.sending()
    road.traffic.take(NoScript())
    road.traffic.sending()
    road.traffic.take(NoScript())
    assert await kind_of(answer) == "reply"


async def test_failures_in_a_row_give_the_store_up(road):
    answers = [road.add() for _ in range(FAILURES + 1)]
    road.traffic.sending()
    road.traffic.take(ErrorReply())
    road.traffic.take("fine")
    for _ in range(FAILURES - 1):
        road.traffic.take(ErrorReply())
    assert road.given_up == []
    await asyncio.wait(answers)
    last = road.add()
    road.traffic.sending()
    road.traffic.take(ErrorReply())
    assert await kind_of(last) == "reply"
    assert road.given_up == ["reply"]
    assert [answer.exception() is None for answer in answers] == [False, True, False, False]


async def test_when_all_is_lost_everybody_is_told_at_once(road):
    sent, left = road.add(), road.add()
    road.traffic.sending()
    queued = road.add()
    left.cancel()
    road.traffic.drop("connection")
    assert [await kind_of(sent), await kind_of(queued)] == ["connection", "connection"]
    assert road.failed == ["connection", "connection"]
    assert len(road.traffic) == 0
    assert road.traffic.sending() == []


async def test_an_answer_to_nothing_is_an_error(road):
    with pytest.raises(StoreError, match="reply"):
        road.traffic.take("what")


async def test_there_is_a_most(road, monkeypatch):
    monkeypatch.setattr(traffic_module, "MOST_CALLS", 2)
    kept = [road.add(), road.add()]
    with pytest.raises(StoreError, match="overflow"):
        road.add()
    for answer in kept:
        answer.cancel()


async def test_without_time_nothing_is_sent(road):
    with pytest.raises(StoreError, match="timeout"):
        road.add(0.0)
    assert road.traffic.sending() == []

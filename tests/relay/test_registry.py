"""When the open calls are looked at."""

from __future__ import annotations

import math

import pytest

from gateway.relay.registry import SOON, InFlight

TICK = 0.25
START = 1000.0


class Looked:
    """A call that notes when it is looked at, and asks for the next look after `every` seconds."""

    is_run = False

    def __init__(self, in_flight, every=math.inf, asks_again=False):
        self.at = []
        self._in_flight, self._every, self._asks_again = in_flight, every, asks_again

    def tick(self, now):
        self.at.append(now - START)
        if self._asks_again:
            self._in_flight.look_soon(self)
        return now + self._every


class Failing(Looked):
    def tick(self, now):
        super().tick(now)
        raise ZeroDivisionError


def pass_time(in_flight, ticks, first=0):
    for number in range(first, first + ticks):
        in_flight.tick(START + TICK * number)


@pytest.mark.parametrize(
    ("every", "at"),
    [
        (0.0, [0.0, 0.25, 0.5, 0.75]),
        (1.0, [0.0, 1.0, 2.0, 3.0]),
        (SOON, [0.0, 4.0, 8.0, 12.0]),
        (SOON + 0.1, [0.0, 4.25, 8.5, 12.75]),
        (20.0, [0.0, 20.0, 40.0, 60.0]),
        (math.inf, [0.0]),
    ],
)
def test_a_call_is_looked_at_with_the_first_tick_at_which_it_is_due(every, at):
    in_flight = InFlight()
    call = Looked(in_flight, every)
    in_flight.add(call)
    pass_time(in_flight, 300)
    assert call.at[:4] == at


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_a_call_that_asks_for_it_is_looked_at_with_the_next_tick(after):
    in_flight = InFlight()
    call = Looked(in_flight)
    in_flight.add(call)
    pass_time(in_flight, after + 1)
    in_flight.look_soon(call)
    pass_time(in_flight, 3, after + 1)
    assert call.at == [0.0, TICK * (after + 1)]


def test_also_one_that_asks_while_it_is_looked_at():
    in_flight = InFlight()
    call = Looked(in_flight, 60.0, asks_again=True)
    in_flight.add(call)
    pass_time(in_flight, 3)
    assert call.at == [0.0, 0.25, 0.5]


def test_a_call_that_fails_is_looked_at_again_and_keeps_no_other_from_it():
    in_flight = InFlight()
    failing, other = Failing(in_flight), Looked(in_flight, every=0.0)
    in_flight.add(failing)
    in_flight.add(other)
    for number in range(4):
        with pytest.raises(ZeroDivisionError):
            in_flight.tick(START + TICK * number)
    assert failing.at == [0.0, 0.25, 0.5, 0.75]
    assert other.at == [0.25, 0.5, 0.75]


def test_a_call_that_has_ended_is_not_looked_at_or_kept():
    in_flight = InFlight()
    call, other = Looked(in_flight), Looked(in_flight)
    in_flight.add(call)
    in_flight.add(other)
    pass_time(in_flight, 1)
    in_flight.look_soon(call)
    in_flight.discard(call)
    in_flight.look_soon(call)
    pass_time(in_flight, 40, 1)
    assert (call.at, len(in_flight)) == ([0.0], 1)

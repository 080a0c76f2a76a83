"""What an exchange was told to undo and to say is all done, whatever one of them raises."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.exchange import Exchange, Timings


@pytest.fixture
def exchange():
    return Exchange(request=SimpleNamespace(), request_id="r", client="", timings=Timings(received=0.0))


def test_everything_is_undone_backwards_and_said_in_order_though_one_raises(exchange):
    done = []
    exchange.on_response_done(lambda: done.append("undone first told"))
    exchange.on_response_done(lambda: 1 / 0)
    exchange.on_response_done(lambda: done.append("undone last told"))
    exchange.on_complete(lambda _: done.append("counted"))
    exchange.on_complete(lambda _: done.append("logged"))
    with pytest.raises(ZeroDivisionError):
        exchange.leave()
    assert done == ["undone last told", "undone first told", "counted", "logged"]


def test_what_one_cannot_say_keeps_no_other_silent(exchange):
    said = []
    exchange.on_complete(lambda _: 1 / 0)
    exchange.on_complete(lambda _: said.append("logged"))
    with pytest.raises(ZeroDivisionError):
        exchange.leave()
    assert said == ["logged"]


def test_a_run_that_is_open_has_the_last_word(exchange):
    said = []
    exchange.is_run_open = True
    exchange.on_complete(lambda _: said.append("logged"))
    exchange.leave()
    assert said == []
    exchange.settled()
    assert said == ["logged"]

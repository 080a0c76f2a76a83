from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flowise.event_filter import EventFilter
from gateway.flowise.events import event_name
from gateway.http import sse
from gateway.http.sse import LARGE_EVENT, EventBoundaries
from tests.harness import captured_streams as streams

TOKEN = b'message:\ndata:{"event":"token","data":"tok0 "}\n\n'
TRACE = b'message:\ndata:{"event":"agentFlowExecutedData","data":[]}\n\n'
NAMES = frozenset({"agentFlowExecutedData", "token", "metadata"})
CAPTURED = streams.captured()
PARTS = 4  # of the single cuts of a capture, so that no test is long


def passed(pieces, names=NAMES):
    edges, withholding = EventBoundaries(), EventFilter(names)
    sent = b"".join(withholding.feed(edges.feed(piece)) for piece in pieces)
    return sent + withholding.feed(edges.rest())


def expected(body, names=NAMES):
    return b"".join(
        lead if event and event_name(event) in names else lead + event for lead, event in streams.events(body)
    )


@pytest.mark.parametrize("name", CAPTURED)
def test_a_capture_loses_the_withheld_events_and_nothing_else_whatever_the_cut(name):
    body = CAPTURED[name]
    kept = expected(body)
    assert b'"event":"token"' not in kept
    assert kept.count(b'{"event":') == body.count(b'{"event":') - sum(
        body.count(b'{"event":"%b"' % word.encode()) for word in NAMES
    )
    for pieces in [streams.each_byte(body), *streams.random_cuts(body)]:
        assert passed(pieces) == kept


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", CAPTURED)
def test_a_capture_cut_in_two_loses_the_withheld_events_and_nothing_else(name, part):
    body = CAPTURED[name]
    kept = expected(body)
    for pieces in islice(streams.single_cuts(body, most=2000), part, None, PARTS):
        assert passed(pieces) == kept


@given(streams.texts, st.lists(st.integers(0, 10**6), max_size=8))
def test_any_stream_loses_only_the_withheld_events(body, places):
    assert passed(streams.cut(body, places)) == expected(body)


def test_events_in_pieces_are_withheld_just_the_same(monkeypatch):
    monkeypatch.setattr(sse, "LARGE_EVENT", 4200)

    @given(streams.texts, st.lists(st.integers(0, 10**6), max_size=8))
    def check(body, places):
        assert passed(streams.cut(body, places)) == expected(body)

    check()


def test_one_event_that_passes_is_not_copied():
    assert EventFilter(frozenset({"end"})).feed(TOKEN) is TOKEN
    assert EventFilter(frozenset({"end"})).feed(b"") == b""


def test_a_large_withheld_event_is_dropped_piece_by_piece():
    withholding = EventFilter(NAMES)
    first = TRACE[:-3] + b"x" * LARGE_EVENT
    assert withholding.feed(b":c\n\n" + first) == b":c\n\n"
    assert withholding.is_dropping
    assert withholding.feed(b"y" * 65536) == b""
    assert withholding.feed(b"]}\n") == b""
    assert withholding.is_dropping
    assert withholding.feed(b"\n:d\n\n") == b":d\n\n"
    assert not withholding.is_dropping


def test_a_large_event_that_passes_is_not_searched_for_names():
    withholding = EventFilter(NAMES)
    pieces = [b"data:" + b"x" * LARGE_EVENT, b'data:{"event":"token"}', b"\n\n", TOKEN, b":c\n\n"]
    assert [withholding.feed(piece) for piece in pieces] == [*pieces[:3], b"", b":c\n\n"]


def test_it_is_not_dropping_between_events():
    withholding = EventFilter(NAMES)
    assert withholding.feed(TRACE) == b""
    assert not withholding.is_dropping


@pytest.mark.parametrize(
    "block", [b":heartbeat\n\n", b"data:[DONE]\n\n", b"data:\n\n", b"\n\n\n", b"id:5\n\n"]
)
def test_comments_and_nameless_events_pass(block):
    assert EventFilter(NAMES).feed(TRACE + block + TRACE) == block


def test_a_custom_name_is_one_that_flowise_does_not_define():
    data = b"event: mine\ndata: x\n\n" + TOKEN
    assert passed([data], frozenset({"custom:mine"})) == TOKEN
    assert passed([data], frozenset({"custom:token", "custom:other"})) == data


def test_the_line_feed_of_a_split_line_end_goes_with_its_event():
    for name, rest in ((b"token", b""), (b"start", b"event:start\r\r\n")):
        withholding = EventFilter(NAMES)
        head = withholding.feed(b"event:%b\r\r" % name)
        assert head + withholding.feed(b"\n") == rest

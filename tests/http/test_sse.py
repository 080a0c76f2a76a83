from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import sse
from gateway.http.sse import LARGE_EVENT, EventBoundaries
from tests.harness import captured_streams as streams

TOKEN = b'message:\ndata:{"event":"token","data":"tok0 "}\n\n'
CAPTURED = streams.captured()


def feed_all(pieces):
    """Feeds the pieces, checks every guarantee after each, and returns the output."""
    stream, seen, sent = EventBoundaries(), b"", b""
    ends = streams.boundaries(b"".join(pieces))
    for piece in pieces:
        seen += piece
        sent += stream.feed(piece)
        assert seen.startswith(sent)
        assert stream.held == len(seen) - len(sent)
        assert not sent or len(sent) in ends or stream.is_inside_event
        last = max((end for end in ends if end <= len(seen)), default=0)
        assert not seen[len(sent) : last].strip(b"\r\n"), "a finished event waits"
    return sent + stream.rest()


@pytest.mark.parametrize("name", CAPTURED)
def test_a_capture_leaves_as_it_came_whatever_the_cut(name):
    body = CAPTURED[name]
    for pieces in [streams.each_byte(body)[:5000], *streams.random_cuts(body)]:
        assert feed_all(pieces) == b"".join(pieces)


@pytest.mark.parametrize("name", CAPTURED)
def test_a_capture_cut_at_any_single_place_leaves_whole_and_at_once(name):
    body, ends = CAPTURED[name], sorted(streams.boundaries(CAPTURED[name]))
    for first, second in streams.single_cuts(body):
        stream = EventBoundaries()
        sent = stream.feed(first)
        assert len(sent) == max((end for end in ends if end <= len(first)), default=0)
        assert sent + stream.feed(second) + stream.rest() == body


@given(st.lists(st.text("\r\n:ab", max_size=6).map(str.encode), max_size=12))
def test_any_mixture_of_line_ends_is_cut_only_at_boundaries(pieces):
    assert feed_all(pieces) == b"".join(pieces)


@given(streams.texts, st.lists(st.integers(0, 10**6), max_size=8))
def test_any_stream_is_cut_only_at_boundaries(body, places):
    assert feed_all(streams.cut(body, places)) == body


def test_large_events_in_pieces_are_cut_only_where_it_says_so(monkeypatch):
    monkeypatch.setattr(sse, "LARGE_EVENT", 8)

    @given(st.lists(st.text("\r\n:ab", max_size=24).map(str.encode), max_size=12))
    def check(pieces):
        assert feed_all(pieces) == b"".join(pieces)

    check()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_whole_events_are_not_copied(end):
    stream = EventBoundaries()
    for data in (b"data:x" + end, (b"data:x" + end) * 3):
        assert stream.feed(data) is data
        assert stream.held == 0
        assert not stream.is_inside_event


@pytest.mark.parametrize("end", [b"\n\r\n", b"\r\r\n", b"\r\n\n", b"\n\r"])
def test_a_line_feed_behind_the_last_carriage_return_does_not_wait(end):
    stream = EventBoundaries()
    assert stream.feed(b"data:x" + end) == b"data:x" + end
    assert stream.held == 0


def test_a_tail_waits_and_its_event_leaves_with_the_boundary():
    stream = EventBoundaries()
    assert stream.feed(TOKEN + TOKEN[:10]) == TOKEN
    assert stream.held == 10
    assert not stream.is_inside_event
    assert stream.feed(TOKEN[10:-1]) == b""
    assert stream.feed(TOKEN[-1:] + b"mess") == TOKEN
    assert stream.rest() == b"mess"
    assert stream.held == 0


def test_a_carriage_return_and_its_line_feed_in_two_reads_are_one_line_end():
    stream = EventBoundaries()
    assert stream.feed(b"data:x\r") == b""
    assert stream.feed(b"\ndata:y\r\n\r") == b"data:x\r\ndata:y\r\n\r"
    assert not stream.is_inside_event
    assert stream.feed(b"\n") + stream.feed(b"data:z\n\n") == b"\ndata:z\n\n"


def test_a_large_event_passes_in_pieces_and_nothing_may_be_written_inside():
    stream, line = EventBoundaries(), b"x" * (LARGE_EVENT // 2)
    assert stream.feed(b"data:" + line) == b""
    assert not stream.is_inside_event
    assert stream.feed(line) == b"data:" + line + line
    assert stream.is_inside_event
    assert stream.feed(line) is line
    assert stream.feed(b"\n") == b"\n"
    assert stream.is_inside_event
    assert stream.feed(b"\n" + TOKEN[:5]) == b"\n"
    assert not stream.is_inside_event
    assert stream.held == 5


def test_an_event_of_exactly_the_limit_is_still_held():
    stream = EventBoundaries()
    assert stream.feed(b"x" * LARGE_EVENT) == b""
    assert stream.feed(b"x") == b"x" * (LARGE_EVENT + 1)


def test_a_line_of_five_megabytes_passes_and_holds_at_most_the_limit():
    body = b":c\n\ndata:" + b"x" * 5_000_000 + b"\n\n" + TOKEN
    stream, sent = EventBoundaries(), []
    for start in range(0, len(body), 65536):
        sent.append(stream.feed(body[start : start + 65536]))
        assert stream.held <= LARGE_EVENT
    assert b"".join(sent) == body


def test_the_rest_of_a_stream_without_last_boundary_is_inside_an_event():
    stream = EventBoundaries()
    assert stream.feed(b"data:x") == b""
    assert stream.rest() == b"data:x"
    assert stream.is_inside_event


def test_the_forward_search_finds_the_same_boundaries():
    @given(streams.texts)
    def check(body):
        found, at = [], 0
        for lead, event in streams.events(body):
            at += len(lead + event)
            if event and at in streams.boundaries(body):
                found.append(at)
        assert set(found) <= set(sse.boundaries(body)) <= streams.boundaries(body)

    check()

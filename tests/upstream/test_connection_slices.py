"""A large read is handled in slices, one in each iteration of the loop."""

from __future__ import annotations

import asyncio

import pytest

from gateway.upstream import large_reads
from gateway.upstream.connection import Connection
from gateway.upstream.large_reads import AT_ONCE, SHARE, SLICE, TURN, LargeReads
from gateway.upstream.response_parser import BodyEnd
from tests.harness.clock import until
from tests.harness.raw_upstream import RawUpstream
from tests.harness.scripted_pool import GET, RecordingSink, exchange

OK = b"HTTP/1.1 200 OK\r\n"
BODY = bytes(range(256)) * (10 * SLICE // 256)


class Transport:
    """Records whether it is read."""

    def __init__(self):
        self.is_read, self.is_closed = True, False

    def set_write_buffer_limits(self, high):
        pass

    def write(self, data):
        pass

    def is_closing(self):
        return self.is_closed

    def pause_reading(self):
        self.is_read = False

    def resume_reading(self):
        self.is_read = True

    def abort(self):
        self.is_closed = True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Pieces(RecordingSink):
    """Records the size of each piece too."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def on_body(self, data):
        super().on_body(data)
        self.sizes.append(len(data))

    def on_end(self, end, last=b""):
        super().on_end(end, last)
        self.sizes.append(len(last))


def begun(sink=None):
    """A connection that has just read a head and a body of ten slices in one read."""
    transport, sink = Transport(), sink or Pieces()
    connection = Connection(lambda _: None, lambda _: None, LargeReads())
    connection.connection_made(transport)
    connection.start("GET", GET, sink)
    connection.finish_request()
    connection.data_received(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
    return connection, transport, sink


class Slow(Pieces):
    """Takes this long for each piece."""

    def __init__(self, clock, seconds):
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def on_body(self, data):
        super().on_body(data)
        self._clock.now += self._seconds


@pytest.mark.parametrize("costly", [1, 2, 5])
async def test_each_iteration_handles_a_slice_or_as_many_as_are_cheap_and_nothing_more_is_read(
    costly, monkeypatch
):
    clock = Clock()
    monkeypatch.setattr(large_reads, "monotonic", clock)
    _, transport, sink = begun(Slow(clock, 1.01 * SHARE / costly))
    while sink.end is None:
        before = len(sink.sizes)
        assert not transport.is_read
        await asyncio.sleep(0)
        assert len(sink.sizes) == before + costly
    assert len(sink.sizes) == 11
    assert (sink.body, sink.end) == (BODY, BodyEnd.WHOLE)
    assert max(sink.sizes) <= SLICE
    assert transport.is_read


async def test_a_sink_that_pauses_gets_no_slice_until_it_resumes():
    connection, transport, sink = begun()
    connection.pause_reading()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(sink.sizes) == 1
    connection.resume_reading()
    connection.pause_reading()
    connection.resume_reading()
    await sink.over.wait()
    assert (sink.body, sink.end) == (BODY, BodyEnd.WHOLE)
    assert transport.is_read


async def test_a_connection_that_is_closed_drops_the_rest():
    connection, transport, sink = begun()
    connection.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(sink.sizes) == 1
    assert transport.is_closed


@pytest.mark.parametrize("missing", [0, 1])
async def test_a_connection_that_is_lost_ends_behind_what_was_read(missing):
    transport, sink = Transport(), Pieces()
    connection = Connection(lambda _: None, lambda _: None, LargeReads())
    connection.connection_made(transport)
    connection.start("GET", GET, sink)
    connection.data_received(OK + b"Content-Length: %d\r\n\r\n" % (len(BODY) + missing) + BODY)
    connection.connection_lost(None)
    assert sink.end is None
    await sink.over.wait()
    assert sink.body == BODY
    assert sink.end is (BodyEnd.CUT if missing else BodyEnd.WHOLE)


async def test_bytes_behind_the_response_in_a_later_slice_close_the_connection(pool_to):
    async def script(peer, _):
        peer.send(OK + b"Content-Length: 2\r\n\r\nab" + b"x" * 10 * SLICE)

    async with RawUpstream(script) as upstream:
        connection, sink = await exchange(pool_to(upstream.url))
        assert (sink.body, sink.end) == (b"ab", BodyEnd.WHOLE)
        assert connection.is_closed


@pytest.mark.parametrize("ending", [b"", b"chunked"])
async def test_the_body_is_whole_whatever_its_framing(ending, pool_to):
    async def script(peer, _):
        peer.send(OK + (b"Transfer-Encoding: chunked\r\n\r\n" if ending else b"\r\n"))
        for at in range(0, len(BODY), 100_000):
            piece = BODY[at : at + 100_000]
            peer.chunk(piece) if ending else peer.send(piece)
        peer.chunk(b"") if ending else peer.fin()

    async with RawUpstream(script) as upstream:
        _, sink = await exchange(pool_to(upstream.url))
    assert sink.body == BODY
    assert sink.end is (BodyEnd.WHOLE if ending else BodyEnd.CLOSED)


class Flood:
    """A reply that never ends; each slice takes this long."""

    def __init__(self, reads, clock, seconds):
        self._reads, self._clock, self._seconds = reads, clock, seconds
        self.turns = 0

    def take_turn(self):
        self.turns += 1
        self._clock.now += self._seconds
        self._reads.add(self)


async def test_many_replies_share_the_time_of_an_iteration_and_take_turns(monkeypatch):
    clock, reads = Clock(), LargeReads()
    monkeypatch.setattr(large_reads, "monotonic", clock)
    floods = [Flood(reads, clock, 0.6 * TURN) for _ in range(10)]
    for flood in floods:
        reads.add(flood)
    for iteration in range(1, 11):
        await asyncio.sleep(0)
        assert sum(flood.turns for flood in floods) == 2 * iteration
    assert [flood.turns for flood in floods] == [2] * 10


async def test_reads_that_come_together_are_handled_up_to_a_bound_and_the_others_wait():
    reads = LargeReads()
    fit = AT_ONCE // SLICE
    assert [reads.has_room(SLICE) for _ in range(fit + 2)] == [True] * fit + [False] * 2
    await asyncio.sleep(0)
    assert reads.has_room(SLICE)


async def test_a_large_read_waits_behind_those_that_wait():
    reads = LargeReads()
    connections = []
    for _ in range(AT_ONCE // SLICE + 3):
        transport, sink = Transport(), Pieces()
        connection = Connection(lambda _: None, lambda _: None, reads)
        connection.connection_made(transport)
        connection.start("GET", GET, sink)
        connection.data_received(OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        connections.append((connection, sink))
    assert [len(sink.sizes) for _, sink in connections] == [1] + [0] * (AT_ONCE // SLICE + 2)
    for _, sink in connections:
        await sink.over.wait()
        assert (sink.body, sink.end) == (BODY, BodyEnd.WHOLE)


async def test_a_small_read_never_waits():
    reads = LargeReads()
    while reads.has_room(SLICE):
        pass
    transport, sink = Transport(), Pieces()
    connection = Connection(lambda _: None, lambda _: None, reads)
    connection.connection_made(transport)
    connection.start("GET", GET, sink)
    connection.data_received(OK + b"Content-Length: 9\r\n\r\n" + b"x" * 3)
    assert sink.body == b"xxx"


async def test_what_follows_a_reply_in_slices_that_wait_is_no_reply_to_the_next_request():
    idle, transport, sink = [], Transport(), Pieces()
    connection = Connection(idle.append, lambda _: None, LargeReads())
    connection.connection_made(transport)
    connection.start("GET", GET, sink)
    connection.finish_request()
    head = OK + b"Content-Length: %d\r\n\r\n"
    body = bytes(2 * SLICE - len(head % 10_000))  # the surplus has a slice of its own
    connection.data_received(head % len(body) + body + OK + b"Content-Length: 0\r\n\r\n")
    await until(lambda: sink.end)
    assert (sink.end, idle, transport.is_closed) == (BodyEnd.WHOLE, [], True)


async def test_a_bug_in_one_reply_does_not_stop_the_others():
    bugs, turns, reads = [], [], LargeReads()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))

    class Reply:
        def __init__(self, take_turn):
            self.take_turn = take_turn

    reads.add(Reply(lambda: 1 / 0))
    reads.add(Reply(lambda: turns.append("the other")))
    await until(lambda: turns)
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]

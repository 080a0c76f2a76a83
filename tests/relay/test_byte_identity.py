"""The client's body is the upstream's body, however the network cut it; the counts are those of the whole text."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from functools import partial

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.flowise.observer import StreamObserver
from tests.harness import bounds
from tests.harness import captured_streams as streams
from tests.harness.certificates import Authority
from tests.harness.frames import ASK, END, METADATA, PATH, START, WHOLE, event, only, settled, token
from tests.harness.gateway import running
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.upstream_reads import watched_reads

CAPTURED = streams.captured()
# Captures that differ, the short ones to be cut at every place, the others near line ends and here and there.
DISTINCT = sorted({body: name for name, body in CAPTURED.items()}.values())
SHORT = 1000
SMALL = [name for name in DISTINCT if len(CAPTURED[name]) < 6000]
LARGE = [name for name in DISTINCT if name not in SMALL]
MEGABYTE = 1024 * 1024
UNLIKELY = {
    "crlf": WHOLE.replace(b"\n", b"\r\n"),
    "cr": WHOLE.replace(b"\n", b"\r"),
    "mixed line ends": START.replace(b"\n", b"\r") + token("a").replace(b"\n", b"\r\n") + METADATA + END,
    "byte order mark": b"\xef\xbb\xbf" + WHOLE,
    "nul": token("a\x00b") + b"\x00\n\n" + METADATA + END,
    "comments first": b":heartbeat\n\n: hello\r\n\r\n\n\n" + WHOLE,
    "comment in an event": b":c\n" + WHOLE,
    "unknown events": event("somethingNew", "[1,2]") + b"event: own\ndata: x\n\n" + WHOLE,
    "message without colon": WHOLE.replace(b"message:", b"message"),
    "the documented form": b"event: start\ndata: \n\nevent: token\ndata: OneShot\n\nevent: metadata\ndata: {}\n\n"
    b"event: end\ndata: [DONE]\n\n",
    "no boundary at the end": WHOLE.removesuffix(b"\n"),
    "nothing": b"",
    "line separators inside": token("a\u2028b\u2029c\u0085d") + METADATA + END,
    "not utf-8": b"data: \xff\xfe\xc3\n\n" + WHOLE,
    "invalid json": b'message:\ndata:{"event":"token","data":"\n\n' + WHOLE,
}


def counts(body):
    observer = StreamObserver()
    observer.feed(body, 0.0)
    return observer.events


def reads_of(pieces):
    """The writes of a chunked response whose body arrives in these reads."""
    size = sum(map(len, pieces))
    first, *rest = pieces
    if not rest:
        first, rest = b"", [first]
    begin = STREAM_HEAD + (b"%x\r\n" % size if size else b"")
    return [begin + first, *rest[:-1], rest[-1] + (b"\r\n0\r\n\r\n" if size else b"0\r\n\r\n")]


def one_chunk_each(pieces):
    return [STREAM_HEAD, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece), b"0\r\n\r\n"]


# Of the small captures with the same kinds of events, the shortest one.
EACH_KIND = sorted(
    {
        frozenset(counts(CAPTURED[name])): name
        for name in sorted(SMALL, key=lambda name: -len(CAPTURED[name]))
    }.values()
)


class Relay:
    """A gateway between a client and an upstream that each have one connection for all predictions."""

    def __init__(self, reads):
        self._reads = reads
        self._sent = 0
        self.writes = []
        self.wire = None

    async def answer(self, peer, _):
        for write in self.writes:
            peer.send(write)
            self._sent += len(write)
            await self._reads.reach(self._sent)

    async def ask(self, writes):
        self.writes = writes
        self.wire.post(PATH, ASK)
        reply = await self.wire.reply()
        assert reply.is_whole
        return reply.body


@asynccontextmanager
async def relaying(reads, start, tls=None, **sections):
    """`tls`: of the client; `sections` have that of the gateway."""
    relay = Relay(reads)
    options = {} if tls is None else {"ssl": tls, "server_hostname": "localhost"}
    async with RawUpstream(relay.answer) as upstream, start(upstream.url, **sections) as gateway:
        async with await Wire.to(gateway.host, gateway.port, **options) as relay.wire:
            yield relay, gateway


async def identical(reads, start, body, all_writes, **options):
    sha, number = hashlib.sha256(body).hexdigest(), 0
    async with relaying(reads, start, **options) as (relay, gateway):
        for number, writes in enumerate(all_writes, 1):
            came = await relay.ask(writes)
            assert hashlib.sha256(came).hexdigest() == sha, (number, writes, came)
        await same_counts(gateway, body, number)


async def same_counts(gateway, body, number):
    expected = counts(body)
    lines = await settled(gateway, number)
    assert {line["events"] for line in lines} == {sum(expected.values())}
    assert {line["bytes_out"] for line in lines} == {len(body)}
    samples = await gateway.metrics()
    for name, count in expected.items():
        assert (
            samples[f'flowise_gateway_stream_events_total{{event="{name}",route="chat"}}'] == count * number
        )
    assert sum(value for name, value in samples.items() if "stream_events_total" in name) == number * sum(
        expected.values()
    )
    assert samples['flowise_gateway_bytes_total{direction="in",route="chat"}'] == len(body) * number


@pytest.mark.parametrize("name", EACH_KIND)
async def test_each_single_cut_of_a_capture(reads, start, name):
    body = CAPTURED[name]
    cuts = streams.single_cuts(body, SHORT)
    await identical(reads, start, body, map(reads_of, cuts))


@pytest.mark.parametrize("name", EACH_KIND)
async def test_a_capture_through_tls(reads, start, name, tmp_path):
    """Whole, in random pieces, and each byte alone."""
    authority, body = Authority(tmp_path), CAPTURED[name]
    cuts = [[body], *streams.random_cuts(body, 5)]
    writes = [*map(reads_of, cuts), *map(one_chunk_each, [*cuts, streams.each_byte(body)])]
    options = {"tls": authority.client(), "server": {"tls": authority.pair().settings}}
    await identical(reads, start, body, writes, **options)


@pytest.mark.chaos
@pytest.mark.timeout(60 * bounds.TEST)
@pytest.mark.parametrize("name", SMALL)
async def test_each_single_cut_of_every_small_capture(reads, start, name):
    body = CAPTURED[name]
    await identical(reads, start, body, map(reads_of, streams.single_cuts(body)))


@pytest.mark.parametrize("name", LARGE)
async def test_some_cuts_of_a_large_capture(reads, start, name):
    body = CAPTURED[name]
    cuts = [[body], *streams.random_cuts(body), *([body[:at], body[at:]] for at in range(1, len(body), 997))]
    await identical(reads, start, body, map(reads_of, cuts))


@pytest.mark.parametrize("name", SMALL)
async def test_each_byte_of_a_capture_alone(reads, start, name):
    body = CAPTURED[name]
    pieces = streams.each_byte(body)
    await identical(reads, start, body, [reads_of(pieces), one_chunk_each(pieces)])


@pytest.mark.parametrize("name", LARGE)
async def test_each_byte_of_a_large_capture_alone_as_a_chunk(reads, start, name):
    body = CAPTURED[name]
    chunks = one_chunk_each(streams.each_byte(body))
    some = [b"".join(chunks[at : at + 97]) for at in range(0, len(chunks), 97)]
    await identical(reads, start, body, [[b"".join(chunks)], some])


@pytest.mark.parametrize("name", CAPTURED)
async def test_random_cuts_of_a_capture(reads, start, name):
    body = CAPTURED[name]
    cuts = [*streams.random_cuts(body, 10)]
    await identical(reads, start, body, [*map(reads_of, cuts), *map(one_chunk_each, cuts)])


@pytest.mark.parametrize("name", UNLIKELY)
async def test_each_single_cut_of_an_unlikely_stream(reads, start, name):
    body = UNLIKELY[name]
    cuts = [[body], streams.each_byte(body) or [b""], *streams.single_cuts(body)]
    await identical(reads, start, body, map(reads_of, cuts))


@pytest.mark.parametrize("name", ["token", "agentFlowExecutedData", "somethingNew"])
@pytest.mark.parametrize("step", [65_521, 5 * MEGABYTE])
async def test_a_line_of_five_megabytes(reads, start, name, step):
    body = START + event(name, '"' + "x" * 5 * MEGABYTE + '"') + METADATA + END
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    await identical(reads, start, body, [one_chunk_each(pieces), reads_of([body[:-3], body[-3:]])])


async def test_a_comment_of_five_megabytes(reads, start):
    body = START + b":" + b"x" * 5 * MEGABYTE + b"\n\n" + METADATA + END
    await identical(reads, start, body, [reads_of([body])])


@given(
    texts=st.lists(
        st.tuples(streams.texts, st.lists(st.integers(0, 10**6), max_size=9)), min_size=20, max_size=20
    )
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_stream_in_any_cut(texts, tmp_path_factory):
    """Each example starts a gateway, so it holds twenty streams."""
    uvloop.run(_any_streams(texts, tmp_path_factory.mktemp("any")))


async def _any_streams(texts, folder):
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with relaying(watched_reads(monkeypatch), partial(running, folder)) as (relay, gateway):
            for number, (body, places) in enumerate(texts, 1):
                came = await relay.ask(reads_of(streams.cut(body, places)))
                assert came == body
                line = (await gateway.lines.until("request", number))[-1]
                assert line["events"] == sum(counts(body).values())
            await settled(gateway, len(texts))


async def test_a_close_delimited_stream_with_an_end_is_identical(reads, start):
    """Each single cut; a body without boundary at its end stays without."""
    head = STREAM_HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"").replace(b"keep-alive", b"close")

    for body in (WHOLE, WHOLE + b":bye"):
        relay = Relay(reads)

        async def script(peer, seen, relay=relay):
            await relay.answer(peer, seen)
            peer.fin()

        async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
            async with await Wire.to(gateway.host, gateway.port) as relay.wire:
                for place in range(1, len(body)):
                    assert await relay.ask([head + body[:place], body[place:]]) == body
                lines = await settled(gateway, len(body) - 1)
                assert {line["outcome"] for line in lines} == {"ok"}
        reads.total = 0


async def test_a_stream_with_content_length_is_identical_and_chunked(reads, start):
    head = STREAM_HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(WHOLE))
    async with relaying(reads, start) as (relay, gateway):
        relay.writes = [head + WHOLE[:7], WHOLE[7:]]
        relay.wire.post(PATH, ASK)
        reply = await relay.wire.reply()
        assert (await only(gateway))["outcome"] == "ok"
    assert reply.fields["transfer-encoding"] == "chunked"
    assert "content-length" not in reply.fields
    assert reply.body == WHOLE

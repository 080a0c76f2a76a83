"""An event that came as one whole chunk passes with its framing; any other read is parsed. Nobody sees the difference."""

from __future__ import annotations

import pytest

from gateway.upstream.large_reads import SMALL
from gateway.upstream.response_parser import ResponseParser
from tests.harness.frames import ASK, END, METADATA, PATH, START, only, settled, token
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.upstream_reads import watched_reads


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


ONE, TWO, THREE, FOUR, FIVE = (token(text) for text in ("one", "two", "three", "four", "five"))
LOOKS_LIKE_A_CHUNK = b"data: x\n\n"
AROUND = b"message:\ndata:" + chunk(LOOKS_LIKE_A_CHUNK)


def sized(size):
    return b":" + b"x" * (size - 3) + b"\n\n"


# What comes behind START, read by read, and how many of these reads the parser does not see.
READS = {
    "whole events": ([chunk(ONE), chunk(TWO), chunk(THREE)], 3),
    "one event": ([chunk(ONE)], 1),
    "two in one read": ([chunk(ONE), chunk(TWO) + chunk(THREE), chunk(FOUR), chunk(FIVE)], 2),
    "a chunk in two reads": ([chunk(ONE), chunk(TWO)[:9], chunk(TWO)[9:], chunk(THREE), chunk(FOUR)], 2),
    "an event in two chunks": ([chunk(ONE), chunk(TWO[:9]), chunk(TWO[9:]), chunk(THREE), chunk(FOUR)], 3),
    "upper case": ([chunk(ONE), b"%X\r\n%b\r\n" % (len(TWO), TWO), chunk(THREE), chunk(FOUR)], 2),
    "a leading zero": ([chunk(ONE), b"0" + chunk(TWO), chunk(THREE), chunk(FOUR)], 2),
    "an extension": ([chunk(ONE), b"%x;a=b\r\n%b\r\n" % (len(TWO), TWO), chunk(THREE), chunk(FOUR)], 2),
    "other line ends": ([chunk(ONE), chunk(TWO.replace(b"\n", b"\r\n")), chunk(THREE), chunk(FOUR)], 2),
    "what looks like a chunk inside of one": (
        [chunk(ONE), chunk(AROUND)[:18], chunk(LOOKS_LIKE_A_CHUNK), b"\r\n", chunk(THREE), chunk(FOUR)],
        2,
    ),
    "a line end alone": ([chunk(ONE), chunk(b"\n"), chunk(THREE), chunk(FOUR)], 2),
    "sizes of one to three digits": (
        [chunk(ONE), *(chunk(sized(size)) for size in (15, 16, 17, 255, 256, 257))],
        7,
    ),
    "a long event": ([chunk(ONE), chunk(token("x" * 5000)), chunk(THREE), chunk(FOUR)], 3),
}


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("route", [{}, {"events": {"withhold": ["usedTools"]}}], ids=["all", "withheld"])
async def test_events_in_any_reads_are_those_of_flowise(start, connect, monkeypatch, reads, route):
    pieces, unparsed = READS[reads]
    seen, parsed = watched_reads(monkeypatch), []
    feed = ResponseParser.feed

    def noted(self, data):
        parsed.append(data)
        feed(self, data)

    async def script(peer, _):
        at = seen.total
        for piece in (STREAM_HEAD, chunk(START), *pieces):
            peer.send(piece)
            await seen.reach(at := at + len(piece))
        monkeypatch.setattr(ResponseParser, "feed", feed)
        peer.send(chunk(METADATA) + chunk(END) + b"0\r\n\r\n")

    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=route) as gateway,
        connect(gateway) as wire,
    ):
        await gateway.refresh_streamability()
        monkeypatch.setattr(ResponseParser, "feed", noted)
        wire.post(PATH, ASK)
        reply = await wire.reply()
        (line,) = await settled(gateway)
    framed = b"".join(pieces)
    body, rest = b"", framed
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        size = int(size.partition(b";")[0], 16)
        body, rest = body + rest[:size], rest[size + 2 :]
    assert reply.body == START + body + METADATA + END
    assert line["outcome"] == "ok"
    assert line["events"] == 3 + body.count(b"message:")
    expected = 0 if route else unparsed
    assert sum(piece not in parsed for piece in pieces if len(piece) < SMALL) == expected


async def test_a_client_without_chunks_gets_no_framing(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD)
        for data in (START, ONE, TWO, METADATA, END, b""):
            peer.chunk(data)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        body = b'{"question":"hi","streaming":true}'
        wire.send(
            b"POST %b HTTP/1.0\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (PATH.encode(), len(body), body)
        )
        assert (await wire.reply()).body == START + ONE + TWO + METADATA + END
        assert (await only(gateway))["outcome"] == "ok"

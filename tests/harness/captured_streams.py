"""The event streams among the captures, ways to cut them, and a slow reference parser."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from hypothesis import strategies as st

CAPTURES = Path(__file__).parent.parent / "captures"
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n)")

PIECES = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"\r\n\r\n",
    b"a",
    b"data:b",
    b"\x00",
    b":heartbeat",
    b'message:\ndata:{"event":"token","data":"tok0 "}\n\n',
    b'message:\r\ndata:{"event":"token","data":""}\r\n\r\n',
    b'message\ndata:{"event":"end","data":"[DONE]"}\n\n',
    b'message:\ndata:{"event":"thinking","data":"hm","duration":1}\n\n',
    b'message:\ndata:{"event":"usageMetadata","data":{"input_tokens":1,"output_tokens":2}}\n\n',
    b'message:\ndata:{"event":"nextAgentFlow","data":{"nodeId":"a","status":"INPROGRESS"}}\n\n',
    b'message:\ndata:{"event":"agentFlowExecutedData","data":[1]}\n\n',
    b'message:\ndata:{"event":"agentFlowExecutedData","data":"' + b"x" * 5000 + b'"}\n\n',
    b'data:{"event":"agentFlowExecutedData","data":[2]}\r\n\r\n',
    b"event: token\ndata: hello\n\n",
    b"event:token\rdata:\r\r",
    b'data: {"data": "x", "event": "metadata"}\n\n',
    b"event: " + b"n" * 4090 + b"\n\n",
    b":" + b"c" * 4096 + b"\ndata:x\n\n",
    b"\xef\xbb\xbf",
    "\u2028\u0085".encode(),
]

texts = st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join)


@cache
def captured() -> dict[str, bytes]:
    """The body of every captured event stream, without its chunked framing."""
    streams = {path.stem: _body(path.read_bytes()) for path in sorted(CAPTURES.glob("*.raw"))}
    for path in sorted((CAPTURES / "3.1.2").glob("*.body")):
        if path.read_bytes().startswith((b"message", b":")):
            streams[f"3.1.2/{path.stem}"] = path.read_bytes()
    return {name: body for name, body in streams.items() if body}


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[begin:end] for begin, end in pairwise(edges)]


def single_cuts(body: bytes, most: int = 30_000) -> Iterator[list[bytes]]:
    """Cuts in two at every place; in a body longer than `most` only near line ends and at some places in between."""
    places = range(len(body) + 1)
    if len(body) > most:
        near = {end.start() + shift for end in re.finditer(rb"\n", body) for shift in (-1, 0, 1, 2)}
        places = sorted((near | set(range(0, len(body), 1 + len(body) // 500))) & set(places))
    for place in places:
        yield [body[:place], body[place:]]


def random_cuts(body: bytes, count: int = 30) -> Iterator[list[bytes]]:
    dice = random.Random(7)
    for _ in range(count):
        yield cut(body, [dice.randrange(len(body) + 1) for _ in range(dice.randrange(2, 12))])


def each_byte(body: bytes) -> list[bytes]:
    return [body[place : place + 1] for place in range(len(body))]


def boundaries(body: bytes) -> set[int]:
    """The end of every empty line that follows another line; a lone CR ends a line, whatever follows."""
    found = set()
    for line in _LINE.finditer(body):
        if not line[1] and line.start():
            found.add(line.end())
            if line[2] == b"\r\n":
                found.add(line.start() + 1)
    return found


def events(body: bytes) -> list[tuple[bytes, bytes]]:
    """Each event's bytes, and the bare line ends before it; the last one may be unfinished."""
    found, lead, block = [], b"", b""
    for line in re.finditer(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", body):
        is_empty = not line[0].strip(b"\r\n")
        if is_empty and not block:
            lead += line[0]
            continue
        block += line[0]
        if is_empty:
            found.append((lead, block))
            lead = block = b""
    return [*found, (lead, block)]


def _body(raw: bytes) -> bytes:
    head, _, body = raw.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    if b"Content-Type: text/event-stream" not in head:
        return b""
    if b"Transfer-Encoding: chunked" not in head:
        return body
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        chunks.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return b"".join(chunks)

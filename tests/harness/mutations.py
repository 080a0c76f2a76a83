"""Hypothesis strategies that change bytes of a corpus: parts are cut, dropped, repeated, replaced, moved in from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

# What means something to a parser of HTTP, JSON, forms or events.
WORDS = [
    b"\r\n", b"\r\n\r\n", b"\n\n", b"\r", b"\x00", b"\xff", b"\xed\xa0\x80", b" ", b"\t", b":", b",", b";", b"=", b"&", b"%",
    b"%00", b"%2f", b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b"null", b"NaN", b"-1", b"1e999", b"9" * 30,
    b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Content-Encoding: gzip\r\n", b"Content-Type: text/html\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"Host: other\r\n", b"X-Forwarded-For: a\r\n",
    b"HTTP/1.0", b"HTTP/1.1 103 x\r\n\r\n", b"HTTP/1.1 204 x\r\n", b"PUT ", b"OPTIONS ", b"data:", b"event: error\n",
    b'"event":"agentFlowExecutedData"', b'"event":"usageMetadata"', b'"event":"end"', b'"chatId":', b'"question":',
    b'"overrideConfig":{', b'"vars":{', b'"uploads":[', b"--b\r\n", b"--b--", b'; filename="', b"FILE-STORAGE::", b"/../", b"//",
]  # fmt: skip
_LENGTH = re.compile(rb"\r\nContent-Length: *\d*", re.IGNORECASE)
_PLACES = st.integers(0, 2**16)
_SIZES = st.one_of(st.integers(0, 16), st.integers(0, 2**12))
Change = Callable[[bytes], bytes]


def _cut(place: int) -> Change:
    return lambda data: data[: place % (len(data) + 1)]


def _replaced(place: int, size: int, word: bytes) -> Change:
    def change(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[:at] + word + data[at + size :]

    return change


def _repeated(place: int, size: int, times: int) -> Change:
    def change(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[: at + size] + data[at : at + size] * times + data[at + size :]

    return change


def _right_length(data: bytes) -> bytes:
    """Make the announced length that of the body."""
    head, separator, body = data.partition(b"\r\n\r\n")
    return _LENGTH.sub(b"\r\nContent-Length: %d" % len(body), head) + separator + body


CHANGES = st.one_of(
    st.builds(_replaced, _PLACES, st.just(0), st.sampled_from(WORDS)),
    st.builds(_replaced, _PLACES, _SIZES, st.sampled_from(WORDS)),
    st.builds(_replaced, _PLACES, _SIZES, st.binary(max_size=8)),
    st.builds(_repeated, _PLACES, _SIZES, st.integers(1, 300)),
    st.builds(_cut, _PLACES),
    st.just(_right_length),
)


def mutated(corpus: Sequence[bytes], most: int) -> st.SearchStrategy[bytes]:
    """An entry with up to eight changes, of at most `most` bytes."""

    def change(entry: bytes, changes: list[Change], *, has_right_length: bool) -> bytes:
        for each in changes:
            entry = each(entry)[:most]
        return _right_length(entry) if has_right_length else entry

    changes = st.lists(CHANGES, max_size=8)
    return st.builds(change, st.sampled_from(corpus), changes, has_right_length=st.booleans())

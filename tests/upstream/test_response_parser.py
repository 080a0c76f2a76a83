"""A table of responses, each read whole, one byte at a time, and (if it may stay open) with a tail."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.upstream.response_parser import MAX_FIELDS, MAX_HEAD, Framing, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
CHUNKED, LENGTH, NONE, CLOSE = Framing.CHUNKED, Framing.LENGTH, Framing.NONE, Framing.CLOSE


@dataclass(frozen=True)
class Case:
    name: str
    data: bytes
    framing: Framing
    body: bytes = b""
    status: int = 200
    stays_open: bool = True
    method: str = "GET"
    is_complete: bool = True


GOOD = [
    Case("length", OK + b"Content-Length: 5\r\n\r\nhello", LENGTH, b"hello"),
    Case("length zero", EMPTY, LENGTH),
    Case(
        "chunked", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", CHUNKED, b"abcd"
    ),
    Case("chunked in capitals", OK + b"TRANSFER-ENCODING: Chunked \r\n\r\n0\r\n\r\n", CHUNKED),
    Case(
        "chunk extensions", OK + b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0;c\r\n\r\n", CHUNKED, b"x"
    ),
    Case("trailers", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n", CHUNKED, b"x"),
    Case("until the close", OK + b"\r\nas much as comes", CLOSE, b"as much as comes", is_complete=False),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", NONE, status=204),
    Case("204 that names a length", b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", NONE, status=204),
    Case(
        "304 with the length of the file", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", NONE, status=304
    ),
    Case(
        "304 that names a coding", b"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", NONE, status=304
    ),
    Case("HEAD with a length", OK + b"Content-Length: 5\r\n\r\n", NONE, method="HEAD", stays_open=False),
    Case("100 before it", b"HTTP/1.1 100 Continue\r\nX-One: 1\r\n\r\n" + EMPTY, LENGTH),
    Case("103 before it", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + EMPTY, LENGTH),
    Case("103 that names a coding", b"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY, LENGTH),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", LENGTH, b"ab", stays_open=False),
    Case(
        "Connection: close",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nab",
        LENGTH,
        b"ab",
        stays_open=False,
    ),
    Case("no reason phrase", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", LENGTH),
    Case(
        "an offered upgrade",
        OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\na",
        LENGTH,
        b"a",
    ),
    Case("500", b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", LENGTH, b"no", status=500),
]
REFUSED = {
    "101": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "101 without a word": b"HTTP/1.1 101 Switching\r\n\r\n" + EMPTY,
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "gzip": OK + b"Transfer-Encoding: gzip\r\n\r\nx",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nx",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked with a tab": OK + b"Transfer-Encoding: chunked\t \r\n\r\n0\r\n\r\n",
    "no coding": OK + b"Transfer-Encoding: \r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "one length twice": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "listed lengths": OK + b"Content-Length: 1, 1\r\n\r\na",
    "length and coding": OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "signed length": OK + b"Content-Length: +1\r\n\r\na",
    "empty length": OK + b"Content-Length: \r\n\r\na",
    "bare line feed": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "obs-fold": OK + b"X-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
    "space in a name": OK + b"X A: 1\r\nContent-Length: 0\r\n\r\n",
    "control character": OK + b"X-A: \x01\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 99 x\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 x\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "too many fields": OK + b"X: 1\r\n" * (MAX_FIELDS + 1) + b"Content-Length: 0\r\n\r\n",
    "one field too long": OK + b"X: " + b"a" * MAX_HEAD + b"\r\nContent-Length: 0\r\n\r\n",
    "fields too long together": OK + (b"X: " + b"a" * 8000 + b"\r\n") * 9 + b"Content-Length: 0\r\n\r\n",
    "too much before the final head": (b"HTTP/1.1 103 x\r\nX: " + b"a" * 8000 + b"\r\n\r\n") * 9 + EMPTY,
}
BAD_CHUNKS = {
    "not hexadecimal": b"g\r\n",
    "negative": b"-1\r\n",
    "overflowing": b"fffffffffffffffff\r\n",
    "no line end behind the chunk": b"1\r\nabc\r\n",
    "endless extension": b"1;" + b"a" * (MAX_HEAD + 1),
    "endless trailers": b"0\r\n" + b"X: 1\r\n" * (MAX_HEAD // 6 + 2),
}


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def read(data, *, size, method="GET", parser=None):
    """Feed it in pieces until it is over; returns the parser and the body."""
    parser = parser or ResponseParser()
    parser.expect(method)
    body = b""
    for start in range(0, len(data), size):
        parser.feed(data[start : start + size])
        body += b"".join(parser.body)
        if parser.is_over:
            break
    return parser, body


@each(GOOD)
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_good_response(case, size):
    parser, body = read(case.data, size=size, method=case.method)
    assert parser.fault == ""
    assert (parser.head.status, parser.head.framing, body) == (case.status, case.framing, case.body)
    assert parser.is_complete is parser.is_over is case.is_complete
    assert parser.may_stay_open is (case.stays_open and case.is_complete)
    assert not parser.has_surplus
    assert not {name for name, _ in parser.head.fields} & {b"x-one", b"link", b"x-t"}


@each([case for case in GOOD if case.is_complete])
@pytest.mark.parametrize(
    "tail", [EMPTY, b"junk", b"HTTP/1.1 200"], ids=["response", "junk", "begun response"]
)
def test_bytes_behind_a_good_response_are_seen_and_do_not_change_it(case, tail):
    parser, body = read(case.data + tail, size=100_000, method=case.method)
    assert (parser.head.status, body, parser.fault) == (case.status, case.body, "")
    assert parser.is_complete
    assert parser.has_surplus or not parser.may_stay_open


@each([case for case in GOOD if case.is_complete and case.stays_open])
def test_the_next_response_on_the_same_parser(case):
    parser, _ = read(case.data, size=100_000, method=case.method)
    parser, body = read(OK + b"X-Next: 1\r\nContent-Length: 1\r\n\r\nn", size=3, parser=parser)
    assert (parser.head.fields, body) == ([(b"x-next", b"1"), (b"content-length", b"1")], b"n")
    assert (parser.fault, parser.is_complete, parser.has_surplus) == ("", True, False)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("size", [1, 100_000])
def test_refused_response(data, size):
    parser, _ = read(data, size=size)
    assert parser.fault
    assert parser.is_over


@pytest.mark.parametrize("chunk", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
@pytest.mark.parametrize("size", [1, 100_000])
def test_bad_chunk_is_a_fault_behind_a_good_head(chunk, size):
    parser, body = read(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", size=100_000)
    assert (parser.fault, body, parser.head.status) == ("", b"ok", 200)
    for start in range(0, len(chunk), size):
        parser.feed(chunk[start : start + size])
    assert parser.fault
    assert parser.is_over
    assert not parser.is_complete


def test_a_head_that_only_drips_is_given_up_at_its_size():
    parser = ResponseParser()
    parser.feed(OK + b"X-Drip: ")
    fed = 0
    while not parser.is_over:
        parser.feed(b"a")
        fed += 1
    assert MAX_HEAD - 100 < fed <= MAX_HEAD


def test_a_long_body_is_no_long_head():
    parser, body = read(OK + b"Content-Length: 300000\r\n\r\n" + b"a" * 300_000, size=50_000)
    assert (len(body), parser.fault, parser.is_complete) == (300_000, "", True)


def test_as_many_fields_as_are_allowed():
    parser, _ = read(OK + b"X: 1\r\n" * (MAX_FIELDS - 1) + b"Content-Length: 0\r\n\r\n", size=100_000)
    assert (len(parser.head.fields), parser.fault, parser.is_complete) == (MAX_FIELDS, "", True)


def test_values_are_stripped_names_lowered_and_high_bytes_kept():
    parser, _ = read(
        OK + b"X-Name:\t caf\xc3\xa9\xff \t\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n", size=100_000
    )
    assert parser.head.get(b"x-name") == b"caf\xc3\xa9\xff"
    assert parser.head.get(b"x-empty") == b""
    assert parser.head.get(b"x-missing") == b""


def test_a_reason_phrase_with_control_characters_is_kept_nowhere():
    parser, _ = read(b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n", size=1)
    assert (parser.head.status, parser.head.fields, parser.fault) == (200, [(b"content-length", b"0")], "")

"""What is read of a head that is too large, wherever it breaks off."""

from __future__ import annotations

import pytest

from gateway.http.refused_head import RefusedHead, read_refused_head

WANTED = ("origin", "accept")
HEAD = b"POST /a?b HTTP/1.1\r\nHost: h\r\nOrigin: https://a\r\nCookie: c\r\nACCEPT: \t x y \r\n\r\nOrigin: body\r\n"
WHOLE = RefusedHead("POST", "/a?b", False, (("Origin", "https://a"), ("ACCEPT", "x y")))


def test_a_whole_head():
    assert read_refused_head(HEAD, WANTED, 100) == WHOLE


def test_wherever_it_breaks_off_only_complete_lines_are_read():
    end_of = {line: HEAD.index(line) + len(line) + 2 for line in (b"HTTP/1.1", b"Origin: https://a", b"x y ")}
    for end in range(HEAD.index(b"\r\n\r\n") + 2):
        found = read_refused_head(HEAD[:end], WANTED, 100)
        assert found.method == ("POST" if end >= len(b"POST ") else "GET")
        assert (found.target == "/a?b") >= (end >= end_of[b"HTTP/1.1"])
        assert (
            found.fields == WHOLE.fields[: (end >= end_of[b"Origin: https://a"]) + (end >= end_of[b"x y "])]
        )


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"HEAD /a HTTP/1.0", ("HEAD", "/a", True)),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1", ("GET", None, False)),
        (b"PUT /" + b"a" * 100, ("PUT", None, False)),
        (b"GET http://a/ HTTP/1.1", ("GET", None, False)),
        (b"GET /a HTTP/2.0", ("GET", None, False)),
        (b"nonsense", ("GET", None, False)),
        (b"GET /\xff HTTP/1.1", ("GET", "/\udcff", False)),
        (b"", ("GET", None, False)),
    ],
)
def test_the_request_line(first, expected):
    assert read_refused_head(first + b"\r\nOrigin: a\r\n\r\n", WANTED, 100) == (*expected, (("Origin", "a"),))


@pytest.mark.parametrize(
    "line",
    [
        b"Origin: " + b"a" * 100,
        b"Origin: a\x00b",
        b"Origin: a\x7f",
        b"Origin",
        b" Origin: a",
        b"Origin : a",
        b"X: a",
    ],
)
def test_lines_that_are_left_out(line):
    assert read_refused_head(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n", WANTED, 100).fields == ()


def test_a_repeated_field_is_read_as_often():
    head = b"GET / HTTP/1.1\r\nOrigin: a\r\nOrigin: b\r\n\r\n"
    assert read_refused_head(head, WANTED, 100).fields == (("Origin", "a"), ("Origin", "b"))

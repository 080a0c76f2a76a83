"""The bytes of a request to Flowise."""

from __future__ import annotations

import pytest

from gateway.upstream.headers import UpstreamRequest


@pytest.mark.parametrize(
    ("method", "body", "wire"),
    [
        ("GET", b"", b"GET /a HTTP/1.1\r\nHost: f\r\n\r\n"),
        ("HEAD", b"", b"HEAD /a HTTP/1.1\r\nHost: f\r\n\r\n"),
        ("PUT", b"", b"PUT /a HTTP/1.1\r\nHost: f\r\nContent-Length: 0\r\n\r\n"),
        ("POST", b"{}", b"POST /a HTTP/1.1\r\nHost: f\r\nContent-Length: 2\r\n\r\n{}"),
    ],
)
def test_a_body_of_bytes_has_its_length(method, body, wire):
    assert UpstreamRequest(method, b"/a", [(b"Host", b"f")], body).encoded() == wire


def test_a_body_of_pieces_is_announced_as_chunked_and_not_read():
    async def pieces():
        raise AssertionError("read")
        yield b""

    request = UpstreamRequest("POST", b"/a", [(b"Host", b"f")], pieces())
    assert request.encoded() == b"POST /a HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\n"

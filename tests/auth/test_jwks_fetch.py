"""The fetch of a key set from a real server, and every way in which it fails."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from gateway.auth import jwks
from gateway.auth.jwks import LARGEST, JwksFetch
from gateway.auth.key_set import JwksError
from tests.harness.jwt_tokens import http_answer, web_server
from tests.harness.unreachable import CAUSES, unreachable

DOCUMENT = b'{"keys":[]}'


@asynccontextmanager
async def fetching(answer):
    """A server with this answer, and an open fetch. Yields a function of a path, and the received heads."""

    async def speak(_, writer):
        writer.write(answer)

    fetch = JwksFetch()
    await fetch.start()
    try:
        async with web_server(speak if isinstance(answer, bytes) else answer) as (url, heads):
            yield lambda path="/jwks.json": fetch(url + path), heads
    finally:
        await fetch.close()


async def fails(answer, reason, asked=1):
    async with fetching(answer) as (fetch, heads):
        with pytest.raises(JwksError, match=reason):
            await fetch()
        assert len(heads) == asked


async def test_a_fetch_sends_only_these_headers():
    async with fetching(http_answer(DOCUMENT)) as (fetch, heads):
        assert await fetch("/a/jwks.json?v=1") == DOCUMENT
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a/jwks.json?v=1 HTTP/1.1"
    assert {line.partition(":")[0] for line in lines[1:] if line} == {
        *("Host", "Accept", "Accept-Encoding", "User-Agent", "Connection")
    }
    assert "Accept-Encoding: identity" in lines
    assert "User-Agent: flowise-gateway" in lines


async def test_every_content_type_and_framing_is_accepted():
    chunked = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with fetching(
        chunked + b"4\r\n" + DOCUMENT[:4] + b"\r\n7\r\n" + DOCUMENT[4:] + b"\r\n0\r\n\r\n"
    ) as (
        fetch,
        _,
    ):
        assert await fetch() == DOCUMENT
    async with fetching(b"HTTP/1.1 200 OK\r\n\r\n" + DOCUMENT) as (fetch, _):
        assert await fetch() == DOCUMENT


async def test_cookies_are_neither_kept_nor_sent():
    async with fetching(http_answer(DOCUMENT, "Set-Cookie: a=b")) as (fetch, heads):
        await fetch()
        await fetch()
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status):
    async with fetching(http_answer(DOCUMENT)) as (_, other_heads):
        await fails(
            http_answer(b"", "Location: /other", status=f"{status} Moved"),
            f"^the response status was {status}$",
        )
        assert other_heads == []


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 500, 503])
async def test_another_status_is_no_document(status):
    await fails(
        http_answer(DOCUMENT if status not in (204, 304) else b"", status=f"{status} X"),
        f"^the response status was {status}$",
    )


async def test_no_proxy_of_the_environment_is_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with fetching(http_answer(DOCUMENT)) as (fetch, _):
        assert await fetch() == DOCUMENT


async def test_the_largest_document():
    async with fetching(http_answer(b"x" * 1_048_576)) as (fetch, _):
        assert len(await fetch()) == LARGEST


@pytest.mark.parametrize("size", [1_048_577, 3 * LARGEST])
async def test_a_document_that_is_too_large_is_not_read_to_its_end(size):
    await fails(http_answer(b"x" * size), rf"^the response was larger than {LARGEST} bytes$")


async def test_an_endless_document_is_not_read_to_its_end():
    async def speak(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    await fails(speak, rf"^the response was larger than {LARGEST} bytes$")


async def test_a_compressed_document_is_not_unpacked():
    await fails(http_answer(b"\x1f\x8b", "Content-Encoding: gzip"), r"^the response was compressed")
    async with fetching(http_answer(DOCUMENT, "Content-Encoding: Identity")) as (fetch, _):
        assert await fetch() == DOCUMENT


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"x" * 70000,
    ],
)
async def test_an_incomplete_response_is_refused(answer):
    await fails(answer, r"^no valid response \(\w+\)$")


async def test_a_server_that_hangs_up_is_tried_once_more():
    await fails(b"", r"^no response \(connection closed\)$", asked=2)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
async def test_a_silent_server_is_given_up(begun, monkeypatch):
    async def speak(reader, writer):
        writer.write(begun)
        await reader.read()

    monkeypatch.setattr(jwks, "TIMEOUT", 0.05)
    await fails(speak, r"^no complete response within 0\.05 s$")


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        "http://[::1:1/",
        "ftp://127.0.0.1/",
    ],
)
async def test_an_address_that_cannot_be_reached_is_an_error(url):
    fetch = JwksFetch()
    await fetch.start()
    with pytest.raises(JwksError, match=r"^no valid response \(\w+\)$"):
        await fetch(url)
    await fetch.close()


@pytest.mark.parametrize(
    "situation", ["refused", "no such name", "hangs up", "another authority", "self-signed", "no tls"]
)
async def test_why_there_is_no_connection(situation, tmp_path):
    fetch = JwksFetch()
    await fetch.start()
    label, said = CAUSES[situation]
    reason = r"\(no .*\)" if label == "dns" else re.escape(f"({said})")
    async with unreachable(situation, tmp_path) as place:
        with pytest.raises(JwksError, match=rf"^no response {reason}$"):
            await fetch(place.url)
    await fetch.close()


async def test_before_start_and_after_close_nothing_is_fetched():
    fetch = JwksFetch()
    with pytest.raises(JwksError, match=r"^the session is not open$"):
        await fetch("http://127.0.0.1:1/")
    await fetch.close()
    await fetch.start()
    await fetch.close()
    with pytest.raises(JwksError, match=r"^the session is not open$"):
        await fetch("http://127.0.0.1:1/")


async def test_every_fetch_has_a_connection_of_its_own():
    kept = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + DOCUMENT
    closed = asyncio.Event()

    async def speak(reader, writer):
        writer.write(kept)
        assert await reader.read() == b""
        closed.set()

    async with fetching(speak) as (fetch, heads):
        assert await fetch() == DOCUMENT
        await closed.wait()
        assert b"Connection: close" in heads[0]

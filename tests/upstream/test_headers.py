"""Which header fields pass, and the bytes of a request head."""

from __future__ import annotations

import pytest

from gateway.upstream.headers import Addressed, UpstreamRequest, downward, own_fields, upward


def test_what_may_pass_up_passes_unchanged():
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Accept", b"text/event-stream"),
        (b"USER-AGENT", b"curl/8"),
        (b"traceparent", b"00-1"),
        (b"TraceState", b"a=b"),
        (b"If-None-Match", b'W/"1"'),
        (b"Range", b"bytes=0-1"),
        (b"Origin", b"https://app.example.com"),
    ]
    assert upward(fields) == [(name.lower(), value) for name, value in fields]


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "X-API-Key", "Cookie", "Proxy-Authorization", "Host", "Connection", "Keep-Alive",
        "Upgrade", "TE", "Trailer", "Transfer-Encoding", "Content-Length", "Content-Encoding", "Expect",
        "Accept-Encoding", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
        "X-Real-IP", "X-Request-ID", "x-request-from", "flowise-tool", "X-Anything",
    ],
)  # fmt: skip
def test_what_may_not_pass_up(name):
    assert upward([(name.encode(), b"1"), (name.lower().encode(), b"1")]) == []


def test_the_first_of_a_repeated_field_passes():
    assert upward([(b"Accept", b"a"), (b"accept", b"b")]) == [(b"accept", b"a")]


@pytest.mark.parametrize("value", [b"a\rb", b"a\nX: 1", b"a\x00", b"\x7f", b"\x1f"])
def test_a_control_character_never_passes(value):
    assert upward([(b"Accept", value)]) == []
    assert downward([(b"etag", value)]) == []


def test_a_tab_and_high_bytes_pass_up():
    assert upward([(b"Accept", b"a\tb\xff")]) == [(b"accept", b"a\tb\xff")]


@pytest.mark.parametrize(
    "origin",
    [
        b"https://app.example.com", b"http://localhost:3000", b"http://127.0.0.1:8080", b"http://[::1]:80",
        b"chrome-extension://abcdef", b"capacitor://localhost", b"https://xn--mnchen-3ya.de", b"http://a_b.example",
        b"http://1.example.com:65535",
    ],
)  # fmt: skip
def test_an_origin_passes(origin):
    assert upward([(b"Origin", origin)]) == [(b"origin", origin)]


@pytest.mark.parametrize(
    "origin",
    [
        b"null", b"", b"app.example.com", b"https://", b"https://a b", b"https://a/path", b"https://a?b", b"https://a#",
        b"https://user@a", b"https://a:", b"https://a:65536", b"https://a:99999", b"https://a:123456", b"://a",
        b"https://1.2.3.4.5", b"http://256.256.256.256", b"http://a.1", b"http://0x1g.0xfffffffff", b"http://[1:2]",
        b"http://[::1", b"http://[::1]x", b"https://\xff", b"https://a, https://b",
    ],
)  # fmt: skip
def test_what_is_no_origin_does_not_pass(origin):
    assert upward([(b"Origin", origin)]) == []


def test_what_may_pass_down_has_its_usual_spelling():
    fields = [
        (b"etag", b'"1"'),
        (b"content-type", b"text/event-stream"),
        (b"x-accel-buffering", b"no"),
        (b"x-ratelimit-reset", b"1"),
    ]
    assert downward(fields) == [
        ("ETag", '"1"'),
        ("Content-Type", "text/event-stream"),
        ("X-Accel-Buffering", "no"),
        ("X-Ratelimit-Reset", "1"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        b"set-cookie", b"access-control-allow-origin", b"connection", b"keep-alive", b"transfer-encoding",
        b"content-length", b"server", b"x-powered-by", b"www-authenticate", b"location", b"vary",
    ],
)  # fmt: skip
def test_what_may_not_pass_down(name):
    assert downward([(name, b"1")]) == []


@pytest.mark.parametrize(("raw", "text"), [(b"caf\xc3\xa9", "café"), (b"caf\xe9", "café"), (b"\x80", "\x80")])
def test_text_is_utf_8_or_else_latin_1(raw, text):
    assert downward([(b"content-disposition", raw)]) == [("Content-Disposition", text)]


def test_a_request_has_the_fields_of_its_server_first_and_a_key_of_its_own_in_place_of_the_servers():
    server = Addressed(
        b"/base", tuple(own_fields({"Host": "flowise", "Authorization": "s", "Accept-Encoding": ""}))
    )
    own = own_fields({"Authorization": "", "X-Request-ID": "r-1"})
    sent = UpstreamRequest("GET", b"/a%2Fb?c=d", own).encoded(server)
    assert sent == (
        b"GET /base/a%2Fb?c=d HTTP/1.1\r\nHost: flowise\r\nAuthorization: s\r\nX-Request-ID: r-1\r\n\r\n"
    )
    with_key = own_fields({"Authorization": "c", "X-Request-ID": "r-1"})
    sent = UpstreamRequest("GET", b"/", with_key).encoded(server)
    assert sent == (b"GET /base/ HTTP/1.1\r\nHost: flowise\r\nAuthorization: c\r\nX-Request-ID: r-1\r\n\r\n")

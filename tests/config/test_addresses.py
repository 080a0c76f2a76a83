from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.addresses import (
    Address,
    Store,
    Url,
    parse_listen,
    parse_network,
    parse_origin,
    parse_public_url,
    parse_store,
    parse_url,
)

PARSERS = [parse_listen, parse_network, parse_origin, parse_public_url, parse_store, parse_url]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[0:0:0:0:0:0:0:1]:80", Address("::1", 80)),
        ("LocalHost:0", Address("localhost", 0)),
        ("my_host.internal-1:65535", Address("my_host.internal-1", 65535)),
    ],
)
def test_a_listen_address_is_read(text, address):
    assert parse_listen(text) == address
    assert parse_listen(str(address)) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8080", "is not an address with a port: write HOST:PORT"),
        ("localhost", "is not an address with a port: write HOST:PORT"),
        ("localhost:", "is not an address with a port: write HOST:PORT"),
        ("::1:8080", "is not an address with a port: .* for IPv6"),
        ("http://h:80", "is not an address with a port"),
        ("unix:/run/a.sock", "is a Unix socket, which server.listen alone takes: write HOST:PORT"),
        ("0.0.0.0:8080, [::]:8080", "is more than one address: write one, or in server.listen a list"),
        (":8080", "has no host: write 127.0.0.1 before the colon, or 0.0.0.0 for all"),
        ("h:65536", "has a port that is not valid: write a number from 0 to 65535"),
        ("h:8o", "has a port that is not valid"),
        ("h:-1", "has a port that is not valid"),
        ("999.1.1.1:80", "has a host that is not an IP address"),
        ("[::g]:80", "has a host that is not valid"),
        ("[127.0.0.1:80", "is not an address"),
        ("a b:80", "has a host that is not valid"),
        ("a..b:80", "has a host that is not valid"),
        ("a" * 64 + ":80", "has a host that is not valid"),
        (".".join(["a" * 60] * 5) + ":80", "has a host that is not valid"),
    ],
)
def test_what_is_no_listen_address_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_listen(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("gateway", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host, is_loopback):
    assert Address(host, 80).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "[::1]:1", False),
        ("0.0.0.0:1", "name:1", True),
        ("[::]:1", "[::1]:1", True),
        ("[::]:1", "10.0.0.1:1", False),
        ("[::]:1", "name:1", True),
        ("localhost:1", "127.0.0.1:1", True),
        ("localhost:1", "10.0.0.1:1", False),
        ("10.0.0.1:1", "10.0.0.2:1", False),
    ],
)
def test_two_addresses_meet_if_both_cannot_be_listened_on(one, other, meets):
    assert parse_listen(one).meets(parse_listen(other)) is meets
    assert parse_listen(other).meets(parse_listen(one)) is meets


@pytest.mark.parametrize(
    ("text", "url", "netloc"),
    [
        ("http://127.0.0.1:3000", Url("http", "127.0.0.1", 3000), "127.0.0.1:3000"),
        ("HTTPS://Flowise.Example.com/", Url("https", "flowise.example.com", 443), "flowise.example.com"),
        ("http://h/a/b/", Url("http", "h", 80, "/a/b"), "h"),
        ("http://[::1]:3000/x", Url("http", "::1", 3000, "/x"), "[::1]:3000"),
        ("https://h:80", Url("https", "h", 80), "h:80"),
    ],
)
def test_a_url_is_read(text, url, netloc):
    assert parse_url(text) == url
    assert url.netloc == netloc
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://h", "is not an http or https URL: write one like http://127.0.0.1:3000"),
        ("h:3000", "is not an http or https URL"),
        ("", "is not an http or https URL"),
        ("http://u:p@h", "has credentials in it: leave them out"),
        ("http://h/?q=1", "has a query or fragment: leave it out"),
        ("http://h#f", "has a query or fragment"),
        ("http://h?", "has a query or fragment"),
        ("http://", "has no host"),
        ("http://h:", "has no host, or an empty port"),
        ("http://h:0", "has a port that is not valid: write a number from 1"),
        ("http://h:99999", "has a port that is not valid"),
        ("http://h/a//b", "has a path that cannot be a prefix"),
        ("http://h/../b", "has a path that cannot be a prefix"),
        ("http://h/a/.", "has a path that cannot be a prefix"),
        ("http://h/%2e%2e", "has a path that cannot be a prefix"),
        ("http://h/a b", "has a path that cannot be a prefix"),
        ("http://h\r\nX", "is not an http or https URL"),
        ("http://1.2.3", "has a host that is not an IP address"),
    ],
)
def test_what_is_no_server_url_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_url(text)


def test_a_public_url_has_no_path_and_may_be_empty():
    assert parse_public_url("") is None
    assert parse_public_url("https://flows.example.com/") == Url("https", "flows.example.com", 443)
    with pytest.raises(ValueError, match="has a path: write scheme and host only"):
        parse_public_url("https://flows.example.com/x")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("*", "*"),
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.com:443", "https://app.example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:80", "http://[::1]"),
        ("null", "null"),
        ("https://*.Example.com", "https://*.example.com"),
        ("https://*.example.com:8443", "https://*.example.com:8443"),
        ("http://*.localhost:5173", "http://*.localhost:5173"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("Ionic://localhost", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ),
    ],
)
def test_an_origin_is_read_as_browsers_send_it(text, origin):
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://app.example.com/", "has a slash or path after the host"),
        ("https://app.example.com/x", "has a slash or path after the host"),
        ("https://app.example.com?x", "has a slash or path after the host"),
        ("app.example.com", "is not an origin: write scheme://host"),
        ("NULL", "is not an origin"),
        ("capacitor://", "is not an origin of an app: write capacitor://HOST"),
        ("capacitor://localhost/x", "is not an origin of an app"),
        ("capacitor://*.example.com", "is not an origin of an app"),
        ("ftp://h", "is not an origin"),
        ("https://a.*.example.com", r"has a \* that is not one label in front"),
        ("https://a*.example.com", r"has a \* that is not one label in front"),
        ("https://*.*.example.com", r"has a \* for more than"),
        ("https://*example.com", r"has a \* that is not one label in front"),
        ("https://*", r"has a \* that is not one label in front"),
        ("*.example.com", r"has a \* that is not one label in front"),
        ("https://*.com", "has a * for more than the pages of one domain".replace("*", r"\*")),
        ("https://*.127.0.0.1", "has a . for more than the pages of one domain"),
        ("https://*.example.com/x", "has a slash or path"),
        ("https://u@h", "is not an origin"),
    ],
)
def test_what_is_no_origin_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_origin(text)


def test_networks_are_read():
    assert parse_network("10.0.0.0/8") == ipaddress.ip_network("10.0.0.0/8")
    assert parse_network("fd00::/8") == ipaddress.ip_network("fd00::/8")
    assert parse_network("10.0.0.1") == ipaddress.ip_network("10.0.0.1/32")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.1/8", "has bits set behind its mask: write the network's address"),
        ("10.0.0.0/33", "is not a network: write a CIDR"),
        ("x", "CIDR"),
    ],
)
def test_what_is_no_network_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_network(text)


@pytest.mark.parametrize("text", ["redis://h:6379/0", "rediss://:pw@h:6379", "unix:///run/valkey.sock"])
def test_a_shared_store_is_read_and_never_shown(text):
    store = parse_store(text)
    assert store.url == text
    assert store.is_shared
    assert text not in repr(store)


def test_memory_is_not_shared():
    assert parse_store("memory") == Store()
    assert not Store().is_shared


@pytest.mark.parametrize("text", ["", "redis", "redis://", "mysql://h", "unix://x", "Memory", "redis://h/x"])
def test_what_is_no_store_is_refused(text):
    with pytest.raises(ValueError, match="is not a store: write memory, redis://HOST:PORT/0"):
        parse_store(text)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text() | st.from_regex(r"(https?://)?[a-z0-9.:\[\]@/?#%-]*", fullmatch=True))
def test_any_text_is_read_or_a_sentence(parse, text):
    assert is_read_or_sentence(parse, text)


def is_read_or_sentence(parse, text):
    try:
        parse(text)
    except ValueError as error:
        return any(right in str(error) for right in (": write", ": leave it out", ": leave them out"))
    return True

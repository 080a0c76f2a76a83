"""What contradicts a proxy is one line of `check`."""

from __future__ import annotations

import pickle

import pytest

from gateway.config import read, usable

USE = "upstreams.main.use_proxy:"
NO_EFFECT = f"{USE} warning: has no effect: http_proxy is not set for these servers, or no_proxy names them"
HOST = (
    "upstreams.main.public_url: warning: does not set the Host that Flowise sees, because the proxy of an http server"
    " replaces it"
)
HTTP, HTTPS = {"http_proxy": "http://proxy:1"}, {"https_proxy": "http://proxy:1"}
SOCKS = "is not the URL of an HTTP proxy: write one like http://proxy.example.com:3128"


@pytest.fixture
def lines(write):
    def lines(upstream, environ, top=""):
        reading = read(write(top, upstream=upstream), environ)
        named = [one for one in reading.mistakes if "proxy" in one.message]
        return [str(one).partition(" ")[2] for one in named]

    return lines


@pytest.mark.parametrize(
    ("upstream", "environ", "expected"),
    [
        ("use_proxy: true", HTTP, []),
        ("use_proxy: false", {}, []),
        ("", {"http_proxy": "socks5://x"}, []),
        ("use_proxy: true", {}, [NO_EFFECT]),
        ("use_proxy: true", HTTPS, [NO_EFFECT]),
        ("use_proxy: true", {**HTTP, "no_proxy": "127.0.0.1"}, [NO_EFFECT]),
        (
            "use_proxy: true",
            {"HTTP_PROXY": "socks5://user:word@x"},
            [f"{USE} cannot be followed: the environment variable HTTP_PROXY {SOCKS}"],
        ),
        (
            "use_proxy: true",
            {**HTTP, "no_proxy": "a, 127.0.0.0/99"},
            [
                (
                    f'{USE} cannot be followed: the environment variable no_proxy has "127.0.0.0/99", which is no network:'
                    " write one like 10.0.0.0/8, or remove it"
                )
            ],
        ),
        ("use_proxy: false", {**HTTP, "no_proxy": "127.0.0.0/99"}, []),
        ("use_proxy: true\npublic_url: https://flowise.example.com", HTTP, [HOST]),
    ],
)
def test_each_mistake_is_one_line(upstream, environ, expected, lines):
    assert lines(upstream, environ) == expected


def test_names_are_looked_up_by_one_of_the_two(write):
    path = write(upstream="use_proxy: true\ndiscover: dns")
    path.write_text(path.read_text().replace("127.0.0.1", "flowise"))
    (line,) = [str(one) for one in read(path, HTTP).mistakes if "use_proxy" in one.key]
    assert line.endswith(
        "contradicts discover: dns, because the proxy looks up the names: leave one of them out"
    )


def test_a_proxy_that_issuers_cannot_use_is_warned_of(lines):
    issuer = "{issuer: i, audience: a, jwks_url: 'https://id.example.com/jwks.json'}"
    (line,) = lines("", {"https_proxy": "socks5://x"}, f"auth: {{jwt: [{issuer}]}}")
    assert line == (
        "auth.jwt[0].jwks_url: warning: the keys are fetched without a proxy: the environment variable https_proxy"
        f" {SOCKS}"
    )


def test_a_worker_gets_the_proxies_of_its_parent(write):
    config = usable(read(write(upstream="use_proxy: true"), HTTP))
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    (server,) = copy.upstreams["main"].servers
    assert str(copy.upstreams["main"].proxy_of(server.url)) == "proxy:1"
    assert copy != usable(read(write(upstream="use_proxy: true"), {"http_proxy": "http://other:1"}))

from __future__ import annotations

import pickle

import pytest

from gateway.config.proxies import Proxy, parse_proxy, read_proxies

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy:3128", Proxy("proxy", 3128, "", "http://proxy:3128")),
        ("proxy:3128", Proxy("proxy", 3128, "", "http://proxy:3128")),
        ("proxy", Proxy("proxy", 80, "", "http://proxy")),
        ("http://proxy/", Proxy("proxy", 80, "", "http://proxy/")),
        ("http://[::1]:8", Proxy("::1", 8, "", "http://[::1]:8")),
        ("http://u:p%40@proxy:1", Proxy("proxy", 1, "Basic dTpwQA==", "http://u:p%40@proxy:1")),
        ("http://u@proxy:1", Proxy("proxy", 1, "Basic dTo=", "http://u@proxy:1")),
    ],
)
def test_a_proxy_is_read(text, proxy):
    assert parse_proxy(text) == proxy


@pytest.mark.parametrize(
    "text", ["socks5://proxy:1080", "https://proxy", "http://", "http://proxy/path", "http://a b"]
)
def test_another_kind_is_refused_with_what_would_be_right(text):
    with pytest.raises(ValueError, match=r"^is not the URL of an HTTP proxy: write one like http://proxy"):
        parse_proxy(text)


def test_no_secret_is_in_a_representation():
    proxies = read_proxies({"http_proxy": "http://user:word@proxy"})
    assert "word" not in repr(proxies)
    assert proxies.of("http", "a", 80).secrets == ("word", "dXNlcjp3b3Jk")


@pytest.mark.parametrize(
    ("environ", "scheme", "found"),
    [
        ({"http_proxy": "a"}, "http", "a:80"),
        ({"http_proxy": "a"}, "https", "None"),
        ({"HTTP_PROXY": "a"}, "http", "a:80"),
        ({"HTTP_PROXY": "a", "http_proxy": "b"}, "http", "b:80"),
        ({"HTTP_PROXY": "a", "http_proxy": ""}, "http", "a:80"),
        ({"https_proxy": "a:1"}, "https", "a:1"),
        ({"https_proxy": " "}, "https", "None"),
    ],
)
def test_the_variable_of_the_scheme_counts_small_letters_first(environ, scheme, found):
    assert str(read_proxies(environ).of(scheme, "flowise", 80)) == found


@pytest.mark.parametrize(
    ("rules", "direct", "through"),
    [
        ("*", ["a", "10.0.0.1"], []),
        ("flowise", ["flowise", "a.flowise", "FLOWISE"], ["xflowise", "flowise.example"]),
        (".example.com", ["example.com", "a.example.com"], ["badexample.com"]),
        ("*.example.com", ["a.example.com"], ["example.org"]),
        ("flowise:3000", ["flowise:3000"], ["flowise:80"]),
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.11"]),
        ("10.0.0.0/8, fd00::/8", ["10.1.2.3", "fd00::a"], ["11.0.0.1", "flowise"]),
        ("[::1]:3000", ["::1:3000"], ["::1:80"]),
        ("::1", ["::1:80"], ["::2:80"]),
        ("a,,b", ["a", "b"], ["c"]),
        ("x y, 300.0.0.0/8, :", [], ["a"]),
    ],
)
def test_no_proxy(rules, direct, through):
    proxies = read_proxies({"http_proxy": PROXY, "NO_PROXY": rules})

    def is_direct(place):
        host, colon, port = place.rpartition(":")
        host, port = (host, int(port)) if colon and port.isdecimal() else (place, 80)
        return proxies.of("http", host, port) is None

    assert [is_direct(place) for place in (*direct, *through)] == [True] * len(direct) + [False] * len(
        through
    )


NETWORK = "is no network: write one like 10.0.0.0/8, or remove it"
ENTRY = "is no domain, address or network: write entries like example.com or 10.0.0.0/8, with commas between"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("127.0.0.0/99", NETWORK),
        ("300.0.0.0/8", NETWORK),
        ("http://flowise", NETWORK),
        ("flowise:70000", ENTRY),
        ("a b", ENTRY),
        (":", ENTRY),
        ("1:2:3", ENTRY),
        ("10.*", ENTRY),
        ("*.example.*", ENTRY),
        ("256.1.1.1", ENTRY),
        ("10.0.0.1-5", ENTRY),
        ("localhost;127.0.0.1", ENTRY),
        ("[dead]", ENTRY),
        *(
            (rule, "")
            for rule in (
                "*",
                ".a",
                "*.a",
                "a.b-c_d.",
                "xn--bcher-kva.example",
                "a:1",
                "bücher.example",
                "10.0.0.1",
                "10.1.2.3/8",
                "[::1]:1",
                "::1",
                "fd00::/8",
            )
        ),
    ],
)
def test_an_entry_of_no_proxy_that_matches_nothing_is_named(rule, message):
    said = f'the environment variable NO_PROXY has "{rule}", which {message}'
    assert read_proxies({"NO_PROXY": f"b, {rule}"}).unreadable == ((said,) if message else ())


@pytest.mark.parametrize("rule", ["http://user:word@proxy:1", "user:word@proxy", "word@proxy"])
def test_a_password_that_is_there_by_mistake_is_not_shown(rule):
    (said,) = read_proxies({"no_proxy": f"a,{rule}"}).unreadable
    assert said.startswith("the environment variable no_proxy has entry 2, which is no ")
    assert "word" not in said


def test_workers_get_the_same():
    proxies = read_proxies({"http_proxy": PROXY, "https_proxy": "socks5://x", "no_proxy": "a,b/c"})
    assert pickle.loads(pickle.dumps(proxies)) == proxies
    assert list(proxies.mistakes) == ["https"]

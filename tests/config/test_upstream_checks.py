"""Several servers of an upstream: what may be written, and one line for each contradiction."""

from __future__ import annotations

import pytest
import yaml

from gateway.config import load
from gateway.config.problems import Mistakes
from gateway.config.upstream_checks import sharing_upstreams
from gateway.config.yaml_reader import read_tree

CHATFLOW = "2c5e8d0a-1111-4222-8333-444455556666"


@pytest.fixture
def found(tmp_path, raw_mistakes):
    """The mistakes of an upstream with these keys, as `key: message`."""

    def found(**upstream):
        route = {"name": "a", "chatflow": CHATFLOW, "upstream": "main", "auth": ["anonymous"]}
        text = yaml.safe_dump({"upstreams": {"main": upstream}, "routes": [route]}, sort_keys=False)
        return [f"{mistake.key}: {mistake.message}" for mistake in raw_mistakes(text)]

    return found


def urls(*written):
    return [{"url": url} for url in written]


def test_everything_that_may_be_written(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(f"""
upstreams:
  main:
    servers: [{{url: "http://flowise-a:3000"}}, {{url: "http://flowise-b:3000", weight: 2}}]
    discover: dns
    balance: least_busy
    health: {{path: "/api/v1/ping?x=1", every: 5s, timeout: 2s, fall: 4, rise: 1}}
    eject: {{failures: 6, within: 40s, for: 20s, most: 0.25}}
    max_age: 1m
    keepalive: 0s
routes: [{{name: a, chatflow: {CHATFLOW}, upstream: main, auth: [anonymous]}}]
""")
    main = load(path, {}).upstreams["main"]
    assert [(str(server.url), server.weight) for server in main.servers] == [
        ("http://flowise-a:3000", 1),
        ("http://flowise-b:3000", 2),
    ]
    assert (main.discover, main.balance, main.max_age, main.keepalive) == ("dns", "least_busy", 60.0, 0.0)
    health, eject = main.health, main.eject
    assert (health.path, health.every, health.timeout, health.fall, health.rise) == (
        "/api/v1/ping?x=1",
        5,
        2,
        4,
        1,
    )
    assert (eject.failures, eject.within, eject.for_, eject.most) == (6, 40, 20, 0.25)


@pytest.mark.parametrize(
    ("second", "is_same"),
    [
        ("http://a:3000", True),
        ("http://A:3000/", True),
        ("https://a:3000", True),
        ("http://a:3001", False),
        ("http://a:3000/two", False),
        ("http://b:3000", False),
    ],
)
def test_a_server_twice(found, tmp_path, second, is_same):
    if is_same:
        assert found(servers=urls("http://a:3000", second)) == [
            (
                "upstreams.main.servers[1].url: is the server of line 4 again: leave it out, or write weight for a"
                " larger share"
            )
        ]
    else:
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            found(servers=urls("http://a:3000", second))


@pytest.mark.parametrize("url", ["http://10.0.0.7:3000", "http://[::1]:3000"])
def test_an_address_is_no_name_to_look_up(found, url):
    assert found(servers=urls("http://a:3000", url), discover="dns") == [
        (
            "upstreams.main.servers[1].url: is an address, and discover: dns looks up names: write a host name, or"
            " discover: none"
        )
    ]


@pytest.mark.parametrize(
    ("health", "longest"),
    [({"every": "1s"}, "1s"), ({"timeout": "6s"}, "5s"), ({"every": "500ms", "timeout": "501ms"}, "500ms")],
)
def test_checks_must_not_overlap(found, health, longest):
    assert found(servers=urls("http://a"), health=health) == [
        (
            "upstreams.main.health.timeout: is longer than every, so that checks would overlap: write at most"
            f" {longest}, or raise every"
        )
    ]


@pytest.mark.parametrize(
    "health", [{"every": "0s"}, {"every": "2s"}, {"every": "3s", "timeout": "3s"}, {"every": "x"}]
)
def test_checks_that_do_not_overlap(found, health):
    lines = found(servers=urls("http://a"), health=health, unknown=1)
    assert not [line for line in lines if "overlap" in line]


@pytest.mark.parametrize(
    ("keys", "key", "said"),
    [
        ({"discover": "srv"}, "discover", '"srv" is unknown: write dns'),
        ({"discover": True}, "discover", '"true" is unknown'),
        ({"balance": "round_robin"}, "balance", '"round_robin" is unknown: write least_busy'),
        ({"balance": "hash"}, "balance", '"hash" is unknown: write conversation'),
        ({"max_age": "0s"}, "max_age", '"0s" is zero: write more than zero'),
        ({"max_age": 5}, "max_age", '"5" has no unit'),
        ({"keepalive": "500ms"}, "keepalive", '"500ms" has a part of a second, which TCP does not count'),
        (
            {"keepalive": "10h"},
            "keepalive",
            '"10h" is longer than TCP counts: write 9h or less, or 0s for none',
        ),
        (
            {"health": {"path": "ping"}},
            "health.path",
            '"ping" is not a path: write one that begins with a slash',
        ),
        ({"health": {"path": "/a b"}}, "health.path", '"/a b" is not a path'),
        ({"health": {"path": "//a"}}, "health.path", '"//a" is not a path'),
        ({"health": {"path": "/a#b"}}, "health.path", '"/a#b" is not a path'),
        ({"health": {"fall": 0}}, "health.fall", '"0" is not valid: write a whole number from 1'),
        ({"health": {"timeout": "0s"}}, "health.timeout", '"0s" is zero'),
        (
            {"health": 5},
            "health",
            "is a single value: write keys with values below it, any of every, fall, path",
        ),
        (
            {"eject": {"most": 1.5}},
            "eject.most",
            '"1.5" is not a share: write a number from 0 to 1, like 0.5',
        ),
        (
            {"eject": {"most": "50%"}},
            "eject.most",
            '"50%" is text: write a number from 0 to 1, without quotes',
        ),
        ({"eject": {"failures": 0}}, "eject.failures", '"0" is not valid'),
        ({"eject": {"for": "0s"}}, "eject.for", '"0s" is zero: write more than zero'),
        ({"eject": {"for_": "1s"}}, "eject.for_", "is not a key here: did you mean for?"),
        ({"eject": {"foor": "1s"}}, "eject.foor", "is not a key here: did you mean for?"),
        ({"weight": 2}, "weight", "is not a key here: write weight beside the url of a server"),
        ({"lb": "x"}, "lb", "is not a key here: write balance: conversation, or balance: least_busy"),
        (
            {"health_check": {}},
            "health_check",
            "is not a key here: write health: {path: /api/v1/ping, every: 5s}",
        ),
        ({"circuit_breaker": {}}, "circuit_breaker", "is not a key here: write eject: {failures: 5"),
    ],
)
def test_a_wrong_value_or_key_is_one_line(found, keys, key, said):
    (line,) = found(servers=urls("http://a"), **keys)
    assert line.startswith(f"upstreams.main.{key}: {said}")


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (0, '"0" is not valid: write a whole number from 1 to 100'),
        (101, '"101" is not valid'),
        (1.5, '"1.5" is not valid'),
        ("2", '"2" is text'),
    ],
)
def test_a_wrong_weight_is_one_line(found, weight, said):
    (line,) = found(servers=[{"url": "http://a", "weight": weight}])
    assert line.startswith(f"upstreams.main.servers[0].weight: {said}")


def test_several_mistakes_are_several_lines(found):
    lines = found(
        servers=urls("http://10.0.0.7:3000", "http://10.0.0.7:3000"), discover="dns", health={"timeout": "9s"}
    )
    assert [line.partition(":")[0] for line in lines] == [
        "upstreams.main.servers[0].url",
        "upstreams.main.servers[1].url",
        "upstreams.main.servers[1].url",
        "upstreams.main.health.timeout",
    ]


@pytest.mark.parametrize(
    ("upstreams", "sharing"),
    [
        ({"a": ["http://x"], "b": ["http://y"]}, {"a": "a", "b": "b"}),
        ({"a": ["http://x", "http://y"], "b": ["http://y/"]}, {"a": "a", "b": "a"}),
        (
            {"a": ["http://x"], "b": ["http://y"], "c": ["http://X", "http://y"]},
            {"a": "a", "b": "a", "c": "a"},
        ),
    ],
)
def test_upstreams_that_share_a_server(tmp_path, upstreams, sharing):
    path = tmp_path / "gateway.yaml"
    path.write_text(
        yaml.safe_dump({"upstreams": {name: {"servers": urls(*given)} for name, given in upstreams.items()}})
    )
    assert sharing_upstreams(read_tree(path, {}, Mistakes(str(path)))) == sharing


def test_routes_to_upstreams_that_share_any_server_bind_alike(raw_mistakes):
    text = f"""
upstreams:
  one: {{servers: [{{url: "http://a"}}, {{url: "http://b"}}]}}
  two: {{servers: [{{url: "http://c"}}, {{url: "http://b"}}]}}
routes:
  - {{name: a, chatflow: {CHATFLOW}, upstream: one, auth: [anonymous]}}
  - {{name: b, chatflow: {CHATFLOW.replace("2", "3", 1)}, upstream: two, auth: [anonymous], conversations: {{bind: false}}}}
"""
    (mistake,) = raw_mistakes(text)
    assert (mistake.key, mistake.line) == ("routes[1].conversations.bind", 7)
    assert str(mistake.message).startswith("differs from the route in line 6 to the same Flowise")

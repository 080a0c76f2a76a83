from __future__ import annotations

import pytest

from gateway.config import load

MIB = 2**20


def test_defaults_are_merged_key_by_key_and_lists_are_replaced(loaded):
    (route,) = loaded(
        """
        defaults:
          heartbeat: 1s
          max_word: 7
          conversations: {when_busy: refuse, wait: 3s}
          override_config: {allow: [a, b]}
          cors: {origins: ["https://a.example.com"]}
        """,
        route="""
        heartbeat: 2s
        conversations: {wait: 4s}
        override_config: {allow: [c]}
        """,
    ).routes
    assert (route.heartbeat, route.max_word) == (2, 7)
    assert (route.conversations.when_busy, route.conversations.wait) == ("refuse", 4)
    assert route.override_config.allow == {"c"}
    assert route.cors.origins == ("https://a.example.com",)


def test_any_key_of_a_route_may_be_a_default(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "upstreams: {main: {servers: [{url: 'http://a'}]}}\n"
        "defaults: {chatflow: 2c5e8d0a-1111-4222-8333-444455556666, upstream: main, auth: [anonymous]}\n"
        "routes: [{name: a}]\n"
    )
    (route,) = load(path, {}).routes
    assert (route.name, route.upstream, route.auth) == ("a", "main", {"anonymous"})


def test_cors_of_defaults_decides_where_no_route_is_known(loaded):
    config = loaded("defaults: {cors: {origins: [https://a.example.com]}}")
    assert config.defaults_cors.origins == ("https://a.example.com",)


def test_a_route_switches_cors_of_the_defaults_off_with_null(loaded):
    config = loaded("defaults: {cors: {origins: [https://a.example.com]}}", route="cors: null")
    assert config.routes[0].cors is None
    assert config.defaults_cors is not None


def test_a_mistake_in_the_defaults_is_reported_once_at_its_own_line(mistakes):
    (mistake,) = mistakes("defaults:\n  heartbeat: x\n")
    assert (mistake.line, mistake.key) == (2, "defaults.heartbeat")


def test_a_mistake_in_the_defaults_is_reported_although_every_route_overrides_it(messages):
    assert set(messages("defaults: {heartbeat: x}", route="heartbeat: 1s")) == {"defaults.heartbeat"}


@pytest.mark.parametrize(
    ("top", "route", "max_body"),
    [
        ("", "", MIB),
        ("", "uploads: true", 50 * MIB),
        ("server: {max_body: 500MiB}", "uploads: true", 500 * MIB),
        ("server: {max_body: 500MiB}", "uploads: ${YES}", 500 * MIB),
        ("server: {max_body: 500MiB}", "uploads: false", MIB),
        ("server: {max_body: 500MiB}", "uploads: true\nmax_body: 3MiB", 3 * MIB),
        ("defaults: {uploads: true}", "", 50 * MIB),
        ("defaults: {uploads: true}", "uploads: false", MIB),
        ("defaults: {max_body: 2MiB}", "uploads: true", 2 * MIB),
        ("server: {max_body: 1KiB}", "", 1024),
        ("server: {max_body: '${SIZE}'}", "uploads: true", 2 * MIB),
    ],
)
def test_a_route_without_max_body_takes_what_fits(loaded, top, route, max_body):
    config = loaded(top, route=route, environ={"YES": "true", "SIZE": "2MiB"})
    assert config.routes[0].max_body == max_body


@pytest.mark.parametrize("defaults", ["5", "[]", "null", "", "{conversations: 5}"])
def test_defaults_of_the_wrong_shape_are_a_mistake_and_hide_no_other(messages, defaults):
    found = messages(f"defaults: {defaults}", route="heartbeat: x")
    assert any(key.startswith("defaults") for key in found)
    assert "routes[0].heartbeat" in found


@pytest.mark.parametrize("routes", ["5", "{}", "[5]", "[]", "[[]]", "null"])
def test_routes_of_the_wrong_shape_are_a_mistake(raw_mistakes, routes):
    found = raw_mistakes(f"upstreams: {{main: {{servers: [{{url: 'http://a'}}]}}}}\nroutes: {routes}\n")
    assert all(mistake.key.startswith("routes") for mistake in found)

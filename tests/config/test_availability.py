from __future__ import annotations

import pytest

CHATFLOW = "2c5e8d0a-1111-4222-8333-444455556666"


@pytest.mark.parametrize(
    ("top", "key", "instead"),
    [
        ("server: {workers: 2}", "server.workers", "write workers: 1, or leave it out"),
        ("limits: {store: 'redis://h:6379/0'}", "limits.store", "write store: memory, or leave it out"),
        ("limits: {store: 'unix:///run/x.sock'}", "limits.store", "write store: memory, or leave it out"),
        ("limits: {when_store_fails: closed}", "limits.when_store_fails", "write when_store_fails: local"),
        ("limits: {shadow: true}", "limits.shadow", "write shadow: false, or leave it out"),
        ("limits: {shadow: '${YES}'}", "limits.shadow", "write shadow: false, or leave it out"),
        ("metrics: {per_caller: true}", "metrics.per_caller", "write per_caller: false, or leave it out"),
        ("defaults: {limits: [{name: a, concurrent: 1}]}", "defaults.limits", "write limits: []"),
    ],
)
def test_what_is_not_built_yet_is_refused_with_what_to_write_instead(told, top, key, instead):
    message = told(top, environ={"YES": "true"})[key]
    assert message.startswith("is not available yet: ")
    assert instead in message


@pytest.mark.parametrize(
    ("route", "key", "instead"),
    [
        ("limits: [{name: a, concurrent: 1}]", "routes[0].limits", "write limits: [], or leave it out"),
    ],
)
def test_what_is_not_built_yet_in_a_route_is_refused(told, route, key, instead):
    assert told(route=route) == {key: f"is not available yet: {instead}"}


def test_several_servers_are_not_available(raw_mistakes):
    found = raw_mistakes(
        "upstreams: {main: {servers: [{url: 'http://a'}, {url: 'http://b'}]}}\n"
        f"routes: [{{name: a, chatflow: {CHATFLOW}, upstream: main, auth: [anonymous]}}]\n"
    )
    assert [str(mistake.message) for mistake in found] == ["is not available yet: write one server"]


def test_values_that_ask_for_nothing_are_right(loaded):
    config = loaded(
        """
        server: {workers: 1}
        auth: {secret: "${UNSET:-}", jwt: [], session_tokens: {}, keys_file: ""}
        limits: {store: memory, when_store_fails: local, shadow: false}
        metrics: {per_caller: false}
        """,
        route="limits: []\nvars: {}\nconversations: {bind: false}",
    )
    assert config.auth.secret == ()
    assert config.auth.keys_file is None


def test_a_route_that_does_not_say_is_bound(loaded):
    assert loaded().routes[0].conversations.bind is True
    assert loaded(route="conversations: {wait: 5s}").routes[0].conversations.bind is True
    assert loaded("defaults: {conversations: {bind: false}}").routes[0].conversations.bind is False

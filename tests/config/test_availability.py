from __future__ import annotations

import pytest

CHATFLOW = "2c5e8d0a-1111-4222-8333-444455556666"


@pytest.mark.parametrize(
    ("top", "key", "instead"),
    [
        ("auth: {keys_file: keys.yaml}", "auth.keys_file", "leave it out"),
        ("auth: {session_tokens: {ttl: 5m}}", "auth.session_tokens", "leave it out"),
        ("auth: {jwt: [{audience: a}]}", "auth.jwt", "leave it out"),
        ("limits: {when_store_fails: closed}", "limits.when_store_fails", "write when_store_fails: local"),
        ("limits: {shadow: true}", "limits.shadow", "write shadow: false, or leave it out"),
        ("limits: {shadow: '${YES}'}", "limits.shadow", "write shadow: false, or leave it out"),
        ("metrics: {per_caller: true}", "metrics.per_caller", "write per_caller: false, or leave it out"),
        ("defaults: {auth: [jwt]}", "defaults.auth", "write auth: [anonymous]"),
        ("defaults: {conversations: {bind: true}}", "defaults.conversations.bind", "write bind: false"),
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
        ("conversations: {bind: true}", "routes[0].conversations.bind", "write bind: false, or leave it out"),
        ("vars: {a: b}", "routes[0].vars", "write vars: {}, or leave it out"),
    ],
)
def test_what_is_not_built_yet_in_a_route_is_refused(told, route, key, instead):
    assert told(route=route) == {key: f"is not available yet: {instead}"}


@pytest.mark.parametrize("auth", ["[api_key]", "[session]", "[anonymous, api_key]"])
def test_only_anonymous_routes_are_available(told, auth):
    assert told(auth=auth) == {"routes[0].auth": "is not available yet: write auth: [anonymous]"}


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


def test_a_route_that_does_not_say_is_not_bound_yet(loaded):
    assert loaded().routes[0].conversations.bind is False
    assert loaded(route="conversations: {wait: 5s}").routes[0].conversations.bind is False
    assert loaded("defaults: {conversations: {wait: 5s}}").routes[0].conversations.bind is False

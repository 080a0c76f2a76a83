from __future__ import annotations


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

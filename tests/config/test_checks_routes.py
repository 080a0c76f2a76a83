from __future__ import annotations

import pytest

from gateway.config import ConfigError, load

SECOND = "12345678-1111-4222-8333-444455556666"


@pytest.fixture
def two(write):
    """A configuration with two routes, of which the second has these keys."""

    def two(**keys):
        other = {"name": "other", "chatflow": SECOND, "upstream": "main", "auth": "[anonymous]"} | keys
        lines = "".join(f"    {key}: {value}\n" for key, value in other.items())
        path = write()
        path.write_text(f"{path.read_text().rstrip()}\n  -\n{lines}")
        return path

    return two


@pytest.fixture
def messages_of(two):
    def messages_of(**keys):
        with pytest.raises(ConfigError) as caught:
            load(two(**keys), {})
        return {mistake.key: mistake.message for mistake in caught.value.mistakes}

    return messages_of


def test_two_different_routes_are_right(two):
    assert [route.name for route in load(two(), {}).routes] == ["support", "other"]


def test_two_routes_with_one_name_are_a_mistake(messages_of):
    assert messages_of(name="support") == {
        "routes[1].name": "is the same as in another route, in line 7: write a different one"
    }


def test_two_routes_with_one_chatflow_are_a_mistake_in_any_case_of_letters(messages_of):
    assert messages_of(chatflow="2C5E8D0A-1111-4222-8333-444455556666") == {
        "routes[1].chatflow": "is the same as in another route, in line 8: clients name a route by it too, so write it in"
        " one route only, or duplicate the chatflow in Flowise"
    }


def test_a_name_that_looks_like_a_chatflow_is_a_mistake(messages_of):
    found = messages_of(name=SECOND)
    assert found["routes[1].name"].startswith(
        f'"{SECOND}" looks like a chatflow id: write a name of your own'
    )


def test_an_unknown_upstream_is_a_mistake_with_a_suggestion(messages_of):
    assert messages_of(upstream="mian") == {
        "routes[1].upstream": 'there is no upstream "mian": did you mean main?'
    }


def test_routes_of_one_upstream_bind_alike(two):
    with pytest.raises(ConfigError) as caught:
        load(two(conversations="{bind: false}"), {})
    messages = [m.message for m in caught.value.mistakes if m.key == "routes[1].conversations.bind"]
    assert "differs from the route in line 7 to the same Flowise: write the same in both" in messages


def test_routes_of_different_upstreams_bind_as_they_like(two):
    path = two(upstream="second", conversations="{bind: false}")
    other = "upstreams:\n  second: {servers: [{url: 'http://b'}]}"
    path.write_text(path.read_text().replace("upstreams:", other))
    assert [route.conversations.bind for route in load(path, {}).routes] == [True, False]


def test_a_body_above_that_of_the_server_is_a_mistake(messages):
    message = "is above server.max_body: write at most that, or raise server.max_body"
    assert messages(route="max_body: 51MiB") == {"routes[0].max_body": message}
    assert messages("server: {max_body: 1KiB}", route="max_body: 2KiB") == {"routes[0].max_body": message}
    assert messages("defaults: {max_body: 51MiB}") == {"defaults.max_body": message}


@pytest.mark.parametrize("method", ["api_key", "session"])
def test_keys_without_a_file_are_a_mistake(mistakes, method):
    found = mistakes("auth: {keys_file: ''}", auth=f"[{method}]")
    assert any(
        mistake.key == "routes[0].auth[0]"
        and "needs a keys file, and auth.keys_file is empty: write keys_file: keys.yaml in" in mistake.message
        for mistake in found
    )


@pytest.mark.parametrize("method", ["api_key", "session"])
def test_keys_in_the_file_that_is_named_by_default_are_a_source(loaded, method):
    assert loaded(auth=f"[{method}]").routes[0].auth == {method}


def test_tokens_without_an_issuer_are_a_mistake(mistakes, loaded):
    found = mistakes(auth="[anonymous, jwt]")
    assert any(
        mistake.key == "routes[0].auth[1]" and "needs an issuer: write" in mistake.message
        for mistake in found
    )
    found = mistakes("auth: {keys_file: keys.yaml}", auth="[jwt]")
    assert any("needs an issuer" in mistake.message for mistake in found)
    issuer = "auth: {jwt: [{issuer: i, audience: a, jwks_url: 'https://i/jwks'}]}"
    assert loaded(issuer, auth="[anonymous, jwt]").routes[0].auth == {"anonymous", "jwt"}


@pytest.mark.parametrize(
    ("limit", "key", "message"),
    [
        ("{name: a}", "", "has none of requests, tokens and concurrent: write exactly one"),
        ("{name: a, requests: 1, tokens: 1, per: 1m}", "", "has 2 of requests, tokens and concurrent"),
        ("{name: a, requests: 1}", ".per", "is missing: write the time in which the limit refills"),
        ("{name: a, tokens: 1}", ".per", "is missing: write the time in which the limit refills"),
        ("{name: a, concurrent: 1, per: 1m}", ".per", "has no effect with concurrent: leave it out"),
        ("{name: a, tokens: 1, per: 1m, burst: 1}", ".burst", "applies to requests only: leave it out"),
        ("{name: a, requests: 1, per: 1m, reserve: 1}", ".reserve", "applies to tokens only: leave it out"),
    ],
)
def test_a_limit_counts_one_thing(messages, limit, key, message):
    assert message in messages(route=f"limits: [{limit}]")[f"routes[0].limits[0]{key}"]


def test_right_limits_are_right(loaded):
    limits = """
    limits:
      - {name: burst, requests: 60, per: 1m, by: caller, burst: 10}
      - {name: daily, tokens: 200000, per: 1d, by: address, reserve: 0}
      - {name: open, concurrent: 4, by: route}
    """
    assert [limit.name for limit in loaded(route=limits).routes[0].limits] == ["burst", "daily", "open"]


def test_limits_of_one_route_have_different_names(messages):
    found = messages(route="limits: [{name: a, concurrent: 1}, {name: a, concurrent: 2}]")
    assert "is the same as in another limit, in line" in found["routes[0].limits[1].name"]


def test_a_limit_that_counts_nothing_is_one_mistake(messages):
    found = messages(route="limits: [{name: a, burst: 1, reserve: 1}]")
    assert set(found) == {"routes[0].limits[0]"}


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"upstream": "[main]"}, "upstream"),
        ({"upstream": "''"}, "upstream"),
        ({"upstream": "{a: b}"}, "upstream"),
        ({"max_body": "[]"}, "max_body"),
        ({"max_body": "x"}, "max_body"),
        ({"name": "[a]"}, "name"),
        ({"conversations": "{bind: [x]}"}, "conversations.bind"),
        ({"conversations": "{bind: maybe}"}, "conversations.bind"),
        ({"auth": "5"}, "auth"),
    ],
)
def test_a_value_of_the_wrong_shape_contradicts_nothing(two, keys, path):
    with pytest.raises(ConfigError) as caught:
        load(two(**keys), {})
    assert [mistake.key for mistake in caught.value.mistakes] == [f"routes[1].{path}"]


def test_a_server_body_of_the_wrong_shape_contradicts_nothing(messages):
    assert set(messages("server: {max_body: []}", route="max_body: 90MiB")) == {"server.max_body"}


def test_a_written_keys_file_is_a_source_even_if_its_name_is_unset(mistakes, loaded):
    assert loaded("auth: {keys_file: keys.yaml}", auth="[api_key]")
    found = mistakes("auth: {keys_file: '${UNSET}'}", auth="[api_key]")
    assert not any("needs a keys file" in mistake.message for mistake in found)


@pytest.mark.parametrize("upstreams", ["{}", "5", "[]"])
def test_without_upstreams_the_upstream_of_a_route_is_no_mistake(raw_mistakes, upstreams):
    route = "{name: a, chatflow: 2c5e8d0a-1111-4222-8333-444455556666, upstream: main, auth: [anonymous]}"
    found = raw_mistakes(f"upstreams: {upstreams}\nroutes: [{route}]\n")
    assert {mistake.key for mistake in found} == {"upstreams"}
    assert {mistake.key for mistake in raw_mistakes(f"routes: [{route}]\n")} == {"upstreams"}


@pytest.mark.parametrize(
    ("url", "is_right"),
    [("http://127.0.0.1:3000/", False), ("http://127.0.0.1:3001", True), ("HTTP://127.0.0.1:3000", False)],
)
def test_two_names_of_one_flowise_bind_alike(two, url, is_right):
    path = two(upstream="second", conversations="{bind: false}")
    other = f"upstreams:\n  second: {{servers: [{{url: '{url}'}}]}}"
    path.write_text(path.read_text().replace("upstreams:", other))
    if is_right:
        assert load(path, {})
        return
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert [m.key for m in caught.value.mistakes] == ["routes[1].conversations.bind"]


@pytest.mark.parametrize("limit", ["{name: a, <<: {requests: 1}}", "{name: a, rate: 60}", "{<<: {name: a}}"])
def test_a_limit_whose_count_may_be_under_another_name_lacks_nothing(messages, limit):
    found = messages(route=f"limits: [{limit}]")
    assert all("`<<` is not" in said or "is not a key here" in said for said in found.values())


def test_keys_of_flowise_cannot_be_ignored_and_passed_on(two, messages_of):
    assert messages_of(auth="[api_key, upstream]", foreign_credentials="ignore") == {
        "routes[1].foreign_credentials": "contradicts upstream in auth, which passes them to Flowise: leave it out, or "
        "leave upstream out"
    }
    route = load(two(auth="[api_key, upstream]", foreign_credentials="refuse"), {}).routes[1]
    assert (route.ignores_foreign, route.takes_flowise_keys) == (False, True)


@pytest.mark.parametrize(
    ("auth", "keys", "ignores"),
    [
        ("[anonymous]", {}, True),
        ("[anonymous]", {"foreign_credentials": "refuse"}, False),
        ("[anonymous, jwt]", {}, False),
        ("[api_key]", {}, False),
        ("[api_key]", {"foreign_credentials": "ignore"}, True),
        ("[upstream]", {}, False),
        ("[anonymous, upstream]", {}, False),
    ],
)
def test_foreign_credentials_are_ignored_by_default_where_none_are_taken(two, auth, keys, ignores):
    jwt = "[{issuer: i, audience: a, jwks_url: 'https://id.example.com/j'}]"
    path = two(auth=auth, **keys)
    path.write_text(f"{path.read_text()}\nauth: {{jwt: {jwt}}}\n")
    assert load(path, {}).routes[1].ignores_foreign is ignores


@pytest.mark.parametrize("origin", ["*", "null"])
def test_credentials_for_pages_of_any_site_are_a_mistake(two, messages_of, origin):
    message = "stands for pages of any site, which credentials must not allow: list the origins"
    cors = f'{{origins: ["https://a.example.com", "{origin}"], credentials: true}}'
    assert messages_of(cors=cors) == {"routes[1].cors.origins[1]": message}
    load(two(cors=cors.replace("true", "false")), {})
    path = two()
    path.write_text(f"{path.read_text()}\ndefaults:\n  cors: {cors}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert {mistake.message for mistake in caught.value.mistakes} == {message}
    assert len(caught.value.mistakes) == 1


def test_null_as_an_origin_needs_quotes(messages_of):
    assert "in quotes" in messages_of(cors="{origins: [null]}")["routes[1].cors.origins[0]"]


@pytest.mark.parametrize(
    ("auth", "text", "needed"),
    [
        ("[api_key]", "{claims.tenant}", "jwt"),
        ("[api_key]", "{claims.tenant:-none}", "jwt"),
        ("[api_key]", "a {session.tenant}", "session"),
        ("[api_key, session]", "{session.tenant:-none}", ""),
        ("[anonymous]", "{claims.tenant:-none}", ""),
        ("[api_key]", "{caller} {claims}", ""),
    ],
)
def test_a_claim_that_no_caller_has_is_a_mistake(two, auth, text, needed):
    path = two(auth=auth, vars=f"{{a: '{text}'}}")
    if "{claims}" in text:
        with pytest.raises(ConfigError, match="unknown name in braces"):
            load(path, {})
    elif needed:
        with pytest.raises(ConfigError, match=f"but no caller has it: add {needed} to auth"):
            load(path, {})
    else:
        load(path, {})

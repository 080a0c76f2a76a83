from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("top", "key", "message"),
    [
        ("sever: {}", "sever", "is not a key here: did you mean server?"),
        (
            "server: {timeouts: {header: 1s}}",
            "server.timeouts.header",
            "is not a key here: did you mean headers?",
        ),
        ("zzz: 1", "zzz", "is not a key here: write one of admin, auth, defaults, limits"),
        ('"": 1', '[""]', "is not a key here: write one of"),
        ("defaults: {hartbeat: 1s}", "defaults.hartbeat", "is not a key here: did you mean heartbeat?"),
        (
            "defaults: {cors: {origin: []}}",
            "defaults.cors.origin",
            "is not a key here: write origins",
        ),
        ("auth: {jwt: [{isuer: x}]}", "auth.jwt[0].isuer", "is not a key here: did you mean issuer?"),
        (
            "auth: {jwt: [{}]}",
            "auth.jwt[0].issuer",
            'is missing: write for example issuer: "https://id.example.com"',
        ),
        ("server: []", "server", "is a list: write keys with values below it"),
        ("server: 5", "server", "is a single value: write keys with values below it"),
        ("server:", "server", "is empty: write keys with values below it, any of buffered_bodies, drain,"),
        ("server: null", "server", "is null: write keys with values below it"),
        (
            "server: {trusted_proxies: 10.0.0.0/8}",
            "server.trusted_proxies",
            "is a single value: write a list",
        ),
        ("server: {trusted_proxies: {}}", "server.trusted_proxies", "is a mapping: write a list"),
        ("server: {workers: [1]}", "server.workers", "is a list: write a whole number"),
        (
            "server: {timeouts: {send: 0s}}",
            "server.timeouts.send",
            '"0s" is zero: write more than zero',
        ),
        ("server: {timeouts: {send: 1:30}}", "server.timeouts.send", '"1:30" is not a duration'),
        ("server: {max_body: 0B}", "server.max_body", '"0B" is zero'),
        ("auth: {secret: short}", "auth.secret", "the value is too short: write 32 bytes or more"),
        ("auth: {secret: [short]}", "auth.secret[0]", "the value is too short: write 32 bytes or more"),
        ("auth: {secret: {a: b}}", "auth.secret", "is a mapping: write a list"),
        (
            "auth: {jwt: [{algorithms: []}]}",
            "auth.jwt[0].algorithms",
            "is empty: write at least one entry, or leave it out",
        ),
        ("limits: {store: redis}", "limits.store", "the value is not a store: write memory"),
        ("logs: {level: warn}", "logs.level", '"warn" is unknown: did you mean warning?'),
        ("logs: {prompts: on}", "logs.prompts", '"on" is not a boolean: write true or false'),
    ],
)
def test_a_wrong_key_or_type_is_reported_in_plain_words(messages, top, key, message):
    found = messages(top)
    assert message in found[key]
    assert not any("Input should" in words or "valid" in words for words in found.values())


@pytest.mark.parametrize(
    ("route", "key", "message"),
    [
        ("uploads: yes", "routes[0].uploads", '"yes" is not a boolean: write true or false'),
        ("max_bdy: 1MiB", "routes[0].max_bdy", "is not a key here: did you mean max_body?"),
        ("cors:", "routes[0].cors", "is empty: write keys with values below it"),
        ("cors: {}", "routes[0].cors.origins", "is missing: write for example origins: "),
        ("cors: {origins: no}", "routes[0].cors.origins", "is a single value: write a list"),
        ("cors: {origins: [https://a/]}", "routes[0].cors.origins[0]", '"https://a/" has a slash or path'),
        (
            "conversations: {wait: 0s}",
            "routes[0].conversations.wait",
            '"0s" is zero: write more than zero',
        ),
        ("limits: [{per: x}]", "routes[0].limits[0].per", '"x" is not a duration'),
        ("limits: [{requests: null}]", "routes[0].limits[0].requests", "is null: write a whole number"),
        ("limits: [3]", "routes[0].limits[0]", "is a single value: write keys with values"),
        ("vars: {a: no}", "routes[0].vars.a", '"no" without quotes is true or false to YAML'),
        ("vars: {a: '{x}'}", "routes[0].vars.a", '"{x}" has an unknown name in braces'),
        (
            "override_config: {allow: ['*']}",
            "routes[0].override_config.allow[0]",
            "is not the name of an override",
        ),
        ("events: {withhold: [nope]}", "routes[0].events.withhold[0]", '"nope" is not an event of Flowise'),
        (
            "body: {allow: [hist]}",
            "routes[0].body.allow[0]",
            '"hist" is unknown: did you mean history?',
        ),
    ],
)
def test_a_wrong_value_in_a_route_is_reported_at_its_place(messages, route, key, message):
    assert message in messages(route=route)[key]


@pytest.mark.parametrize(
    ("route", "key", "message"),
    [
        (
            'cors: ["https://a"]',
            "cors",
            'is a list: write keys with values below it, like cors: {origins: ["https://a"]}',
        ),
        (
            'cors: "*"',
            "cors",
            'is a single value: write keys with values below it, like cors: {origins: ["*"]}',
        ),
        ("cors: true", "cors", "is a single value: write keys with values below it, like cors: "),
        (
            "cors: {origins: https://a}",
            "cors.origins",
            'is a single value: write a list, like origins: ["https://a"]',
        ),
        (
            "limits: {requests: 1}",
            "limits",
            'is one entry: write a list, with "- " before its first key and all its keys in one column, or with',
        ),
        (
            "limits: {fast: {requests: 1}}",
            "limits",
            'is a mapping: write a list, like limits: [{"name": "burst", "requests": 60',
        ),
        ("events: {withhold: {}}", "events.withhold", "is a mapping: write a list, like [one, two]"),
        (
            "vars: [a]",
            "vars",
            "is a list: write keys with values below it, like name: value, or leave it out",
        ),
    ],
)
def test_a_value_of_the_wrong_shape_is_shown_in_the_right_one(messages, route, key, message):
    assert messages(route=route)[f"routes[0].{key}"].startswith(message)


@pytest.mark.parametrize(
    ("upstreams", "key", "message"),
    [
        ("5", "", "is a single value: write keys with values below it, like upstreams: {"),
        ("{main: 'http://h'}", ".main", "is a single value: write keys with values below it, like main: {"),
        (
            "{main: {servers: 'http://h'}}",
            ".main.servers",
            "is a single value: write a list, like servers: [{",
        ),
        (
            "{main: {servers: ['http://h']}}",
            ".main.servers[0]",
            'is a single value: write keys with values below it, like {url: "http://h"}',
        ),
    ],
)
def test_an_upstream_of_the_wrong_shape_is_shown_in_the_right_one(raw_mistakes, upstreams, key, message):
    found = {
        mistake.key: mistake.message for mistake in raw_mistakes(f"upstreams: {upstreams}\nroutes: []\n")
    }
    assert found[f"upstreams{key}"].startswith(message)
    assert "leave it out" not in found[f"upstreams{key}"]


@pytest.mark.parametrize(
    ("drain", "message"),
    [
        ("30s,", "ends with a comma or semicolon: remove it"),
        ("30s;", "ends with a comma or semicolon: remove it"),
        ("' 30s'", "has white space around it: remove it"),
        ("'\"30s\"'", "has quotes that belong to the value: remove them"),
        ("$DRAIN", '"$DRAIN" is not replaced: write "${DRAIN}", with the quotes'),
        ("'{{ env.DRAIN }}'", 'is not replaced: write "${DRAIN}", with the quotes'),
        ("'{{ drain }}'", 'is not replaced: write "${NAME}", with the quotes'),
        ("x,", "is not a duration"),
    ],
)
def test_a_habit_from_elsewhere_is_named(messages, drain, message):
    assert message in messages(f"server:\n  drain: {drain}\n")["server.drain"]


def test_a_merge_key_is_one_mistake_and_nothing_that_it_may_bring_is_missing(raw_mistakes):
    text = "upstreams: {main: {<<: {servers: []}}}\nroutes: [{<<: {upstream: main}, name: a}]\n"
    assert [mistake.key for mistake in raw_mistakes(text)] == ["upstreams.main", "routes[0]"]


def test_the_name_of_an_upstream_is_checked(raw_mistakes):
    keys = {
        mistake.key: mistake.message
        for mistake in raw_mistakes("upstreams: {a b: {servers: []}}\nroutes: []\n")
    }
    assert '"a b" is not a valid name: write 1 to 64 characters of' in keys['upstreams["a b"]']
    assert keys['upstreams["a b"].servers'] == "is empty: write at least one entry"
    assert keys["routes"] == "is empty: write at least one entry"
    assert "upstreams" not in keys


def test_a_missing_key_is_reported_with_an_example(raw_mistakes):
    keys = {mistake.key: mistake.message for mistake in raw_mistakes("server: {}\n")}
    assert keys["upstreams"].startswith('is missing: write for example upstreams: {"main": {"servers"')
    assert keys["routes"].startswith('is missing: write for example routes: [{"name": "support"')
    keys = {mistake.key: mistake.message for mistake in raw_mistakes("upstreams: {main: {}}\nroutes: [{}]\n")}
    assert set(keys) == {
        "upstreams.main.servers",
        "routes[0].name",
        "routes[0].chatflow",
        "routes[0].upstream",
        "routes[0].auth",
    }
    assert keys["routes[0].auth"] == 'is missing: write for example auth: ["anonymous"]'


def test_an_entry_that_is_wrong_does_not_make_its_list_empty(messages):
    assert set(messages(auth="[nobody]")) == {"routes[0].auth[0]"}
    assert messages(auth="[]") == {"routes[0].auth": "is empty: write at least one entry"}


def test_a_value_that_could_not_be_expanded_is_reported_once(mistakes):
    (mistake,) = mistakes("server: {workers: '${UNSET}', trusted_proxies: ['10.0.0.0/8']}")
    assert mistake.key == "server.workers"
    (mistake,) = mistakes("server: !!map {}")
    assert mistake.key == "server"


def test_the_lines_are_those_of_the_keys(mistakes):
    found = mistakes("server:\n  workers: x\n  timeouts:\n    send: y\n    sned: 1s\n")
    assert [(mistake.line, mistake.key) for mistake in found] == [
        (2, "server.workers"),
        (4, "server.timeouts.send"),
        (5, "server.timeouts.sned"),
    ]


def test_the_upstream_that_is_said_to_be_missing_is_one_that_exists(raw_mistakes):
    route = "{name: a, chatflow: 3f6a9b1c-2222-4333-8444-555566667777, auth: [anonymous]}"
    (only,) = raw_mistakes(f"upstreams: {{flows: {{servers: [{{url: 'http://h'}}]}}}}\nroutes: [{route}]\n")
    assert (only.key, only.message) == (
        "routes[0].upstream",
        'is missing: write for example upstream: "flows"',
    )

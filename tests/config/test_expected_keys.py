from __future__ import annotations

import re

import pytest

from gateway.config import Config
from gateway.config.expected_keys import _EVERYWHERE, _PLACES, advice, fold, same_key
from gateway.config.route import Defaults
from gateway.config.section import Section


def sections(section=Section):
    for below in section.__subclasses__():
        yield below
        yield from sections(below)


SECTIONS = {section.__name__: section for section in sections()}


@pytest.mark.parametrize("key", ["rateLimit", "rate_limit", "RATE-LIMIT", "ratelimit"])
def test_a_key_is_known_in_any_spelling(key):
    assert advice("Config", key).startswith("write a list, like limits: [{name: burst")


def test_a_key_has_the_advice_of_its_section_before_that_of_all_sections():
    assert advice("Route", "host").startswith("clients use the paths of Flowise")
    assert advice("ServerSettings", "host").startswith("write the address and the port together")


def test_defaults_have_the_advice_of_a_route():
    assert advice("Defaults", "streaming") == advice("Route", "streaming") != ""
    assert issubclass(Defaults, Section)


def test_an_unknown_key_has_no_advice():
    assert advice("Config", "zzz") == advice("Nowhere", "zzz") == ""


def test_a_key_that_differs_in_its_spelling_is_found():
    assert same_key("maxBody", ["max_body", "max_word"]) == "max_body"
    assert same_key("body", ["max_body"]) == ""


def test_no_advice_is_given_for_a_key_that_exists():
    """When a key is added to a section, its advice has to go."""
    assert _PLACES.keys() <= SECTIONS.keys()
    for place, keys in _PLACES.items():
        assert not {fold(key) for key in SECTIONS[place].model_fields} & keys.keys()
    assert not {fold(key) for key in Config.model_fields} & _EVERYWHERE.keys()


def test_advice_names_keys_that_exist_and_keys_are_folded():
    every = {key for section in SECTIONS.values() for key in section.model_fields}
    for keys in (*_PLACES.values(), _EVERYWHERE):
        assert all(key == fold(key) for key in keys)
        for said in keys.values():
            assert set(re.findall(r"(?:write|,) ([a-z_]+):", said)) <= every
            assert set(re.findall(r"\b(?:server|auth|admin|limits)\.([a-z_]+)", said)) <= every


@pytest.mark.parametrize(
    ("top", "key", "message"),
    [
        (
            "tls: {cert: a}",
            "tls",
            "is not a key here: the gateway has no TLS of its own: put a proxy with TLS in",
        ),
        (
            "server: {port: 80}",
            "server.port",
            "is not a key here: write the address and the port together, as",
        ),
        ("services: {}", "services", "is not a key here: write upstreams"),
        ("cors: {origins: []}", "cors", "is not a key here: it belongs in defaults or routes[]"),
        ("api_key: x", "api_key", "is not a key here: it belongs in upstreams.*"),
        ("url: x", "url", "is not a key here: it belongs in upstreams.*.servers[]"),
        ("timeouts: {}", "timeouts", "is not a key here: it belongs in server or upstreams.*"),
        (
            "server: {timeouts: {head: 1s}}",
            "server.timeouts.head",
            "is not a key here: it belongs in upstreams.*.timeouts, or did you mean headers?",
        ),
        (
            "limits: {requests: 60}",
            "limits.requests",
            "is not a key here: write a list, like limits: [{name: burst",
        ),
    ],
)
def test_a_key_in_the_wrong_place_or_of_another_gateway_is_told_its_place(messages, top, key, message):
    found = messages(top)
    assert set(found) == {key}
    assert found[key].startswith(message)


@pytest.mark.parametrize(
    ("route", "key", "message"),
    [
        ("timeout: 30s", "timeout", "is not a key here: write timeouts: {connect: 5s"),
        ("timeouts: {total: 30s}", "timeouts", "is not a key here: it belongs in server or upstreams.*"),
        ("path: /chat", "path", "is not a key here: clients use the paths of Flowise: leave it out"),
        ("maxBody: 1MiB", "maxBody", "is not a key here: did you mean max_body?"),
        (
            "streaming: true",
            "streaming",
            "is not a key here: clients choose that in each request: leave it out",
        ),
        (
            "limits: [{name: a, rate: 60, window: 1m}]",
            "limits[0].rate",
            "is not a key here: write requests: 60",
        ),
    ],
)
def test_a_key_of_another_gateway_in_a_route_is_told_what_to_write(messages, route, key, message):
    found = messages(route=route)
    assert found[f"routes[0].{key}"].startswith(message)
    assert all("is not a key here" in said for said in found.values())


def test_a_list_in_the_section_of_that_name_is_told_its_place(messages):
    found = messages("limits: [{name: a, requests: 1, per: 1m}]")["limits"]
    assert found.startswith("is a list: write keys with values below it, any of ")
    assert found.endswith(", or leave it out; a list of limits belongs in defaults or routes[]")


def test_a_key_under_another_name_is_not_missing_too(raw_mistakes):
    text = "upstreams: {main: {url: 'http://h'}}\nroutes: [{name: a, id: x, upstream: main, auth: [anonymous]}]\n"
    assert [mistake.key for mistake in raw_mistakes(text)] == ["upstreams.main.url", "routes[0].id"]

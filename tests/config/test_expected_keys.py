from __future__ import annotations

import re

import pytest

from gateway.config import Config
from gateway.config.expected_keys import _EVERYWHERE, _PLACES, advice, fold, same_key
from gateway.config.route import Defaults
from gateway.config.section import Section
from gateway.config.tree import Node


def sections(section=Section):
    for below in section.__subclasses__():
        yield below
        yield from sections(below)


SECTIONS = {section.__name__: section for section in sections()}


def said(section, key):
    return advice(section, key, Node("", 1, {}), "")


@pytest.mark.parametrize("key", ["rateLimit", "rate_limit", "RATE-LIMIT", "ratelimit"])
def test_a_key_is_known_in_any_spelling(key):
    assert said("Config", key).startswith(
        "limits belong in a route or in defaults: put limits: [{name: burst"
    )
    assert said("Route", key).endswith(", requests: 60, per: 1m}] in its place")


def test_a_key_has_the_advice_of_its_section_before_that_of_all_sections():
    assert said("Route", "host").startswith("remove it, clients call a route by its name, as in Flowise")
    assert said("AdminSettings", "host") == "write listen: 127.0.0.1:9090"


def test_defaults_have_the_advice_of_a_route():
    assert said("Defaults", "streaming") == said("Route", "streaming") != ""
    assert issubclass(Defaults, Section)


def test_an_unknown_key_has_no_advice():
    assert said("Config", "zzz") == said("Nowhere", "zzz") == ""


def test_a_key_that_differs_in_its_spelling_is_found():
    assert same_key("maxBody", ["max_body", "max_word"]) == "max_body"
    assert same_key("body", ["max_body"]) == ""


def test_no_advice_is_given_for_a_key_that_exists():
    """When a key is added to a section, its advice has to go."""
    assert _PLACES.keys() <= SECTIONS.keys()
    for place, keys in _PLACES.items():
        assert not {fold(key) for key in SECTIONS[place].written_keys()} & keys.keys()
    assert not {fold(key) for key in Config.model_fields} & _EVERYWHERE.keys()


def test_advice_names_keys_that_exist_and_keys_are_folded():
    every = {key for section in SECTIONS.values() for key in section.written_keys()}
    for keys in (*_PLACES.values(), _EVERYWHERE):
        assert all(key == fold(key) for key in keys)
        for text in keys.values():
            said = text if isinstance(text, str) else f"write {text.entry}"
            assert set(re.findall(r"(?:write|,) ([a-z_]+):", said)) <= every
            assert set(re.findall(r"\b(?:server|auth|admin|limits)\.([a-z_]+)", said)) <= every


@pytest.mark.parametrize(
    ("top", "key", "message"),
    [
        (
            "tls: {cert: a}",
            "tls",
            "is not a key here: that of the public port has another place: put server: {tls: {certificate",
        ),
        ("server: {tls: {cert: a}}", "server.tls.cert", "is not a key here: write certificate"),
        ("server: {tls: {ca: a}}", "server.tls.ca", "is not a key here: write client_ca, the authorities"),
        (
            "server: {port: 80}",
            "server.port",
            "is not a key here: the address and the port are one value: write listen: 127.0.0.1:8080",
        ),
        ("services: {}", "services", "is not a key here: remove it, upstreams is in line 2 already"),
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
            "is not a key here: limits belong in a route or in defaults: put limits: [{name: burst",
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
        (
            "timeout: 30s",
            "timeout",
            "is not a key here: timeouts belong in an upstream: put timeouts: {connect: 5s",
        ),
        ("timeouts: {total: 30s}", "timeouts", "is not a key here: it belongs in server or upstreams.*"),
        (
            "path: /chat",
            "path",
            "is not a key here: remove it, clients call a route by its name, as in Flowise",
        ),
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


@pytest.mark.parametrize(
    ("top", "key", "message"),
    [
        ("port: 80", "port", "write server: {listen: 127.0.0.1:8080} at the top level"),
        (
            "server: {drain: 1s}\nport: 80",
            "port",
            "write listen: 127.0.0.1:8080 in the top-level section server",
        ),
        (
            "port: 80\nserver: {listen: h:1}",
            "port",
            "write listen: 127.0.0.1:8080 in place of the listen in line 2",
        ),
        ("server: {listen: h:1, port: 80}", "server.port", "remove it, listen is in line 1 already"),
        ("server: {listen: h:1, lisen: h:2}", "server.lisen", "remove it, listen is in line 1 already"),
        ("server: {maxBody: 1B, max_body: 1B}", "server.maxBody", "remove it, max_body is in line 1 already"),
        ("auth: {keys_fil: k}", "auth.keys_fil", "did you mean keys_file?"),  # which has a default
        ("redis: x", "redis", "write limits: {store: redis://127.0.0.1:6379/0} at the top level"),
        ("redis: x\nlimits: {store: memory}", "redis", "in place of the store in line 2"),
    ],
)
def test_what_is_said_can_be_copied_to_where_it_belongs(messages, top, key, message):
    assert messages(top)[key].endswith(message)


def test_keys_that_are_there_already_are_not_said_again(messages):
    found = messages(route="limits: [{name: a, rate: 60, per: 1m}, {name: b, rate: 60}]")
    assert found["routes[0].limits[0].rate"] == "is not a key here: write requests: 60"
    assert found["routes[0].limits[1].rate"] == "is not a key here: write requests: 60 and per: 1m"

from __future__ import annotations

import pytest

from gateway.config.remedies import entry_in, for_unset, present, without_present
from gateway.config.tree import Node, plain_scalar


def mapping(path="", **entries):
    return Node(path, 1, {key: Node(key, 2, value) for key, value in entries.items()})


VALUE = plain_scalar("x")
ROOT = mapping(server=mapping("server", listen=VALUE).value, logs={})


@pytest.mark.parametrize(
    ("section", "entry", "at", "said"),
    [
        ("auth", "secret: x", "", "auth: {secret: x} at the top level"),
        ("auth", "secret: x", "auth", "auth: {secret: x} at the top level"),
        ("logs", "level: info", "", "level: info in the top-level section logs"),
        ("logs", "level: info", "logs", "level: info"),
        ("server", "listen: a:1", "", "listen: a:1 in place of the listen in line 2"),
        ("server", "listen: a:1", "server", "listen: a:1"),
    ],
)
def test_an_entry_is_written_for_the_place_of_its_author(section, entry, at, said):
    assert entry_in(ROOT, section, entry, at) == said


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("write a: 1 and b: 2", "write a: 1 and b: 2"),
        ("write a: 1 and there: 2", "write a: 1"),
        ("write there: 1", "remove it, there is in line 2 already"),
        ("this is one: write there, which is better", "remove it, there is in line 2 already"),
        ("write thereby", "write thereby"),
    ],
)
def test_advice_leaves_out_what_is_there(said, left):
    assert without_present(said, mapping(there=VALUE)) == left


def test_another_name_of_a_key_is_to_be_removed():
    assert present("there", mapping(there=VALUE)) == "remove it, there is in line 2 already"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("auth.secret", "set it, for example to the output of `openssl rand -hex 32`"),
        ("auth.secret[1]", "set it, for example to the output of `openssl rand -hex 32`"),
        ("admin.token", "set it, for example to the output of `openssl rand -hex 32`"),
        ("upstreams.main.servers[0].url", "set it"),
        ("server.listen", "set it"),
        ("upstreams.main.api_key", ""),
        ("auth.keys_file", ""),
        ("routes[0].vars.tenant", ""),
        ('defaults.vars["a b"]', ""),
    ],
)
def test_an_empty_default_is_advised_only_where_nothing_is_a_value(path, said):
    assert for_unset(path) == said

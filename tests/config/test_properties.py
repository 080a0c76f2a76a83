"""Any file gives a Config, or a ConfigError whose mistakes have a line and a message; never another error."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, load, schema_json

FULL = Path(__file__).parents[2] / "config" / "gateway.full.yaml"
EVERYTHING = yaml.safe_load(re.sub(r"^#(?=[^# ]|  )", "", FULL.read_text(), flags=re.MULTILINE))
KEYS = sorted(set(re.findall(r'"([a-z_]+)": \{', schema_json())))
PLANTED = [
    "7531902468",
    "{pLaNtEd}",
    "10.77.88.99/8",
    "http://user:pLaNtEd@h",
    "9876MB",
    "pLaNtEd words\nand lines",
]

words = st.sampled_from(
    [*KEYS, "main", "support", "memory", "anonymous", "no", "1m", "${X}", "${Y:-5}", "${", "*x"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | words | st.text()
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(words | st.text(), below, max_size=6),
    max_leaves=30,
)
relaxed = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=60,
)


def check(path, content):
    path.write_bytes(content)
    lines = len(re.split("[\n\r\x85\u2028\u2029]", content.decode("utf-8", "replace")))
    for mistake in mistakes_in(path):
        assert 1 <= mistake.line <= lines
        assert len(str(mistake).splitlines()) == 1
        str(mistake).encode()
        assert "Input should" not in mistake.message
        assert ": " in mistake.message


def mistakes_in(path):
    try:
        config = load(path, {"X": "value"})
    except ConfigError as refused:
        return refused.mistakes or pytest.fail("an error without a mistake")
    return [] if isinstance(config, Config) else pytest.fail("no configuration")


@relaxed
@given(tree=trees)
def test_any_tree_is_a_configuration_or_a_list_of_mistakes(tmp_path, tree):
    check(tmp_path / "gateway.yaml", yaml.dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@relaxed
@given(tree=st.dictionaries(st.sampled_from(sorted(EVERYTHING)), trees))
@example(tree={"upstreams": {"\r": None}})
def test_any_tree_below_known_keys_is_too(tmp_path, tree):
    check(tmp_path / "gateway.yaml", yaml.dump(tree).encode())


@relaxed
@given(content=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(content=b'a: "\\UFFFFFFFF"')
@example(content=b"? {a: b}\n: c")
@example(content=b"a: \xe2\x80\xa8b: c: d")
def test_any_bytes_are_too(tmp_path, content):
    check(tmp_path / "gateway.yaml", content)


@relaxed
@given(data=st.data())
def test_a_valid_file_with_one_place_changed_is_too(tmp_path, data):
    text = FULL.read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    middle = data.draw(
        st.sampled_from(["", "no", "*x", "&x", "<<: ", "- ", "{", "]", "${", "'", "\t", "null", "!!str "])
    )
    check(tmp_path / "gateway.yaml", (text[:start] + middle + text[end:]).encode())


def places(tree, path=()):
    if isinstance(tree, dict):
        for key, below in tree.items():
            yield from places(below, (*path, key))
    elif isinstance(tree, list) and tree:
        for index, below in enumerate(tree):
            yield from places(below, (*path, index))
    else:
        yield path


def planted_at(path):
    tree = json.loads(json.dumps(EVERYTHING, default=str))
    node = tree
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = "${PLANTED}"
    return tree


@pytest.mark.parametrize("secret", PLANTED)
def test_a_value_from_the_environment_is_in_no_message(tmp_path, secret):
    path = tmp_path / "gateway.yaml"
    seen = 0
    for place in places(EVERYTHING):
        path.write_text(yaml.dump(planted_at(place), allow_unicode=True))
        for mistake in mistakes_of(path, {"PLANTED": secret}):
            seen += 1
            assert secret.split("\n")[0] not in str(mistake)
            assert "pLaNtEd" not in str(mistake)
    assert seen > 50


def mistakes_of(path, environ):
    try:
        load(path, environ)
    except ConfigError as error:
        return error.mistakes
    return []  # it is right there

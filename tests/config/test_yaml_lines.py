"""Where a line belongs by its indentation, in texts that are not YAML."""

from __future__ import annotations

import pytest

from gateway.config.yaml_lines import LOOKED_AT, content, nearest_indentations, opens_block, path_at

TEXT = """\
server:
  listen: a:1
upstreams:
  main:
    servers:
    - url: http://h
    - url: http://i
      x = 1
routes:
  - name: a
    # name: b
    limits:
      - name: b
      - {name: c}
        per: 1m
   upstream: m
  - cors:
      origins: [
        "x"
    "name" : b
      too: deep
{
"json": {
  "key": 1
""".splitlines()


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("server:", "server"),
        ("  listen: a:1", "server.listen"),
        ("    - url: http://i", "upstreams.main.servers[1].url"),
        ("      x = 1", "upstreams.main.servers[1].x"),
        ("      - {name: c}", "routes[0].limits[1]"),
        ("   upstream: m", "routes[0].upstream"),
        ("  - cors:", "routes[1].cors"),
        ('        "x"', "routes[1].cors.origins"),
        ('    "name" : b', "routes[1].name"),
        ("      too: deep", "routes[1].too"),
        ('  "key": 1', "json.key"),
    ],
)
def test_the_path_of_a_line_is_that_of_its_key_or_of_what_it_belongs_to(line, path):
    assert path_at(TEXT, TEXT.index(line)) == path


def test_a_tab_is_as_deep_as_the_line_before_it():
    assert path_at(["a:", "  - b: 1", "\tc: 2"], 2) == "a[0].c"
    assert path_at(["a:", "\tb: 1"], 1) == "a.b"


def test_a_line_behind_the_end_belongs_to_the_top():
    assert path_at(TEXT, len(TEXT)) == path_at([], 0) == path_at(["", "x"], 1) == ""


def test_a_wrong_indentation_counts_as_the_nearest_right_one():
    assert path_at(["a:", "  - b", " - c"], 2) == "a[1]"


def test_only_open_blocks_are_near():
    """Line 2 has an indentation of two spaces as well, but in another section."""
    assert nearest_indentations(TEXT, TEXT.index("   upstream: m")) == [(4, 11)]
    assert nearest_indentations(["a:", "  b: 1", "  c:", "    d: 1", "   e: 1"], 4) == [(4, 3), (2, 2)]
    assert nearest_indentations(["a:", "  - b", " - c"], 2) == [(2, 1)]
    assert nearest_indentations([" a: 1"], 0) == []


@pytest.mark.parametrize("line", ["a:", "- a: # b", "a: |", "a: >-", '"a": {', "a: ["])
def test_a_line_without_a_value_opens_a_block(line):
    assert opens_block(line)


@pytest.mark.parametrize("line", ["a: 1", "- a", "a: {}", "a: 'x:y'", ""])
def test_a_line_with_a_value_opens_none(line):
    assert not opens_block(line)


def test_only_the_beginning_of_a_long_line_is_looked_at():
    assert content("a: " + "?" * 2 * LOOKED_AT) == "a: " + "?" * (LOOKED_AT - 3)

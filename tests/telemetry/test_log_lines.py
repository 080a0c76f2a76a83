"""A line is at most 16 KiB of JSON, and nothing in it looks like something else."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import LogSettings
from gateway.telemetry.log_lines import MAX_LINE, escaped, size_of, within_bound
from gateway.telemetry.logs import make_logger

DECEPTIVE = [
    "\x7f",
    "\x80",
    "\x85",
    "\x9b",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\U000e0041",
]


def logged(form="json", **fields):
    out = io.StringIO()
    make_logger(LogSettings(format=form), out).info("request_like", **fields)
    return out.getvalue()


@pytest.mark.parametrize("character", DECEPTIVE)
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_character_that_deceives_is_escaped(character, form):
    line = logged(form, client=f"a{character}b", é="ü")
    assert character not in line
    assert "ü" in line
    assert len(line.splitlines()) == 1
    if form == "json":
        assert json.loads(line)["client"] == f"a{character}b"


@given(st.text())
def test_the_value_stays_the_same(text):
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize(
    "value",
    [
        "x" * 900_000,
        "\u202e" * 5000,
        "😀" * 100_000,
        "\x01" * 100_000,
        ["n" * 40] * 20_000,
        {"a": ["b" * 100] * 10_000},
        {"n" * 100 + str(n): n for n in range(10_000)},
        [["x" * 100] * 100] * 100,
    ],
    ids=range(8),
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_line_that_is_too_long_is_cut_where_it_is_long_and_says_so(value, form):
    line = logged(form, error=value, request_id="r1", prompt="what is it?")
    assert size_of(line) <= MAX_LINE + 1
    assert "cut here" in line or isinstance(value, dict)
    assert "r1" in line
    assert "what is it?" in line
    if form == "json":
        assert json.loads(line)["request_id"] == "r1"


def test_a_line_within_the_bound_is_not_touched():
    line = {"a": "x" * (MAX_LINE - 10)}
    assert within_bound(line, json.dumps) == json.dumps(line)


def test_of_a_long_traceback_the_end_stays():
    def deep(n):
        if n:
            deep(n - 1)
        raise ZeroDivisionError("not today")

    out = io.StringIO()
    try:
        deep(100)
    except ZeroDivisionError as error:
        make_logger(LogSettings(), out).error("bug", exc_info=error, message="y" * 20_000)
    line = json.loads(out.getvalue())
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ZeroDivisionError: not today")
    assert len(line["message"]) < 20_000


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_is_logged_is_one_line_of_json(value):
    line = logged(value=value)
    assert len(line.splitlines()) == 1
    assert "value" in json.loads(line)

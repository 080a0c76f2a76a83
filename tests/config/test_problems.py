from __future__ import annotations

import pytest

from gateway.config import ConfigError
from gateway.config.problems import LONGEST_QUOTE, MOST_MISTAKES, Mistakes, did_you_mean, join_path, quote


def test_mistakes_are_raised_in_the_order_of_the_file_and_once_each():
    mistakes, others = Mistakes("a.yaml"), Mistakes("a.yaml")
    mistakes.raise_if_any()
    mistakes.add(10, "b", "is wrong: write right")
    others.add(9, "", "is wrong: write right")
    others.add(10, "b", "is wrong: write right")
    mistakes.add_all(others)
    with pytest.raises(ConfigError) as caught:
        mistakes.raise_if_any()
    assert str(caught.value).splitlines() == [
        "a.yaml:9: is wrong: write right",
        "a.yaml:10: b: is wrong: write right",
    ]


def test_of_very_many_mistakes_the_first_ones_are_reported_and_that_there_are_more():
    mistakes, others = Mistakes("a.yaml"), Mistakes("a.yaml")
    for line in range(MOST_MISTAKES):
        mistakes.warn(line + 1, "", "is odd")
    others.add(1, "b", "is wrong: write right")
    mistakes.add_all(others)
    with pytest.raises(ConfigError) as caught:
        mistakes.raise_if_any()
    assert str(caught.value) == "a.yaml: has more mistakes than 1000: mend these first"


@pytest.mark.parametrize(
    ("path", "key", "joined"),
    [("", "a", "a"), ("a", "b-1", "a.b-1"), ("a", "b c", 'a["b c"]'), ("", "", '[""]')],
)
def test_a_path_names_plain_keys_with_dots_and_quotes_others(path, key, joined):
    assert join_path(path, key) == joined


def test_a_quote_is_one_line_of_limited_length():
    assert quote("a\nb") == '"a\\nb"'
    assert quote("x" * 1000) == f'"{"x" * (LONGEST_QUOTE - 1)}…"'


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [("Maim", "did you mean main?"), ("zzz", "write one of main, other"), ("OTHER", "did you mean other?")],
)
def test_a_suggestion_is_the_closest_word_or_all_of_them(word, suggestion):
    assert did_you_mean(word, ["other", "main"]) == suggestion


def test_the_start_of_one_word_stands_for_it_although_another_one_is_closer():
    known = ["GATEWAY_TLS_KEY", "GATEWAY_TLS_CERTIFICATE"]
    assert did_you_mean("GATEWAY_TLS_CERT", known) == "did you mean GATEWAY_TLS_CERTIFICATE?"


def test_a_warning_is_no_reason_to_raise_and_says_that_it_is_one():
    mistakes = Mistakes("a.yaml")
    mistakes.warn(1, "b", "is odd: write another")
    mistakes.raise_if_any()
    assert [str(mistake) for mistake in mistakes.in_order] == ["a.yaml:1: b: warning: is odd: write another"]
    mistakes.add(2, "c", "is wrong: write right")
    with pytest.raises(ConfigError) as caught:
        mistakes.raise_if_any()
    assert [mistake.key for mistake in caught.value.mistakes] == ["c"]

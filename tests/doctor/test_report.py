"""Findings become a table, JSON and an exit status; secrets are taken out of them."""

from __future__ import annotations

import json

import pytest

from gateway.doctor.report import as_json, as_table, failed, ok, status, warning, without

FINDINGS = [
    ok("server", "main", "answers"),
    warning("secret", "", "is not set"),
    failed("key", "b", "is wrong"),
]


def test_the_table_is_aligned():
    assert as_table(FINDINGS).splitlines() == [
        *("✓  server  main  answers", "!  secret        is not set", "✗  key     b     is wrong")
    ]
    assert as_table(FINDINGS, is_plain=True).isascii()


def test_json_has_the_same():
    assert json.loads(as_json(FINDINGS))["findings"][1] == {
        "level": "warning",
        "check": "secret",
        "subject": "",
        "sentence": "is not set",
    }


@pytest.mark.parametrize(
    ("count", "strict", "expected"), [(1, True, 0), (2, False, 0), (2, True, 1), (3, False, 1), (3, True, 1)]
)
def test_the_status_follows_from_the_worst(count, strict, expected):
    assert status(FINDINGS[:count], is_strict=strict) == expected


def test_secrets_are_taken_out_and_empty_ones_do_not_count():
    (found,) = without({"hunter2", ""}, [failed("key", "hunter2", "is hunter2.")])
    assert (found.subject, found.sentence) == ("***", "is ***.")


@pytest.mark.parametrize("secrets", [["abc", "abc-def"], ["abc-def", "abc"]])
def test_a_secret_that_begins_with_another_one_is_taken_out_whole(secrets):
    (found,) = without(secrets, [failed("key", "", "is abc-def.")])
    assert found.sentence == "is ***."


def test_what_flowise_names_moves_no_cursor_and_begins_no_line():
    table = as_table([ok("route", "chat", "chatflow \x1b[2J\nfoo answers")])
    assert table.splitlines() == ["✓  route  chat  chatflow \\x1b[2J\\nfoo answers"]

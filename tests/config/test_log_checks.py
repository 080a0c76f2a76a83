"""Renames that would put two values under one name."""

from __future__ import annotations

import pytest

from gateway.config import read

OTHER = "is the name of another field: write another one, or drop or rename {} too"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ("rename: {ttft_s: duration_s}", {"ttft_s": OTHER.format("duration_s")}),
        ("rename: {event: message}", {"event": OTHER.format("message")}),
        (
            "rename: {caller: who, client: who}",
            {"client": "is the new name of caller already: write another one"},
        ),
        (
            "rename: {auth: auth}",
            {"auth": "is the name that the field has: leave it out, or write another one"},
        ),
        (
            "drop: [client], rename: {client: ip}",
            {"client": "is under drop as well: leave it out here, or there"},
        ),
    ],
)
def test_a_name_for_two_fields_is_a_mistake(messages, fields, found):
    expected = {f"logs.fields.rename.{name}": message for name, message in found.items()}
    assert messages(f"logs: {{fields: {{{fields}}}}}") == expected


@pytest.mark.parametrize(
    "fields",
    [
        "rename: {event: message, message: text}",
        "rename: {caller: client, client: caller}",
        "drop: [client], rename: {caller: client}",
        'rename: {time: "@timestamp", outcome: event.outcome}',
    ],
)
def test_a_name_that_is_free_by_then_is_right(loaded, fields):
    assert loaded(f"logs: {{fields: {{{fields}}}}}").logs.fields.rename


@pytest.mark.parametrize(("sample", "is_warned"), [("0.1", True), ("1", False), ("0", False)])
def test_lines_of_a_sample_that_do_not_say_their_share_are_warned_of(write, sample, is_warned):
    found = read(write(f"logs: {{sample: {sample}, fields: {{drop: [client, sample]}}}}"), {}).warnings
    said = "says how many successes each line stands for, as logs.sample leaves some out: remove it from drop"
    assert (("logs.fields.drop[1]", said) in [(one.key, one.message) for one in found]) is is_warned
    assert not [one for one in found if one.key.startswith("logs.fields") and not is_warned]


def test_a_sample_may_have_another_name(write):
    path = write("logs: {sample: 0.1, fields: {rename: {sample: share}}}")
    assert not [one for one in read(path, {}).mistakes if one.key.startswith("logs")]

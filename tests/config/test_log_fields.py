"""Names in `logs.fields`, and `logs.file`."""

from __future__ import annotations

import pytest

from gateway.config import read
from gateway.config.log_fields import NEEDED, OTHER_FIELDS, REQUEST_FIELDS, log_field


def test_no_field_is_listed_twice_and_those_that_are_needed_are_fields():
    assert not REQUEST_FIELDS & OTHER_FIELDS
    assert set(NEEDED) <= REQUEST_FIELDS
    assert {log_field(name) for name in REQUEST_FIELDS | OTHER_FIELDS} == REQUEST_FIELDS | OTHER_FIELDS


@pytest.mark.parametrize(
    ("fields", "key", "message"),
    [
        ("drop: [cleint]", "drop[0]", '"cleint" is not a field of the log: did you mean client?'),
        (
            "drop: [xyzzy]",
            "drop[0]",
            '"xyzzy" is not a field of the log: write a name that a line of the log has',
        ),
        (
            "drop: [event]",
            "drop[0]",
            '"event" is needed in every line: leave it out here, or give it another name under rename',
        ),
        ("rename: {outcom: x}", "rename.outcom", '"outcom" is not a field of the log: did you mean outcome?'),
        (
            'rename: {event: "a b"}',
            "rename.event",
            '"a b" is no name of a field: write 1 to 64 of A-Z a-z 0-9 _ . @ -, beginning with a letter, _ or @',
        ),
        (
            "rename: {event: 3}",
            "rename.event",
            '"3" without quotes is a number to YAML: write "3" in quotes if that is meant',
        ),
    ],
)
def test_a_name_that_is_wrong_is_named_with_what_would_be_right(messages, fields, key, message):
    assert messages(f"logs: {{fields: {{{fields}}}}}") == {f"logs.fields.{key}": message}


def test_a_file_is_beside_the_configuration_and_may_not_exist_yet(loaded, tmp_path):
    assert loaded("logs: {file: gateway.log}").logs.file == tmp_path / "gateway.log"
    assert loaded('logs: {file: ""}').logs.file is None
    assert loaded("").logs.file is None


def test_a_file_in_a_folder_that_does_not_exist_and_what_is_no_file_are_mistakes(messages):
    there = "is in a folder that does not exist: create the folder, or write a path in another folder"
    assert messages("logs: {file: no/gateway.log}") == {"logs.file": f'"no/gateway.log" {there}'}
    what = "is not a regular file: name one, or one that does not exist yet; leave it out for standard output"
    for name in (".", "/dev/null"):
        assert messages(f"logs: {{file: {name}}}") == {"logs.file": f'"{name}" {what}'}


def test_fields_without_effect_are_a_warning(write):
    reading = read(write("logs: {format: console, fields: {drop: [client]}}"), {})
    found = {warning.key: warning.message for warning in reading.warnings}
    assert found["logs.fields"] == "has no effect on lines for reading: write format: json, or leave it out"
    without = read(write("logs: {format: console, fields: {drop: []}}"), {}).warnings
    assert "logs.fields" not in {warning.key for warning in without}

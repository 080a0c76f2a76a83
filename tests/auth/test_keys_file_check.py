"""Contradictions between the entries of a keys file."""

from __future__ import annotations

import pytest

from gateway.auth.keys_file import read_keys
from gateway.config import ConfigError
from tests.harness.key_files import entry, key_id, keys_text


@pytest.fixture
def mistakes_in(tmp_path):
    """Line, key and message of the mistakes in a file with these entries, each of 5 lines or more."""

    def mistakes_in(*entries):
        path = tmp_path / "keys.yaml"
        path.write_text(keys_text(*entries))
        try:
            read_keys(path)
        except ConfigError as error:
            return [(mistake.line, mistake.key, mistake.message) for mistake in error.mistakes]
        return []

    return mistakes_in


def test_two_keys_with_one_id_are_refused(mistakes_in):
    assert mistakes_in(entry(1), entry(2), entry(3, id=f'"{key_id(1)}"')) == [
        (10, "keys[2].id", "the key in line 2 has the same id: remove one of them")
    ]


def test_two_keys_with_one_name_are_refused_unless_one_replaced_the_other(mistakes_in):
    (mistake,) = mistakes_in(entry(1, "ann"), entry(2), entry(3, "ann"))
    message = "the key in line 3 has the same name: write another one, or replaced_by in the older key"
    assert mistake == (11, "keys[2].name", message)
    assert mistakes_in(entry(1, "ann", replaced_by=key_id(3)), entry(2), entry(3, "ann")) == []


def test_the_name_of_a_revoked_key_cannot_be_used_again(mistakes_in):
    assert [
        line for line, *_ in mistakes_in(entry(1, "ann", revoked="2026-01-31T08:00:00Z"), entry(2, "ann"))
    ] == [8]


@pytest.mark.parametrize("successor", [key_id(1), key_id(3), "00000000"])
def test_a_key_is_replaced_by_another_of_its_name_only(mistakes_in, successor):
    (mistake,) = mistakes_in(entry(1, "ann", replaced_by=f'"{successor}"'), entry(2, "ann"), entry(3))
    assert mistake[:2] == (6, "keys[0].replaced_by")
    assert mistake[2].startswith("is not the id of another key of this name: write the id of its successor")


def test_keys_that_replace_each_other_in_a_circle_are_refused(mistakes_in):
    found = mistakes_in(entry(1, "ann", replaced_by=key_id(2)), entry(2, "ann", replaced_by=key_id(1)))
    assert [(line, key) for line, key, _ in found] == [
        (6, "keys[0].replaced_by"),
        (11, "keys[1].replaced_by"),
    ]
    assert found[0][2] == "makes a circle: leave it out in the newest key of this name"


def test_contradictions_are_reported_beside_wrong_values(mistakes_in):
    found = mistakes_in(
        entry(1, "ann", colour="red", replaced_by=""), entry(2, "ann"), entry(2, "bob", created="x")
    )
    assert [(line, key) for line, key, _ in found] == [
        (6, "keys[0].colour"),
        (7, "keys[0].replaced_by"),
        (12, "keys[2].id"),
        (15, "keys[2].created"),
    ]


def test_limits_of_two_keys_may_have_one_name_and_those_of_one_key_may_not(mistakes_in):
    limit = "{name: open, concurrent: 1}"
    assert mistakes_in(entry(1, limits=f"[{limit}]"), entry(2, limits=f"[{limit}]")) == []
    (mistake,) = mistakes_in(entry(1), entry(2, limits=f"[{limit}, {limit}]"))
    assert mistake[:2] == (10, "keys[1].limits[1].name")


def test_a_contradiction_in_a_limit_is_reported_with_its_line(mistakes_in):
    found = mistakes_in(entry(1), entry(2, limits="[{name: a, concurrent: 1, per: 1m, by: route}]"))
    assert [(line, key) for line, key, _ in found] == [
        (10, "keys[1].limits[0].by"),
        (10, "keys[1].limits[0].per"),
    ]

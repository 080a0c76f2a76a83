from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys_model import ApiKey, format_moment, key_name, parse_moment
from tests.harness.key_files import NOW, key


def entry(**values):
    return ApiKey.model_construct(
        id="a8Xk2LmQ", name="backend", hash="sha256:" + "0" * 64, created=NOW, **values
    )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-01-31T08:00:00Z", NOW),
        ("2026-01-31T08:00:00.25Z", NOW + 0.25),
        ("2024-02-29T23:59:59Z", 1709251199.0),
    ],
)
def test_a_time_is_rfc_3339_in_utc(text, moment):
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90d",
        "2026-01-31",
        "2026-01-31 08:00:00Z",
        "2026-01-31T08:00Z",
        "2026-01-31T08:00:00",
        "1769846400",
        "2026-01-31T09:00:00+01:00",
        "2026-01-31T08:00:00Z\n",
        "٢٠٢٦-01-31T08:00:00Z",
    ],
)
def test_another_form_of_time_is_refused(text):
    with pytest.raises(ValueError, match=r"^is not a time: write a time in UTC like 2026-12-31T23:59:59Z$"):
        parse_moment(text)


@pytest.mark.parametrize("text", ["2026-02-30T08:00:00Z", "2026-01-31T24:00:01Z", "0000-01-01T00:00:00Z"])
def test_a_time_outside_of_the_calendar_is_refused(text):
    with pytest.raises(ValueError, match=r"^is not a date of the calendar"):
        parse_moment(text)


@given(st.integers(0, 10_000_000_000))
def test_a_time_in_whole_seconds_is_read_as_it_was_written(moment):
    assert parse_moment(format_moment(moment)) == moment


def test_a_name_cannot_be_a_key_because_names_are_logged():
    with pytest.raises(ValueError, match=r"^is a key, not a name: write a name, and revoke the key"):
        key_name(key(1))
    assert key_name("back-end_1.2") == "back-end_1.2"
    with pytest.raises(ValueError, match=r"^is not a valid name: write 1 to 64"):
        key_name("a b")


def test_a_key_without_expiry_never_expires():
    assert entry().is_valid(1e12)


def test_a_key_ends_at_the_very_second_of_its_expiry():
    assert entry(expires=NOW).is_valid(NOW - 0.001)
    assert not entry(expires=NOW).is_valid(NOW)


def test_a_key_revoked_in_the_future_is_not_valid():
    assert not entry(revoked=NOW + 1e9).is_valid(NOW)


def test_repr_shows_no_hash():
    assert "0000" not in repr(entry())

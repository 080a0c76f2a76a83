from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.values import (
    LARGEST_SIZE,
    LONGEST_DURATION,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


def is_between_or_sentence(parse, text, largest):
    try:
        return 0 <= parse(text) <= largest
    except ValueError as error:
        return ": write" in str(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("2m", 120), ("1h", 3600), ("90d", 90 * 86400), ("0s", 0), ("005s", 5)],
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("512B", 512), ("64KiB", 65536), ("50MiB", 52428800), ("1GiB", 1024**3), ("0B", 0)],
)
def test_a_size_is_read_in_bytes(text, size):
    assert parse_size(text) == size


@given(st.integers(0, LONGEST_DURATION * 1000))
def test_every_duration_comes_back_from_its_text(milliseconds):
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds
    assert format_duration(parse_duration(text)) == text


@given(st.integers(0, LARGEST_SIZE))
def test_every_size_comes_back_from_its_text(size):
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_any_text_is_a_duration_or_a_sentence(text):
    assert is_between_or_sentence(parse_duration, text, LONGEST_DURATION)


@given(st.text())
def test_any_text_is_a_size_or_a_sentence(text):
    assert is_between_or_sentence(parse_size, text, LARGEST_SIZE)


@pytest.mark.parametrize(
    "text", ["", "s", "5 s", "-5s", "1.5s", "1h30m", "5S", "٥s", "1:30", "5s\n", "9" * 5000 + "s"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration: write a whole number and a unit"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "MiB", "5 MiB", "-5B", "1.5MiB", "5mib", "5b", "5TiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is not a size: write a whole number and a unit"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10MB", 'MiB in place of "MB"'),
        ("10M", 'MiB in place of "M"'),
        ("10k", 'KiB in place of "k"'),
        ("1 GB", 'GiB in place of " GB"'),
    ],
)
def test_a_decimal_size_is_refused_with_the_binary_unit(text, said):
    with pytest.raises(ValueError, match=f"decimal unit: write {said}$"):
        parse_size(text)


@pytest.mark.parametrize(("parse", "unit"), [(parse_duration, "30s"), (parse_size, "50MiB")])
def test_a_number_without_a_unit_is_refused_with_examples(parse, unit):
    with pytest.raises(ValueError, match=f"has no unit: write one after the number, .*{unit}"):
        parse("30")


def test_too_large_amounts_are_refused():
    assert parse_duration("3650d") == LONGEST_DURATION
    with pytest.raises(ValueError, match="too long: write 3650d or less"):
        parse_duration("3651d")
    assert parse_size("1024GiB") == LARGEST_SIZE
    with pytest.raises(ValueError, match="too large: write 1024GiB or less"):
        parse_size("1025GiB")

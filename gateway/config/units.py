"""Durations and sizes as people write them: text to number and back (pure).

Every `ValueError` here is the rest of a sentence that begins with what was written; none repeats it.
"""

from __future__ import annotations

import re

DURATION_EXAMPLES = "500ms 5s 2m 1h 90d"
SIZE_EXAMPLES = "512B 64KiB 50MiB 1GiB"
DURATION_PATTERN = r"[0-9]{1,15}(ms|s|m|h|d)"
SIZE_PATTERN = r"[0-9]{1,15}(B|KiB|MiB|GiB)"
LONGEST_DURATION = 3650 * 86400
LARGEST_SIZE = 1024**4

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_BYTES = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
_DURATION = re.compile(DURATION_PATTERN)
_SIZE = re.compile(SIZE_PATTERN)
_DIGITS = re.compile(r"[0-9]{1,15}")
_DECIMAL_SIZE = re.compile(r"[0-9]{1,15} ?[kKmMgG][bB]?")


def parse_duration(text: str) -> float:
    """Seconds.

    Raises:
        ValueError: not a whole number with a unit, or longer than 3650 days.
    """
    if _DIGITS.fullmatch(text):
        raise ValueError("has no unit: write one behind the number, as 30s or 500ms")
    if not _DURATION.fullmatch(text):
        raise ValueError(f"is not a duration: write a whole number and a unit, like {DURATION_EXAMPLES}")
    seconds = _count(text, _MILLISECONDS) / 1000
    if seconds > LONGEST_DURATION:
        raise ValueError("is too long: write 3650d or less")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads back, to the millisecond."""
    return _largest_unit(round(seconds * 1000), _MILLISECONDS, "s")


def parse_size(text: str) -> int:
    """Bytes.

    Raises:
        ValueError: not a whole number with a binary unit, or above 1024 GiB.
    """
    if _DIGITS.fullmatch(text):
        raise ValueError("has no unit: write one behind the number, as 512B, 64KiB or 50MiB")
    if _DECIMAL_SIZE.fullmatch(text):
        raise ValueError("has a decimal unit: write KiB, MiB or GiB")
    if not _SIZE.fullmatch(text):
        raise ValueError(f"is not a size: write a whole number and a unit, like {SIZE_EXAMPLES}")
    size = _count(text, _BYTES)
    if size > LARGEST_SIZE:
        raise ValueError("is too large: write 1024GiB or less")
    return size


def format_size(size: int) -> str:
    """The shortest form that `parse_size` reads back."""
    return _largest_unit(size, _BYTES, "B")


def _count(text: str, units: dict[str, int]) -> int:
    digits = text.rstrip("BKMGibmshd")
    return int(digits) * units[text[len(digits) :]]


def _largest_unit(count: int, units: dict[str, int], of_zero: str) -> str:
    if count == 0:
        return f"0{of_zero}"
    unit = next(unit for unit, size in units.items() if count % size == 0)
    return f"{count // units[unit]}{unit}"

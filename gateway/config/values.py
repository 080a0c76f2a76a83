"""What single words of the configuration must look like: names, ids, secrets, events, templates.

Every `ValueError` here is the rest of a sentence that begins with what was written, and repeats nothing of
it. Durations and sizes are in `units`, places in `addresses`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from gateway.config import addresses
from gateway.config.problems import did_you_mean
from gateway.flowise.events import EVENT_NAMES

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


NAME_PATTERN = "[A-Za-z0-9._-]{1,64}"
UUID_PATTERN = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
NAME_WANTED = "1 to 64 of the letters A-Z a-z 0-9 . _ -"
WHOLE_WANTED = "a whole number from 1 to 999999999"
SHORTEST_SECRET = 32
VARIABLES = frozenset({"caller", "user", "route"})

_NAME = re.compile(NAME_PATTERN)
_UUID = re.compile(UUID_PATTERN)
_WHOLE = re.compile(r"[1-9][0-9]{0,8}")
_ABOVE_ONE = re.compile(r"[2-9]|[1-9][0-9]+")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]*")
_OVERRIDE = re.compile(r"(?!vars$)[A-Za-z0-9_-]{1,128}|vars\.(\*|[A-Za-z0-9_.-]{1,128})")
_VARIABLE = re.compile(r"\{([A-Za-z0-9_]+)\}")
_CUSTOM = "custom:"
_Amount = TypeVar("_Amount", int, float)


def text(written: str) -> str:
    """One line of text."""
    if not _ONE_LINE.fullmatch(written):
        raise ValueError("is not one line of text: write at least one letter, and no line end")
    return written


def text_or_empty(written: str) -> str:
    """One line of text, or nothing."""
    return text(written) if written else written


def name(written: str) -> str:
    """A name that can stand in paths, labels and headers."""
    if not _NAME.fullmatch(written):
        raise ValueError(f"cannot be a name: write {NAME_WANTED}")
    return written


def route_name(written: str) -> str:
    """A name that nobody takes for a chatflow id."""
    if _UUID.fullmatch(written):
        raise ValueError("looks like a chatflow id: write a name of your own, the id belongs into chatflow")
    return name(written)


def chatflow_id(written: str) -> str:
    """A UUID in lower case."""
    if not _UUID.fullmatch(written):
        raise ValueError("is not a chatflow id: write a UUID like 2c5e8d0a-1111-4222-8333-444455556666")
    return written.lower()


def whole(written: str) -> int:
    """A whole number above zero."""
    if not _WHOLE.fullmatch(written):
        raise ValueError(f"is not right here: write {WHOLE_WANTED}")
    return int(written)


def is_above_one(written: str | None) -> bool:
    """Whether it is a whole number of two or more."""
    return _ABOVE_ONE.fullmatch(written or "") is not None


def whole_or_zero(written: str) -> int:
    """A whole number."""
    return 0 if written == "0" else whole(written)


def switch(written: str) -> bool:
    """`true` or `false`."""
    if written.lower() not in ("true", "false"):
        raise ValueError("is neither: write true or false")
    return written.lower() == "true"


def above_zero(parse: Callable[[str], _Amount]) -> Callable[[str], _Amount]:
    """Refuses zero, where it would let nothing happen."""

    def parse_positive(written: str) -> _Amount:
        amount = parse(written)
        if not amount:
            raise ValueError("is too little: write more than zero")
        return amount

    return parse_positive


def header_secret(written: str) -> SecretStr:
    """A key or token that can stand in a header field (RFC 9110 5.5), or nothing."""
    if not _HEADER_VALUE.fullmatch(written):
        raise ValueError("cannot stand in a header: write visible ASCII letters without blanks")
    return SecretStr(written)


def signing_secret(written: str) -> SecretStr:
    """A secret that nobody guesses."""
    if len(written.encode()) < SHORTEST_SECRET:
        raise ValueError(
            f"is too short: write {SHORTEST_SECRET} bytes or more, as `openssl rand -hex 32` prints them"
        )
    return SecretStr(written)


def web_address(written: str) -> str:
    """The URL of a document, which may have a query."""
    addresses.parse_url(written.partition("?")[0])
    return text(written)


def event_name(written: str) -> str:
    """The name of an event as it stands on the wire; `custom:` is taken off."""
    if written.startswith(_CUSTOM):
        custom = text(written.removeprefix(_CUSTOM))
        if custom in EVENT_NAMES:
            raise ValueError("is an event of Flowise itself: write it without custom:")
        return custom
    if written not in EVENT_NAMES:
        raise ValueError(
            f"is no event of Flowise: {did_you_mean(written, EVENT_NAMES)} (or custom:NAME for other names)"
        )
    return written


def override_name(written: str) -> str:
    """A key of `overrideConfig`, or one below its `vars`."""
    if not _OVERRIDE.fullmatch(written):
        raise ValueError(
            "is no name of an override: write sessionId or another, vars.NAME, or vars.* for all vars"
        )
    return written


def template(written: str) -> str:
    """A text in which `{caller}`, `{user}` and `{route}` are replaced later."""
    if set(_VARIABLE.findall(written)) - VARIABLES:
        raise ValueError("has a name in braces that is not known: write {caller}, {user} or {route}")
    return written


def readable_file(path: str) -> Path:
    """A file that is there and can be read."""
    try:
        is_file = stat.S_ISREG(Path(path).stat().st_mode) and os.access(path, os.R_OK)
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise ValueError("is no readable file: write the name of one, relative to the configuration file")
    return Path(path)


positive_duration = above_zero(parse_duration)
positive_size = above_zero(parse_size)

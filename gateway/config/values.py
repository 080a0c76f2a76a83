"""The syntax of single values: durations, sizes, numbers, names, ids, secrets, events, templates, files.

Every `ValueError` here is the rest of a sentence that begins with the value; none repeats the value. Addresses and
URLs are in `addresses`.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from gateway.config.addresses import parse_url
from gateway.config.problems import did_you_mean
from gateway.flowise.events import EVENT_NAMES

DURATION_EXAMPLES = "500ms 5s 2m 1h 90d"
SIZE_EXAMPLES = "512B 64KiB 50MiB 1GiB"
DURATION_PATTERN = r"[0-9]{1,15}(ms|s|m|h|d)"
SIZE_PATTERN = r"[0-9]{1,15}(B|KiB|MiB|GiB)"
LONGEST_DURATION = 3650 * 86400
SMALLEST_HEADER, LARGEST_HEADER = 1024, 1024**2
LARGEST_SIZE = 1024**4
NAME_PATTERN = "[A-Za-z0-9._-]{1,64}"
UUID_PATTERN = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
NAME_WANTED = "1 to 64 characters of A-Z a-z 0-9 . _ -"
WHOLE_WANTED = "a whole number from 1 to 999999999"
WEIGHT_WANTED = "a whole number from 1 to 100"
SHARE_WANTED = "a number from 0 to 1"
SHORTEST_SECRET = 32
HEAVIEST = 100
LONGEST_KEEP_ALIVE = 9 * 3600  # the system takes 32767 s
# In a text of `vars`: {caller}, {user}, {route}, {claims.NAME}, {session.NAME}, and the last two with `:-default`.
PLACEHOLDER = re.compile(
    r"\{(?:(?P<word>caller|user|route)"
    r"|(?P<source>claims|session)\.(?P<name>[A-Za-z0-9_./:@-]{1,128}?)(?::-(?P<default>[^{}]*))?)\}"
)

CHATFLOW_PLACE = "the last part of the address when the chatflow is open in Flowise (…/canvas/ID)"

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_BYTES = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
_DURATION = re.compile(DURATION_PATTERN)
_SIZE = re.compile(SIZE_PATTERN)
_DIGITS = re.compile(r"[0-9]{1,15}")
_DECIMAL_SIZE = re.compile(r"[0-9]{1,15}(?P<unit> ?(?P<prefix>[kKmMgG])[bB]?)")
_NAME = re.compile(NAME_PATTERN)
_UUID = re.compile(UUID_PATTERN)
_WHOLE = re.compile(r"[1-9][0-9]{0,8}")
_ABOVE_ONE = re.compile(r"[2-9]|[1-9][0-9]+")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SHARE = re.compile(r"0|1|0?\.[0-9]{1,6}|1\.0{1,6}|0\.[0-9]{1,6}")
_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]*")
_OVERRIDE = re.compile(r"(?!vars$)[A-Za-z0-9_-]{1,128}|vars\.(\*|[A-Za-z0-9_.-]{1,128})")
_BRACED = re.compile(r"\{(?:[A-Za-z0-9_]+|(?i:claims?|jwt|token|session)\.[^{}]*)\}")
_CUSTOM = "custom:"
_Amount = TypeVar("_Amount", int, float)


def parse_duration(text: str) -> float:
    """A duration in seconds.

    Raises:
        ValueError: not a whole number with a unit, or longer than 3650 days.
    """
    if _DIGITS.fullmatch(text):
        raise ValueError("has no unit: write one after the number, like 30s or 500ms")
    if not _DURATION.fullmatch(text):
        raise ValueError(f"is not a duration: write a whole number and a unit, like {DURATION_EXAMPLES}")
    seconds = _count(text, _MILLISECONDS) / 1000
    if seconds > LONGEST_DURATION:
        raise ValueError("is too long: write 3650d or less")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text for `parse_duration`, rounded to the millisecond."""
    return _largest_unit(round(seconds * 1000), _MILLISECONDS, "s")


def parse_size(text: str) -> int:
    """A size in bytes.

    Raises:
        ValueError: not a whole number with a binary unit, or above 1024 GiB.
    """
    if _DIGITS.fullmatch(text):
        raise ValueError("has no unit: write one after the number, like 512B, 64KiB or 50MiB")
    if found := _DECIMAL_SIZE.fullmatch(text):
        unit = f"{found['prefix'].upper()}iB"
        raise ValueError(f'has a decimal unit: write {unit} in place of "{found["unit"]}"')
    if not _SIZE.fullmatch(text):
        raise ValueError(f"is not a size: write a whole number and a unit, like {SIZE_EXAMPLES}")
    size = _count(text, _BYTES)
    if size > LARGEST_SIZE:
        raise ValueError("is too large: write 1024GiB or less")
    return size


def format_size(size: int) -> str:
    """The shortest text for `parse_size`."""
    return _largest_unit(size, _BYTES, "B")


def _count(text: str, units: dict[str, int]) -> int:
    digits = text.rstrip("BKMGibmshd")
    return int(digits) * units[text[len(digits) :]]


def _largest_unit(count: int, units: dict[str, int], of_zero: str) -> str:
    if count == 0:
        return f"0{of_zero}"
    unit = next(unit for unit, size in units.items() if count % size == 0)
    return f"{count // units[unit]}{unit}"


def text(written: str) -> str:
    if not _ONE_LINE.fullmatch(written):
        raise ValueError("is not one line of text: write at least one character, and no line break")
    return written


def text_or_empty(written: str) -> str:
    """One line of text, or an empty one."""
    return text(written) if written else written


def name(written: str) -> str:
    """A name that is valid in paths, labels and headers."""
    if not _NAME.fullmatch(written):
        raise ValueError(f"is not a valid name: write {NAME_WANTED}")
    return written


def route_name(written: str) -> str:
    """A name that cannot be mistaken for a chatflow id."""
    if _UUID.fullmatch(written):
        raise ValueError("looks like a chatflow id: write a name of your own; the id belongs in chatflow")
    return name(written)


def chatflow_id(written: str) -> str:
    """A UUID in lower case."""
    if not _UUID.fullmatch(written):
        if _UUID.search(written):
            raise ValueError("is more than a chatflow id: write only the UUID in it")
        raise ValueError(f"is not a chatflow id: write the UUID of your chatflow, {CHATFLOW_PLACE}")
    return written.lower()


def whole(written: str) -> int:
    if not _WHOLE.fullmatch(written):
        raise ValueError(f"is not valid: write {WHOLE_WANTED}")
    return int(written)


def is_above_one(written: str | None) -> bool:
    return _ABOVE_ONE.fullmatch(written or "") is not None


def whole_or_zero(written: str) -> int:
    return 0 if written == "0" else whole(written)


def switch(written: str) -> bool:
    if written.lower() not in ("true", "false"):
        raise ValueError("is not a boolean: write true or false")
    return written.lower() == "true"


def above_zero(parse: Callable[[str], _Amount]) -> Callable[[str], _Amount]:
    """A parser that refuses zero."""

    def parse_positive(written: str) -> _Amount:
        amount = parse(written)
        if not amount:
            raise ValueError("is zero: write more than zero")
        return amount

    return parse_positive


def header_secret(written: str) -> SecretStr:
    """A key or token that is valid in a header field (RFC 9110 5.5), or an empty text."""
    if not _HEADER_VALUE.fullmatch(written):
        raise ValueError("is not valid in a header: write visible ASCII characters without spaces")
    return SecretStr(written)


def signing_secret(written: str) -> SecretStr:
    """A secret long enough for HMAC-SHA256."""
    if len(written.encode()) < SHORTEST_SECRET:
        raise ValueError(
            f"is too short: write {SHORTEST_SECRET} bytes or more, for example from `openssl rand -hex 32`"
        )
    return SecretStr(written)


def web_address(written: str) -> str:
    """The URL of a document; it may have a query."""
    parse_url(written.partition("?")[0])
    return text(written)


def web_address_or_empty(written: str) -> str:
    return web_address(written) if written else ""


def event_name(written: str) -> str:
    """The name of an event in the stream; the prefix `custom:` is removed."""
    if written.startswith(_CUSTOM):
        custom = text(written.removeprefix(_CUSTOM))
        if custom in EVENT_NAMES:
            raise ValueError("is an event that Flowise defines: write it without custom:")
        return custom
    if written not in EVENT_NAMES:
        raise ValueError(
            f"is not an event of Flowise: {did_you_mean(written, EVENT_NAMES)} (or custom:NAME for other events)"
        )
    return written


def override_name(written: str) -> str:
    """A key of `overrideConfig`, or one below its `vars`."""
    if not _OVERRIDE.fullmatch(written):
        raise ValueError(
            "is not the name of an override: write one like sessionId, vars.NAME, or vars.* for all vars"
        )
    return written


def template(written: str) -> str:
    """A text with placeholders, which are replaced for each request."""
    if not all(PLACEHOLDER.fullmatch(braced) for braced in _BRACED.findall(written)):
        raise ValueError(
            "has an unknown name in braces: write {caller}, {user}, {route}, {claims.NAME} or {session.NAME}, the last"
            " two also with a default, like {claims.NAME:-none}"
        )
    return written


def authority_file(path: str) -> Path:
    """A file of certificates in PEM form; the gateway could not start with another one."""
    file = readable_file(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        raise ValueError("holds no certificate: write a file in PEM form, with BEGIN CERTIFICATE") from None
    return file


def readable_file(path: str) -> Path:
    try:
        is_file = stat.S_ISREG(Path(path).stat().st_mode) and os.access(path, os.R_OK)
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise ValueError("is not a readable file: write a path relative to the configuration file")
    return Path(path)


def keys_file(path: str) -> Path:
    """The path of a file that may not exist yet, in a folder that does."""
    _check_folder(path)
    return Path(path)


def log_file(path: str) -> Path:
    """As `keys_file`; what is there by now has to be a regular file."""
    _check_folder(path)
    try:
        is_other = not stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        is_other = False  # it is made; or opening it says why not
    if is_other:
        raise ValueError(
            "is not a regular file: name one, or one that does not exist yet; leave it out for standard output"
        )
    return Path(path)


def _check_folder(path: str) -> None:
    folder = Path(path).parent
    try:
        is_missing = not folder.exists()
    except (OSError, ValueError):
        is_missing = False  # reading the file will tell the reason
    if is_missing:
        raise ValueError(
            "is in a folder that does not exist: create the folder, or write a path in another folder"
        )


def weight(written: str) -> int:
    if not _WHOLE.fullmatch(written) or int(written) > HEAVIEST:
        raise ValueError(f"is not valid: write {WEIGHT_WANTED}")
    return int(written)


def share(written: str) -> float:
    if not _SHARE.fullmatch(written):
        raise ValueError(f"is not a share: write {SHARE_WANTED}, like 0.5")
    return float(written)


def keep_alive(written: str) -> float:
    """A duration that TCP takes: whole seconds; zero is none."""
    seconds = parse_duration(written)
    if seconds != int(seconds):
        raise ValueError("has a part of a second, which TCP does not count: write whole seconds, like 60s")
    if seconds > LONGEST_KEEP_ALIVE:
        raise ValueError("is longer than TCP counts: write 9h or less, or 0s for none")
    return seconds


def request_path(written: str) -> str:
    """A path and perhaps a query, as they are sent."""
    if not _PATH.fullmatch(written) or written.startswith("//"):
        raise ValueError(
            "is not a path: write one that begins with a slash, like /api/v1/ping, without spaces"
        )
    return written


positive_duration = above_zero(parse_duration)
positive_size = above_zero(parse_size)


def header_size(text: str) -> int:
    """A size that holds the fields of a browser and bounds what a client may make the gateway buffer."""
    size = parse_size(text)
    if size < SMALLEST_HEADER:
        raise ValueError(
            f"is too small for the header fields of a browser: write {format_size(SMALLEST_HEADER)} or more"
        )
    if size > LARGEST_HEADER:
        raise ValueError(f"is too large: write {format_size(LARGEST_HEADER)} or less")
    return size

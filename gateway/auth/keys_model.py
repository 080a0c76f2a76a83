"""What stands in a keys file: its entries, typed, and the forms of their values. How it is read is in `keys_file`."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gateway.auth.key_format import HASH_PATTERN, ID_LENGTH, ID_PATTERN, KeyFormError, parse_key
from gateway.config import Limit
from gateway.config.section import Section
from gateway.config.tree import Scalar, ScalarKind
from gateway.config.types import ANY, TEXT, RouteName, ValueType
from gateway.config.values import NAME_WANTED, name

_STRING: dict[str, Any] = {"type": "string"}
_ID = re.compile(ID_PATTERN)
_HASH = re.compile(HASH_PATTERN)
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_ID_WANTED = f"{ID_LENGTH} of the letters 0-9 A-Z a-z"
_MOMENT_WANTED = "a time in UTC like 2026-12-31T23:59:59Z"


def parse_moment(text: str) -> float:
    """Seconds since the epoch, of a time in RFC 3339 with `Z`.

    Raises:
        ValueError: it is none; the rest of a sentence that begins with the text.
    """
    if _MOMENT.fullmatch(text):
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise ValueError(f"is not in the calendar: write {_MOMENT_WANTED}") from None
    raise ValueError(f"is not a time: write {_MOMENT_WANTED}")


def format_moment(moment: float) -> str:
    """The time in whole seconds as `parse_moment` reads it."""
    return datetime.fromtimestamp(math.floor(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_name(text: str) -> str:
    """The name of a key; never a key, since names stand in logs.

    Raises:
        ValueError: it is none; the rest of a sentence that begins with the text.
    """
    try:
        parse_key(text)
    except KeyFormError:
        return name(text)
    raise ValueError(
        "is a key, not a name: write a name of your own, and revoke the key that was written here"
    )


def _key_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError(f"is no id of a key: write {_ID_WANTED}, those behind the key's fgw_")
    return text


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise ValueError(
            "is no hash of a key: write sha256: and 64 of the letters 0-9 a-f, as `keys create` does"
        )
    return text


def _none_of_them(written: object) -> object:
    """A list that lost its last entry is an empty one."""
    is_nothing = isinstance(written, Scalar) and written.kind in (ScalarKind.EMPTY, ScalarKind.NULL)
    return () if is_nothing else written


KeyId = Annotated[str, ValueType(_ID_WANTED, _key_id, _STRING, ANY, is_secret=True)]
OptionalKeyId = Annotated[str | None, ValueType(_ID_WANTED, _key_id, _STRING, ANY, is_secret=True)]
KeyName = Annotated[str, ValueType(NAME_WANTED, key_name, _STRING, TEXT)]
KeyHash = Annotated[str, ValueType("sha256: and 64 hexadecimal digits", _hash, _STRING, TEXT, is_secret=True)]
Moment = Annotated[float, ValueType(_MOMENT_WANTED, parse_moment, _STRING, ANY)]
OptionalMoment = Annotated[float | None, ValueType(_MOMENT_WANTED, parse_moment, _STRING, ANY)]


class KeyEntry(Section):
    """One key. Times are seconds since the epoch."""

    id: KeyId = Field(examples=["a8Xk2LmQ"])
    """The 8 letters behind its `fgw_`."""
    name: KeyName = Field(examples=["backend"])
    """Whose it is: the caller `key:<name>`."""
    hash: KeyHash = Field(examples=["sha256:…"], repr=False)
    """Of the whole key."""
    created: Moment = Field(examples=["2026-01-31T08:00:00Z"])
    expires: OptionalMoment = None
    """When it ends; never if not given."""
    routes: tuple[RouteName, ...] = Field(default=(), min_length=1)
    """The routes it may use; every one if not given."""
    replaced_by: OptionalKeyId = None
    """The id of the key with the same name that took its place."""
    revoked: OptionalMoment = None
    """When it was revoked; whatever stands here, it is."""
    limits: tuple[Limit, ...] = ()
    """How much the key may, with all its sessions; `by` is not written here."""

    def is_valid(self, now: float) -> bool:
        """Whether it opens anything at this time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class KeyEntries(Section):
    """A whole keys file."""

    keys: Annotated[tuple[KeyEntry, ...], BeforeValidator(_none_of_them)] = ()

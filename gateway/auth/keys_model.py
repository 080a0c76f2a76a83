"""API keys as a keys file lists them, and the forms of their values."""

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
    """Seconds since the epoch of an RFC 3339 time with `Z`.

    Raises:
        ValueError: the rest of a sentence that begins with the text.
    """
    if _MOMENT.fullmatch(text):
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise ValueError(f"is not a date of the calendar: write {_MOMENT_WANTED}") from None
    raise ValueError(f"is not a time: write {_MOMENT_WANTED}")


def format_moment(moment: float) -> str:
    """The time in whole seconds, in the form that `parse_moment` reads."""
    return datetime.fromtimestamp(math.floor(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_name(text: str) -> str:
    """The name of a key; never the text of a key, because names are logged.

    Raises:
        ValueError: the rest of a sentence that begins with the text.
    """
    try:
        parse_key(text)
    except KeyFormError:
        return name(text)
    raise ValueError("is a key, not a name: write a name, and revoke the key that was written here")


def _key_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError(f"is not the id of a key: write {_ID_WANTED}, those after the key's fgw_")
    return text


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise ValueError(
            "is not the hash of a key: write sha256: and 64 of the letters 0-9 a-f, as `keys create` does"
        )
    return text


def _empty_list(written: object) -> object:
    """`keys:` without entries is an empty list."""
    is_empty = isinstance(written, Scalar) and written.kind in (ScalarKind.EMPTY, ScalarKind.NULL)
    return () if is_empty else written


KeyId = Annotated[str, ValueType(_ID_WANTED, _key_id, _STRING, ANY, is_secret=True)]
OptionalKeyId = Annotated[str | None, ValueType(_ID_WANTED, _key_id, _STRING, ANY, is_secret=True)]
KeyName = Annotated[str, ValueType(NAME_WANTED, key_name, _STRING, TEXT)]
KeyHash = Annotated[str, ValueType("sha256: and 64 hexadecimal digits", _hash, _STRING, TEXT, is_secret=True)]
Moment = Annotated[float, ValueType(_MOMENT_WANTED, parse_moment, _STRING, ANY)]
OptionalMoment = Annotated[float | None, ValueType(_MOMENT_WANTED, parse_moment, _STRING, ANY)]


class ApiKey(Section):
    """One key, without its secret. Times are seconds since the epoch."""

    id: KeyId = Field(examples=["a8Xk2LmQ"])
    """The 8 letters after `fgw_`."""
    name: KeyName = Field(examples=["backend"])
    """The name of its caller, `key:<name>`; the keys of one rotation share it."""
    hash: KeyHash = Field(examples=["sha256:…"], repr=False)
    """The hash of the whole key."""
    created: Moment = Field(examples=["2026-01-31T08:00:00Z"])
    expires: OptionalMoment = None
    """When the key expires; never if not given."""
    routes: tuple[RouteName, ...] = Field(default=(), min_length=1)
    """The routes that the key may use; all if not given."""
    replaced_by: OptionalKeyId = None
    """The id of the key of the same name that replaces it."""
    revoked: OptionalMoment = None
    """When the key was revoked. It is not valid, even if this time lies in the future."""
    limits: tuple[Limit, ...] = ()
    """Limits on the key with all its sessions, without `by`."""

    @property
    def ends_at(self) -> float:
        """`inf` if it never expires, `-inf` if it was revoked."""
        if self.revoked is not None:
            return -math.inf
        return math.inf if self.expires is None else self.expires

    @property
    def allowed_routes(self) -> frozenset[str] | None:
        """The routes as a set; None if all are allowed."""
        return frozenset(self.routes) or None

    def is_valid(self, now: float) -> bool:
        return now < self.ends_at


class KeysFile(Section):
    """The content of a keys file."""

    keys: Annotated[tuple[ApiKey, ...], BeforeValidator(_empty_list)] = ()

"""Form bodies become the same prediction as JSON: urlencoded ones and multipart fields, as names with texts.

Never builds objects out of names in brackets, as Flowise does with `overrideConfig[vars][x]`: those are
refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.body_policy import FIELDS, BodyPolicy, Kind
from gateway.flowise.prediction import Prediction, read_json
from gateway.flowise.raw_json import encode, read_document, read_object, shown

MAX_FIELDS = 1000  # Express stops there, too

_MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TOP_LEVEL_WITH_FILES = ("question", "chatId", "streaming")


def read_urlencoded(body: bytes, policy: BodyPolicy) -> Prediction:
    """Reads `application/x-www-form-urlencoded`; raises BadRequest and TooLarge as `read_fields` does."""
    if body.count(b"&") >= MAX_FIELDS:
        raise TooLarge(f"the form has more than {MAX_FIELDS} fields")
    pairs = (pair.partition(b"=") for pair in body.split(b"&") if pair)
    return read_fields([(_decoded(name), _decoded(value)) for name, _, value in pairs], policy)


def _decoded(raw: bytes) -> str:
    if _MALFORMED_ESCAPE.search(raw):
        raise BadRequest("the form has a '%' that is not followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise BadRequest("the form must be UTF-8 once its percent-escapes are decoded") from None


def read_fields(fields: Iterable[tuple[str, str]], policy: BodyPolicy) -> Prediction:
    """Reads the fields of a form without files, which Flowise takes as members of the body.

    Raises BadRequest for a name in brackets, a repeated one and a field that needs more than text, else as
    `read_json` does.
    """
    members = checked_fields(fields)
    for name in members:
        rule = FIELDS.get(name)
        if rule is not None and rule.kind in {Kind.OBJECT, Kind.ARRAY} and not _is_dropped(name, policy):
            raise BadRequest(
                f"{name} must be {rule.kind.value}, which a form cannot carry; send application/json"
            )
    return read_json(encode(members), policy)


def _is_dropped(name: str, policy: BodyPolicy) -> bool:
    return FIELDS[name].legacy and name not in policy.legacy_allowed


def checked_fields(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The fields by name. Raises BadRequest if a name is empty, in brackets or repeated."""
    members: dict[str, str] = {}
    for name, text in fields:
        check_name(name)
        if name in members:
            raise BadRequest(f"the form has the field {shown(name)} twice; it must stand once")
        members[name] = text
    return members


def check_name(name: str) -> None:
    """Raises BadRequest for a field name that Flowise would build an object from, or none at all."""
    if not name:
        raise BadRequest("the form has a field without a name")
    if "[" in name or "]" in name:
        raise BadRequest(f"the field name {shown(name)} has brackets; send nested values as application/json")


def read_upload_fields(fields: Iterable[tuple[str, str]], policy: BodyPolicy) -> Prediction:
    """Reads the fields of a form with files, where Flowise takes every one as an override as well.

    So all but question, chatId, streaming and the legacy fields must be allowed overrides; `vars` is JSON
    text. Raises as `read_fields` does.
    """
    body: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, text in checked_fields(fields).items():
        if name in _TOP_LEVEL_WITH_FILES or (name in FIELDS and FIELDS[name].legacy):
            body[name] = text
        elif name == "vars":
            overrides[name] = _vars(text)
        else:
            overrides[name] = text
    return read_json(encode(body | {"overrideConfig": overrides} if overrides else body), policy)


def _vars(text: str) -> msgspec.Raw:
    raw = text.encode()
    read_document(raw, "vars")
    return msgspec.Raw(raw.removeprefix(b"\xef\xbb\xbf"))


def upload_fields(encoded: bytes) -> list[tuple[str, str]]:
    """The form fields that say the same as an encoded prediction read by `read_upload_fields`."""
    body = dict(read_document(encoded).members)
    overrides = body.pop("overrideConfig", None)
    if overrides is not None:
        body |= read_object(bytes(overrides.value), "overrideConfig").members
    return [(name, _field_text(bytes(member.value))) for name, member in body.items()]


def _field_text(raw: bytes) -> str:
    return str(json.loads(raw)) if raw.startswith(b'"') else raw.decode()

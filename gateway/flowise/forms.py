"""Form bodies, read into the same prediction as JSON and written as fields for Flowise (pure).

Flowise builds objects from names in brackets (`overrideConfig[vars][x]`); those are refused. A form with files is
sent to Flowise as a form: the fields before the first file are read first, the later ones one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec.structs import replace

from gateway.errors import BadRequest, TooLarge
from gateway.flowise.body_rules import FIELDS, BodyRules, JsonType
from gateway.flowise.json_text import MAX_BELOW, MAX_MEMBERS, STEP, Buffer
from gateway.flowise.prediction import Changes, Prediction, read_json
from gateway.flowise.raw_json import JsonObject, encode, read_document, shown

MAX_FIELDS = MAX_MEMBERS  # each becomes a member of the body

_MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TOP_LEVEL_WITH_FILES = ("question", "chatId", "streaming")
_BEFORE_FILES = frozenset({"chatId", "streaming", "sessionId", "vars"})

Fields = list[tuple[str, str]]


def read_urlencoded(body: Buffer, rules: BodyRules) -> Prediction:
    """Reads `application/x-www-form-urlencoded`; raises BadRequest and TooLarge as `read_fields` does."""
    if body.count(b"&") >= MAX_FIELDS:
        raise TooLarge(f"The form has more than {MAX_FIELDS} fields.")
    pairs = (bytes(pair).partition(b"=") for pair in body.split(b"&") if pair)
    return read_fields([(_decoded(name), _decoded(value)) for name, _, value in pairs], rules)


def _decoded(raw: bytes) -> str:
    if _MALFORMED_ESCAPE.search(raw):
        raise BadRequest("The form has a '%' that is not followed by two hexadecimal digits.")
    raw = raw.replace(b"+", b" ")
    try:
        return b"".join(map(unquote_to_bytes, _steps(raw))).decode()
    except UnicodeDecodeError:
        raise BadRequest("The form must be UTF-8 once its percent-escapes are decoded.") from None


def _steps(raw: bytes) -> Iterator[bytes]:
    """The text in parts, none of which begins inside of an escape."""
    start = 0
    while start < len(raw):
        end = start + STEP
        escape = raw.find(b"%", end - 2, end)
        end = end if escape < 0 else escape
        yield raw[start:end]
        start = end


def read_fields(fields: Iterable[tuple[str, str]], rules: BodyRules) -> Prediction:
    """Reads a form without files, whose fields Flowise takes as members of the body.

    Raises BadRequest for a name in brackets, a repeated one and a field that is not text, else as `read_json` does.
    """
    members = _checked_fields(fields)
    for name in members:
        known = FIELDS.get(name)
        if known is None or known.json_type not in {JsonType.OBJECT, JsonType.ARRAY} or not members[name]:
            continue
        if not (known.legacy and name not in rules.body.allow):  # such a field is dropped
            raise BadRequest(
                f"{name} must be {known.json_type.value}, which a form cannot carry. Send application/json."
            )
    return read_json(encode(members), rules)


def read_upload_fields(fields: Iterable[tuple[str, str]], rules: BodyRules) -> Prediction:
    """Reads fields of a form with files. Flowise takes each of them as an override, too.

    So each must be an allowed override, except question, chatId, streaming and the legacy fields; `vars` is JSON text.
    Raises as `read_fields` does.
    """
    body: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, text in _checked_fields(fields).items():
        if name in _TOP_LEVEL_WITH_FILES or (name in FIELDS and FIELDS[name].legacy):
            body[name] = text
        elif not text and (name == "vars" or name in FIELDS):
            continue  # as in JSON, an empty one is none
        elif name == "vars":
            overrides[name] = _vars(text)
        else:
            overrides[name] = text
    return read_json(encode(body | {"overrideConfig": overrides} if overrides else body), rules)


def _vars(text: str) -> msgspec.Raw:
    raw = text.encode()
    read_document(raw, "vars", most=MAX_BELOW)
    return msgspec.Raw(raw.removeprefix(b"\xef\xbb\xbf"))


def _checked_fields(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    members: dict[str, str] = {}
    for name, text in fields:
        check_name(name)
        if name in members:
            raise BadRequest(f"The form has the field {shown(name)} twice. Send it once.")
        members[name] = text
    return members


def check_name(name: str) -> None:
    """Raises BadRequest for no name, for JSON, and for what Flowise would build an object from."""
    if not name:
        raise BadRequest("The form has a field without a name.")
    if name.lstrip().startswith("{"):
        raise BadRequest("The body is JSON, sent as a form. Send it with `Content-Type: application/json`.")
    if "[" in name or "]" in name:
        raise BadRequest(
            f"The field name {shown(name)} has brackets. Send nested values as application/json."
        )


def upload_fields(encoded: bytes) -> Fields:
    """The form fields of an encoded prediction that `read_upload_fields` has read."""
    body = read_document(encoded)
    fields = _fields_of(body)
    fields.pop("overrideConfig", None)
    return list((fields | _fields_of(body.object("overrideConfig", "overrideConfig"))).items())


def _fields_of(body: JsonObject) -> dict[str, str]:
    return {name: _field_text(body.raw(name) or b"null") for name in body.members}


def _field_text(raw: bytes) -> str:
    return str(json.loads(raw)) if raw.startswith(b'"') else raw.decode()


def with_late_field(
    prediction: Prediction, name: str, text: str, rules: BodyRules
) -> tuple[Prediction, Fields]:
    """Reads a field that follows a file: the prediction with its question and dropped fields, and what to send.

    Raises BadRequest and TooLarge as `read_upload_fields` does, and for a field that must come before the files.
    """
    if name in _BEFORE_FILES:
        raise BadRequest(
            f"{name} came after a file. Put chatId, streaming, sessionId and vars before the files."
        )
    late = read_upload_fields([(name, text)], rules)
    question, dropped = late.question or prediction.question, prediction.dropped + late.dropped
    return replace(prediction, question=question, dropped=dropped), upload_fields(late.encode(Changes()))


def check_attachment_field(name: str, text: str, client_chat_id: str) -> None:
    """Raises BadRequest for every field of an attachments form but a chatId that equals the one of the path."""
    if name != "chatId":
        raise BadRequest(f"The form field {shown(name)} is not allowed here. Send files and chatId only.")
    if text != client_chat_id:
        raise BadRequest("The form field chatId must be the chatId of the path.")

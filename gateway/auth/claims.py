"""The claims of a token as text, and the placeholders of a route's `vars` filled from them.

`{claims.NAME}` is a claim of a JWT, `{session.NAME}` one that a backend put into a session token. Only a token that was
verified has any. What is no scalar, or too long, is kept as unusable, so that its refusal can say so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from gateway.auth.caller import Caller, Claims
from gateway.config.values import PLACEHOLDER
from gateway.errors import BadRequest, Forbidden
from gateway.flowise.checks import STORAGE_PREFIX, holds_storage_reference

LONGEST_CLAIM = 256  # characters
# C0, DEL and C1 controls, line separators of Unicode, and halves of surrogate pairs
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TOKENS = {"claims": ("jwt", "a JWT"), "session": ("session", "a session token")}


def claim_texts(claims: Mapping[str, Any]) -> Claims:
    """Each claim as text, None if it cannot be used; those that are null or empty are left out."""
    return {name: claim_text(value) for name, value in claims.items() if value is not None and value != ""}


def claim_text(value: object) -> str | None:
    """A string, a number or a boolean as text; None for everything else."""
    match value:
        case str():
            text = value
        case bool() | int():
            text = json.dumps(value)
        case float() if math.isfinite(value):
            text = json.dumps(value)
        case _:
            return None
    return text if len(text) <= LONGEST_CLAIM and not _UNPRINTABLE.search(text) else None


def filled(template: str, caller: Caller, route: str) -> str:
    """The text of one of a route's `vars` for this caller.

    Raises:
        Forbidden: a claim without a default is missing, or one cannot be used.
        BadRequest: the text would name a stored file of Flowise.
    """
    words = {"caller": caller.name, "user": caller.user, "route": route}

    def word(found: re.Match[str]) -> str:
        return words[found["word"]] if found["word"] else _claim(found, caller)

    text = PLACEHOLDER.sub(word, template)
    if text != template and holds_storage_reference(json.dumps(text).encode()):
        raise BadRequest(
            f"The caller's name or a claim holds {STORAGE_PREFIX}, which makes Flowise read one of its stored files."
        )
    return text


def _claim(found: re.Match[str], caller: Caller) -> str:
    method, token = _TOKENS[found["source"]]
    name, default = found["name"], found["default"]
    if caller.method == method and name in caller.claims:
        text = caller.claims[name]
        if text is None:
            raise Forbidden(
                f"The claim {name} cannot be used here. It must be a number, a boolean, or text of at most"
                f" {LONGEST_CLAIM} characters without control characters."
            )
        return text
    if default is None:
        raise Forbidden(f"This chatflow requires {token} with the claim {name}. Send one that has it.")
    return default

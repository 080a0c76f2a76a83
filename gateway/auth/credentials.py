"""Reads what a request sends as credentials, and tells those of this gateway from those of others (pure).

Basic authentication of an nginx, the `X-API-Key` of an outer gateway and the client's key of Flowise are none of this
gateway. What holds one of its prefixes, or names one of its issuers, always is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gateway.auth import key_format, session_tokens
from gateway.errors import BadRequest, Unauthenticated
from gateway.records import DiscreetRecord

LONGEST_FLOWISE_KEY = 512  # characters; Flowise makes keys of 43
NOT_OURS = (
    "This is no key of this gateway. Send one of its own as `Authorization: Bearer …` or `X-API-Key: …`."
)
NOT_FLOWISES_EITHER = (
    "This is no key of this gateway, and Flowise takes its own only as `Authorization: Bearer …`."
)
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)
_VISIBLE = re.compile(r"[!-~]+")
_JWT_DOTS = 2


class SentCredentials(DiscreetRecord, frozen=True):
    """Everything that one request sends.

    Attributes:
        own: those of this gateway, also invalid ones; text without its scheme.
        foreign: the number of all others.
        flowise_key: the one of the others that Flowise could take for its key; empty: none.
    """

    own: tuple[str, ...] = ()
    foreign: int = 0
    flowise_key: str = ""

    def only(self) -> str | None:
        """The one credential of this gateway, whatever else there is; None: there is none.

        Raises:
            BadRequest: there are several, which could name several callers.
        """
        if len(self.own) > 1:
            raise BadRequest(_SEVERAL)
        return self.own[0] if self.own else None

    def check_all_own(self, message: str = NOT_OURS) -> None:
        """Refuse foreign credentials.

        Raises:
            BadRequest: there is another one beside it.
            Unauthenticated: it is alone; with this message.
        """
        if self.foreign and len(self.own) + self.foreign > 1:
            raise BadRequest(_SEVERAL)
        if self.foreign:
            raise Unauthenticated(message)


NO_CREDENTIALS = SentCredentials()
_SEVERAL = "The request has more than one credential; send one."


def read_credentials(
    authorizations: Sequence[str], keys: Sequence[str], path_token: str, is_our_jwt: Callable[[str], bool]
) -> SentCredentials:
    """Read the fields Authorization and X-API-Key, and the token of the base path.

    Raises:
        Unauthenticated: one of this gateway is malformed.
    """
    if not (authorizations or keys or path_token):
        return NO_CREDENTIALS
    own = [path_token] if path_token else []
    foreign: list[str] = []
    for values, form, to_flowise in ((authorizations, _BEARER, True), (keys, _VISIBLE, False)):
        for value in values:
            found = form.fullmatch(value)
            text = found[found.lastindex or 0] if found else ""
            is_ours = key_format.PREFIX in value or session_tokens.PREFIX in value
            if is_ours or (text and is_our_jwt(text)):
                own.append(text or _unreadable())
            else:
                foreign.append(_flowise_key(value, text) if to_flowise else "")
    flowise_key = foreign[0] if len(foreign) == 1 else ""
    return SentCredentials(tuple(own), len(foreign), flowise_key)


def looks_like_jwt(text: str) -> bool:
    """Whether what is wrong with it can be said better than that it is no key."""
    return text.count(".") == _JWT_DOTS


def _flowise_key(value: str, bearer: str) -> str:
    """Flowise takes its key with and without `Bearer`, and no other scheme."""
    key = bearer or (value if _VISIBLE.fullmatch(value) and value.lower() != "bearer" else "")
    return key if len(key) <= LONGEST_FLOWISE_KEY else ""


def _unreadable() -> str:
    raise Unauthenticated("The credential cannot be read; send `Authorization: Bearer …` or `X-API-Key: …`.")

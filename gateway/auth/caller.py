"""The one thing that every credential gives: a caller, named in full wherever it is used.

`key:<name>`, `session:<key name>/<user>`, `jwt:<issuer>:<subject>`, `anonymous`: nobody becomes somebody else by
choosing a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.config import Limit

LONGEST_NAME = 256  # characters of the full name

Method = Literal["anonymous", "api_key", "session", "jwt"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: the full name, up to `LONGEST_NAME` characters.
        method: the kind of credential.
        user: the short name: the user of a session, the subject of a JWT, the name of a key.
        routes: names of the routes that the credential may use; None: every route.
        key_id: the API key that answers for it, also for a session; empty: none. If that key ends, so do its
            streams.
        key_name: that key's name.
        limits: that key's own limits, which count it with all its sessions.
    """

    name: str
    method: Method
    user: str = ""
    routes: frozenset[str] | None = None
    key_id: str = ""
    key_name: str = ""
    limits: tuple[Limit, ...] = ()


ANONYMOUS = Caller("anonymous", "anonymous", "anonymous")
NOBODY = Caller("", "anonymous")  # before it is known


def session_name(key_name: str, user: str) -> str:
    """The full name of a session's caller; names of keys have no slash, so no two are the same."""
    return f"session:{key_name}/{user}"

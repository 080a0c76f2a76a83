"""The caller that a credential identifies, and the routes it may use.

Its full name is `key:<name>`, `session:<key name>/<user>`, `jwt:<issuer>:<subject>`, `flowise:<hash>` or `anonymous`:
callers of different kinds never have the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from gateway.config import Limit, Route
from gateway.errors import Forbidden, GatewayError, Unauthenticated
from gateway.records import DiscreetRecord

LONGEST_NAME = 256  # characters of the full name

Method = Literal["anonymous", "api_key", "session", "jwt", "upstream"]


Claims = Mapping[str, str | None]
_NO_CLAIMS: Claims = MappingProxyType({})


class Caller(DiscreetRecord, frozen=True):
    """The sender of a request.

    Attributes:
        name: the full name.
        method: the kind of credential.
        user: the short name: the user of a session, the subject of a JWT, the name of a key, the hash of Flowise's key.
        routes: names of the routes that the credential may use; None: every route.
        key_id: the API key, also of a session; empty: none. When the key ends, its streams are terminated.
        key_name: the name of that key.
        limits: the limits of that key, which count it with all its sessions.
        claims: of its token, as text; None: one that cannot be used.
    """

    name: str
    method: Method
    user: str = ""
    routes: frozenset[str] | None = None
    key_id: str = ""
    key_name: str = ""
    limits: tuple[Limit, ...] = ()
    claims: Claims = _NO_CLAIMS

    @property
    def counted_name(self) -> str:
        """The name that limits count; empty for an anonymous caller, which counts by address."""
        return "" if self.method == "anonymous" else self.name

    @property
    def is_unproven(self) -> bool:
        """Whether only Flowise can say that the credential is valid: anybody can make up such callers."""
        return self.method == "upstream"


ANONYMOUS = Caller("anonymous", "anonymous", "anonymous")
UNAUTHENTICATED = Caller("", "anonymous")  # before authentication


def caller_of_flowise_key(key: str) -> Caller:
    """The caller that a key of Flowise stands for; only Flowise knows whether it is valid.

    Its name begins like the output of `printf %s KEY | sha256sum`. 128 bits of it, because conversations belong to the
    name: no key can be made up that has the name of another one.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return Caller(f"flowise:{name}", "upstream", name)


def session_name(key_name: str, user: str) -> str:
    """The full name of a session's caller. It is unique, because names of keys have no slash."""
    return f"session:{key_name}/{user}"


_WORDS = {
    "api_key": "an API key",
    "session": "a session token",
    "jwt": "a JWT",
    "upstream": "a key of Flowise",
}


def check_permission(route: Route, caller: Caller) -> None:
    """Check that this caller may use this route.

    Raises:
        Unauthenticated: the route requires a credential, and there is none.
        Forbidden: the credential does not allow this route, or the route does not accept its kind.
    """
    if (error := refusal(route, caller)) is not None:
        raise error


def refusal(route: Route, caller: Caller) -> GatewayError | None:
    """The reason why this caller may not use this route. A public route accepts every valid credential, or none."""
    is_public = "anonymous" in route.auth
    if caller.method == "anonymous":
        if is_public:
            return None
        return Unauthenticated(
            f"This chatflow requires {_listed(route.auth)}, sent as `Authorization: Bearer …`."
        )
    if caller.routes is not None and route.name not in caller.routes:
        return Forbidden("This credential is not for this chatflow; use one that allows its route.")
    if caller.method not in route.auth and not is_public:
        return Forbidden(
            f"This chatflow does not accept {_WORDS[caller.method]}; it requires {_listed(route.auth)}."
        )
    return None


def _listed(methods: frozenset[str]) -> str:
    return " or ".join(_WORDS[method] for method in _WORDS if method in methods)

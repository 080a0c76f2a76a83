"""The one thing that every credential gives: a caller, named in full wherever it is used.

`key:<name>`, `session:<key name>/<user>`, `jwt:<issuer>:<subject>`, `anonymous`: nobody becomes somebody else by
choosing a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.config import Limit, Route
from gateway.errors import Forbidden, GatewayError, Unauthenticated

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

    @property
    def counted_name(self) -> str:
        """The name that limits count; empty for an anonymous caller, which counts by address."""
        return "" if self.method == "anonymous" else self.name


ANONYMOUS = Caller("anonymous", "anonymous", "anonymous")
NOBODY = Caller("", "anonymous")  # before it is known


def session_name(key_name: str, user: str) -> str:
    """The full name of a session's caller; names of keys have no slash, so no two are the same."""
    return f"session:{key_name}/{user}"


_WORDS = {"api_key": "an API key", "session": "a session token", "jwt": "a JWT"}


def check_permission(route: Route, caller: Caller) -> None:
    """Nothing, if this caller may use this route.

    Raises:
        Unauthenticated: there is no credential, and the route wants one.
        Forbidden: the credential is not for this route, or of a kind that the route does not take.
    """
    if (error := refusal(route, caller)) is not None:
        raise error


def refusal(route: Route, caller: Caller) -> GatewayError | None:
    """Why this caller may not use this route; a public one takes every valid credential, and nobody's too."""
    is_public = "anonymous" in route.auth
    if caller.method == "anonymous":
        wanted = f"This chatflow wants {_listed(route.auth)}, sent as `Authorization: Bearer …`."
        return None if is_public else Unauthenticated(wanted)
    if caller.routes is not None and route.name not in caller.routes:
        return Forbidden("This credential is not for this chatflow; ask for one that names its route.")
    if caller.method not in route.auth and not is_public:
        return Forbidden(
            f"This chatflow does not take {_WORDS[caller.method]}; it wants {_listed(route.auth)}."
        )
    return None


def _listed(methods: frozenset[str]) -> str:
    return " or ".join(_WORDS[method] for method in _WORDS if method in methods)

"""Whether a caller may use a route: the one rule, asked where the route is known."""

from __future__ import annotations

from gateway.config import Route
from gateway.errors import Forbidden, Unauthenticated
from gateway.identity.caller import Caller

_WORDS = {"api_key": "an API key", "session": "a session token", "jwt": "a JWT"}


def check_permission(route: Route, caller: Caller) -> None:
    """Nothing, if this caller may use this route.

    A public route takes every credential that is valid, and nobody's too.

    Raises:
        Unauthenticated: there is no credential, and the route wants one.
        Forbidden: the credential is not for this route, or of a kind that the route does not take.
    """
    is_public = "anonymous" in route.auth
    if caller.method == "anonymous":
        if not is_public:
            raise Unauthenticated(
                f"This chatflow wants {_listed(route.auth)}, sent as `Authorization: Bearer …`."
            )
    elif caller.routes is not None and route.name not in caller.routes:
        raise Forbidden("This credential is not for this chatflow; ask for one that names its route.")
    elif caller.method not in route.auth and not is_public:
        raise Forbidden(
            f"This chatflow does not take {_WORDS[caller.method]}; it wants {_listed(route.auth)}."
        )


def _listed(methods: frozenset[str]) -> str:
    return " or ".join(_WORDS[method] for method in _WORDS if method in methods)

"""Whether a caller may use a route: the one rule, asked where the route is known."""

from __future__ import annotations

from gateway.auth.caller import Caller
from gateway.config import Route
from gateway.errors import Forbidden, GatewayError, Unauthenticated

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

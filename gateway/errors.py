"""Every error that the gateway answers with: one class for each code, with its status and title.

They are raised anywhere and answered in `pipeline.py`. A library's exception becomes one of them in the file that calls
the library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from gateway.causes import UNREACHABLE, Cause

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_NO_CODING: Mapping[str, str] = MappingProxyType({"Accept-Encoding": "identity"})
_CHALLENGE: Mapping[str, str] = MappingProxyType({"WWW-Authenticate": 'Bearer realm="flowise-gateway"'})


class GatewayError(Exception):
    """A request that the gateway answers by itself.

    Attributes:
        message: for the client: what is wrong, then what would be right. Never a secret.
        headers: response headers that belong to this refusal (`WWW-Authenticate`, `Retry-After`, `Allow`).
        policies: names of the violated limits (RFC 9457 extension `violated-policies`).
        reason: what a library said about it, for the log alone; empty where the message says it all.
    """

    code: ClassVar[str] = "failed"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    problem_type: ClassVar[str] = "about:blank"

    def __init__(
        self,
        message: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        policies: Sequence[str] = (),
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers
        self.policies = tuple(policies)
        self.reason = reason

    @property
    def for_log(self) -> str:
        """Code, message and reason."""
        return f"{self.code}: {self.message}" + (f" ({self.reason})" if self.reason else "")


class BadRequest(GatewayError):
    """The request is malformed, or the route does not allow it."""

    code, status, title = "bad_request", 400, "Bad request"


class Unauthenticated(GatewayError):
    """No credential, or an invalid one. Carries a challenge (RFC 9110 11.6.1)."""

    code, status, title = "unauthenticated", 401, "Not authenticated"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=_CHALLENGE)


class Forbidden(GatewayError):
    """The caller, or its Origin, may not do this."""

    code, status, title = "forbidden", 403, "Forbidden"


class UnknownRoute(GatewayError):
    """No such path, or no such chatflow in the configuration or in Flowise."""

    code, status, title = "unknown_route", 404, "Unknown route"


class MethodNotAllowed(GatewayError):
    """The path exists, the method does not."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class ConversationBusy(GatewayError):
    """Another run of the same conversation is open."""

    code, status, title = "conversation_busy", 409, "Conversation busy"


class TooLarge(GatewayError):
    """The body, its text or a word is above the route's limit."""

    code, status, title = "too_large", 413, "Too large"


class TargetTooLong(GatewayError):
    """The target of the request line is above `server.max_header`."""

    code, status, title = "target_too_long", 414, "Target too long"


class UnsupportedMediaType(GatewayError):
    """The body is compressed. `Accept-Encoding` says what would be right (RFC 9110 15.5.16)."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=_NO_CODING)


class HeaderTooLarge(GatewayError):
    """A header field, or all of them together, are above what `server.max_header` allows."""

    code, status, title = "header_too_large", 431, "Header too large"


class RateLimited(GatewayError):
    """A limit of the route or the caller is used up."""

    code, status, title = "rate_limited", 429, "Rate limited"
    problem_type = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class UpstreamUnreachable(GatewayError):
    """No connection to Flowise, or it was lost before the head."""

    code, status, title = "upstream_unreachable", 502, "Flowise cannot be reached"

    def __init__(self, message: str, cause: Cause = UNREACHABLE) -> None:
        super().__init__(message, reason="" if cause is UNREACHABLE else cause.words)
        self.cause = cause


class UpstreamBadReply(GatewayError):
    """Flowise's response is not valid."""

    code, status, title = "upstream_bad_reply", 502, "Invalid response from Flowise"


class Overloaded(GatewayError):
    """A bound of the gateway itself is reached."""

    code, status, title = "overloaded", 503, "Overloaded"
    problem_type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


class Draining(GatewayError):
    """The gateway is shutting down."""

    code, status, title = "draining", 503, "Shutting down"
    problem_type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


class EndedByOperator(GatewayError):
    """An operator has ended the run on the live page."""

    code, status, title = "ended_by_operator", 503, "Ended by an operator"


class AuthUnavailable(GatewayError):
    """A credential cannot be checked yet: the keys of its issuer are missing. Not a 401, on which pages log out."""

    code, status, title = "auth_unavailable", 503, "Authentication unavailable"
    problem_type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


class StoreUnavailable(GatewayError):
    """The limit store does not answer, and `when_store_fails` is `closed`."""

    code, status, title = "store_unavailable", 503, "Limit store unavailable"
    problem_type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


class UpstreamTimeout(GatewayError):
    """A deadline of the upstream passed."""

    code, status, title = "upstream_timeout", 504, "Flowise did not answer in time"


class Failed(GatewayError):
    """A bug in the gateway."""

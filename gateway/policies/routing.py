"""Finds endpoint and route of a request, before the pipeline; as a policy, refuses requests that have none.

The policy runs after `cors`, so that a browser lets the page read the refusal.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from os import urandom
from random import getrandbits
from time import monotonic
from typing import Generic, Protocol, TypeVar

from aiohttp import HttpVersion10, HttpVersion11, hdrs

from gateway import web
from gateway.auth import key_format, session_tokens
from gateway.config import Route
from gateway.errors import BadRequest, GatewayError, UnknownRoute
from gateway.exchange import SERVER, UNDER_TOKEN, Exchange, Timings
from gateway.flowise.endpoints import Match, find
from gateway.http.forwarded import Network, client_address
from gateway.http.target import BASE, split_base
from gateway.http.trace_context import PARENT, RANDOM_BITS, TraceContext, TraceSampling, begun

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CREDENTIALS = (key_format.PREFIX, session_tokens.PREFIX)
_VERSIONS = (HttpVersion10, HttpVersion11)
MOST_KNOWN, LONGEST_KNOWN = 1024, 256  # targets that are remembered; characters of one
REFUSAL = web.RequestKey("refusal", GatewayError)  # set by the listener for a request whose head it refuses


def index_routes(routes: Sequence[Route]) -> dict[str, Route]:
    """Each route by its name and by its chatflow id."""
    return {key: route for route in routes for key in (route.name, route.chatflow)}


# The checked endpoint of a target and a method, and the route that the target names; None: something is wrong with it.
Locate = Callable[[str, str], tuple[Match, Route | None] | None]


def locator(routes: Mapping[str, Route]) -> Locate:
    """Remembers the targets that were asked for last: those of predictions are few, and each is read once."""

    @lru_cache(MOST_KNOWN)
    def locate(target: str, method: str) -> tuple[Match, Route | None] | None:
        try:
            found = find(target, method)
            in_path = _route_of(found, routes)
            checked = found.check(method)
            return checked, in_path or _route_of(checked, routes)
        except GatewayError:
            return None

    return locate


class Routed(Protocol):
    """What a request is routed by: routes as `index_routes` returns them, and the networks of proxies.

    `sampling`: of traces; None: they are off.
    """

    @property
    def routes(self) -> Mapping[str, Route]: ...

    @property
    def locate(self) -> Locate: ...

    @property
    def trusted(self) -> Sequence[Network]: ...

    @property
    def sampling(self) -> TraceSampling | None: ...


R = TypeVar("R", bound=Routed)


class Current(Generic[R]):
    """What serves now: one attribute, which a reload replaces."""

    def __init__(self, serving: R) -> None:
        self.serving = serving


def request_handler(
    current: Current[R], pipeline: Callable[[Exchange, R], Awaitable[web.StreamResponse]]
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """The server's handler: makes an exchange of each request and passes it to the pipeline.

    A request keeps to the end what served when it began.
    """

    def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        serving = current.serving
        target = request.raw_path
        exchange = new_exchange(request, target, serving.trusted, serving.sampling)
        try:
            if request.version not in _VERSIONS:
                _refuse_version(request)
            if target.startswith(BASE):
                exchange.path_token, target = split_base(target)
            known = serving.locate(target, request.method) if len(target) <= LONGEST_KNOWN else None
            if known is None:
                _locate_step_by_step(exchange, target, serving.routes)
            else:
                exchange.match, exchange.route = known
        except GatewayError as error:
            exchange.routing_error = error
        if len(request):  # it has items, of which there is only one
            exchange.routing_error = request[REFUSAL]
        return pipeline(exchange, serving)

    return handle


def _locate_step_by_step(exchange: Exchange, target: str, routes: Mapping[str, Route]) -> None:
    """As `locate`, for a target that is not remembered: what is known of one that is refused is noted before.

    Raises:
        GatewayError: what is wrong with it.
    """
    request = exchange.request
    exchange.match = find(target, _meant(request))
    exchange.route = routes.get(exchange.match.named_flow or "")  # for `cors`, also if a check below fails
    in_path = _route_of(exchange.match, routes)
    if request.method != hdrs.METH_OPTIONS:
        exchange.match = exchange.match.check(request.method)
        exchange.route = in_path or _route_of(exchange.match, routes)


def _meant(request: web.BaseRequest) -> str:
    """The method; of a preflight the one that it asks for."""
    if request.method == hdrs.METH_OPTIONS:
        return request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD, "")
    return request.method


def new_exchange(
    request: web.BaseRequest,
    target: str,
    trusted: Sequence[Network],
    sampling: TraceSampling | None = None,
) -> Exchange:
    """An exchange that knows the client and the ids of the request, but neither endpoint nor route."""
    headers = request.headers
    given = headers.get("X-Request-ID", "")
    # A credential sent as request id would be logged.
    is_usable = given and _REQUEST_ID.fullmatch(given) and not given.startswith(_CREDENTIALS)
    request_id = given if is_usable else urandom(16).hex()
    parent = PARENT.fullmatch(headers.get("traceparent", ""))
    trace = None if sampling is None else _begin_trace(request, sampling, parent)
    connection = request.protocol
    client: str = getattr(connection, "address", "")  # kept by our listener
    if trusted:
        forwarded = headers.getall("X-Forwarded-For", []), headers.getall("Forwarded", [])
        client = client_address(client, *forwarded, trusted)
    own = {"X-Request-ID": request_id, "Server": SERVER}
    if target.startswith(BASE):
        own |= UNDER_TOKEN
    if trace is not None:
        own["X-Trace-Id"] = trace.trace_id
    return Exchange(
        request=request,
        request_id=request_id,
        client=client,
        timings=Timings(received=monotonic()),
        trace_id=trace.trace_id if trace is not None else parent[1] if parent is not None else "",
        trace=trace,
        client_certificate=getattr(connection, "certificate", ""),
        response_headers=own,
    )


def _begin_trace(
    request: web.BaseRequest, sampling: TraceSampling, parent: re.Match[str] | None
) -> TraceContext:
    """Of several traceparents none is valid (W3C Trace Context 3.2.1)."""
    bits = getrandbits(RANDOM_BITS)
    if parent is None or len(request.headers.getall("traceparent")) > 1:
        return begun(sampling, None, (), bits)
    return begun(sampling, parent, request.headers.getall("tracestate", ()), bits)


def _refuse_version(request: web.BaseRequest) -> None:
    """Refuses HTTP/0.9, which has no headers, so that a body cannot be described, and HTTP/2.0 without its frames.

    aiohttp accepts both.
    """
    request._cache["version"] = HttpVersion11  # noqa: SLF001 - else the status line of the answer repeats it
    raise BadRequest("This version of HTTP is not served. The request line must end in HTTP/1.1.")


def _route_of(found: Match, routes: Mapping[str, Route]) -> Route | None:
    return None if found.flow is None else find_route(found.flow, routes)


def find_route(flow: str, routes: Mapping[str, Route]) -> Route:
    """The route with this name or chatflow id. Raises UnknownRoute."""
    if (route := routes.get(flow)) is None:
        raise UnknownRoute(
            "There is no such chatflow here. Name a route of this gateway, or its chatflow id."
        )
    return route


def routing(exchange: Exchange) -> None:
    if exchange.routing_error is not None:
        raise exchange.routing_error

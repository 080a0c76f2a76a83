"""Handles every request: body, CORS, access check, endpoint, and Flowise's error handler around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from aiohttp import web

from gateway.simulator import endpoints
from gateway.simulator.bodies import RawBody, parse_body, read_body
from gateway.simulator.flows import Flow
from gateway.simulator.predictions import State, never_answer
from gateway.simulator.replies import FRAMING, HTML, VARY, FlowiseError, Reply, Responder
from gateway.simulator.requests import ReceivedRequest

_OPEN = ("/api/v1/prediction/", "/api/v1/public-chatbotConfig/", "/api/v1/chatflows-streaming/")
_METHODS = ("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
_NO_BODY = RawBody(b"", 0, "", b"")


@dataclass(frozen=True)
class App:
    """The handler of all requests.

    Attributes:
        keep_alive: announced for idle connections, seconds.
        max_body: largest JSON or urlencoded body, bytes.
    """

    state: State
    keep_alive: float
    max_body: int

    async def handle(self, incoming: web.Request) -> web.StreamResponse:
        """Answer a request; some are never answered."""
        responder = Responder(incoming, self.keep_alive)
        request = _without_body(incoming)
        try:
            request = replace(request, raw_body=await read_body(incoming, self.max_body))
            request = _with_parsed_body(request)
        except FlowiseError as error:
            self._record(request)
            return await self._fail(responder, request, error)
        self._record(request)
        try:
            return await self._route(responder, request)
        except FlowiseError as error:
            return await self._fail(responder, request, error)

    def _record(self, request: ReceivedRequest) -> None:
        self.state.requests.append(request)
        self.state.notify()

    async def _fail(self, responder: Responder, request: ReceivedRequest, error: FlowiseError) -> Reply:
        """Answer as Flowise's error handler does: never if `streaming` is set (unknown-stream)."""
        if request.is_unanswerable:
            await never_answer()
        if not responder.base and not error.is_early:
            responder.base += [*self._cors(request), *FRAMING]
        return responder.fail(error)

    async def _route(self, responder: Responder, request: ReceivedRequest) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return self._preflight(responder, request)
        responder.base += [*self._cors(request), *FRAMING]
        if not _is_utf8(responder.request.raw_path):
            raise FlowiseError(500, "URI malformed")
        if request.path.lower().startswith("/api/v1/") and not self._may_pass(request):
            return responder.json({"error": "Unauthorized Access"}, 401)
        is_api = request.path.startswith("/api/v1/")
        handler = endpoints.find(request.method, request.path) if is_api else None
        return await handler(self.state, responder, request) if handler else responder.page()

    def _may_pass(self, request: ReceivedRequest) -> bool:
        key = self.state.api_key
        has_key = bool(key) and request.headers.get("Authorization") == f"Bearer {key}"
        return has_key or endpoints.is_public(request.path)

    def _cors(self, request: ReceivedRequest) -> Iterator[tuple[str, str]]:
        """Only three endpoints have CORS, and only for a flow's origins (captures origin-*, ping-origin)."""
        origin = request.headers.get("Origin")
        if not origin:
            yield VARY
        elif self._is_open(request, origin):
            yield "Access-Control-Allow-Origin", origin
            yield VARY

    def _is_open(self, request: ReceivedRequest, origin: str) -> bool:
        flow = self._flow(request)
        if flow is None or not request.path.startswith(_OPEN):
            return False
        try:
            return flow.allows(origin)
        except ValueError:
            return False

    def _flow(self, request: ReceivedRequest) -> Flow | None:
        found = endpoints.segments(request.path)
        return self.state.flows.get(found[0]) if found else None

    def _preflight(self, responder: Responder, request: ReceivedRequest) -> Reply:
        """Captures prediction-preflight, ping-options, feedback-preflight."""
        origin, wanted = request.headers.get("Origin"), request.headers.get("Access-Control-Request-Headers")
        if origin and not self._is_open(request, origin):
            methods = endpoints.methods(request.path)
            responder.base += [*FRAMING, ("Allow", methods)]
            return responder.send(HTML, methods.encode())
        head = [("Access-Control-Allow-Origin", origin)] if origin else []
        head += [("Vary", "Origin, Access-Control-Request-Headers"), _METHODS]
        head += [("Access-Control-Allow-Headers", wanted)] if wanted else []
        return Reply(204, b"", [*head, ("Content-Length", "0"), *responder.closing()])


def _without_body(incoming: web.Request) -> ReceivedRequest:
    path = incoming.raw_path.partition("?")[0]
    found = endpoints.segments(path) if path.startswith("/api/v1/prediction/") else []
    return ReceivedRequest(
        method=incoming.method,
        path=path,
        query=dict(incoming.query),
        headers=incoming.headers,
        peer=incoming.remote or "",
        raw_body=_NO_BODY,
        flow=found[0] if found else "",
    )


def _with_parsed_body(request: ReceivedRequest) -> ReceivedRequest:
    body, files = parse_body(request.raw_body, request.headers.get("Content-Type", ""))
    return replace(request, body=body, files=files)


def _is_utf8(raw_path: str) -> bool:
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        return False
    return True

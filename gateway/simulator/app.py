"""Every request's way in: body, CORS, guard, endpoint, and Flowise's error handler around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from aiohttp import web

from gateway.simulator import endpoints
from gateway.simulator.bodies import Received, receive, understand
from gateway.simulator.flows import Flow
from gateway.simulator.predictions import State, silence
from gateway.simulator.replies import FRAMING, HTML, VARY, Refusal, Reply, Responder
from gateway.simulator.requests import ReceivedRequest

_OPEN = ("/api/v1/prediction/", "/api/v1/public-chatbotConfig/", "/api/v1/chatflows-streaming/")
_METHODS = ("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
_NO_BODY = Received(b"", 0, "", b"")


@dataclass(frozen=True)
class App:
    """Answers every request.

    Attributes:
        keep_alive: announced for idle connections, seconds.
        max_body: largest JSON or urlencoded body, bytes.
    """

    desk: State
    keep_alive: float
    max_body: int

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, perhaps never."""
        visit = Responder(request, self.keep_alive)
        asked = _asked(request)
        try:
            asked = replace(asked, received=await receive(request, self.max_body))
            asked = _understood(asked)
        except Refusal as refusal:
            self._note(asked)
            return await self._refuse(visit, asked, refusal)
        self._note(asked)
        try:
            return await self._route(visit, asked)
        except Refusal as refusal:
            return await self._refuse(visit, asked, refusal)

    def _note(self, asked: ReceivedRequest) -> None:
        self.desk.ledger.asked.append(asked)
        self.desk.ledger.note()

    async def _refuse(self, visit: Responder, asked: ReceivedRequest, refusal: Refusal) -> Reply:
        """Answer as Flowise's error handler does: never while `streaming` is set (unknown-stream)."""
        if asked.is_unanswerable:
            await silence()
        if not visit.base and not refusal.is_early:
            visit.base += [*self._cors(asked), *FRAMING]
        return visit.refuse(refusal)

    async def _route(self, visit: Responder, asked: ReceivedRequest) -> web.StreamResponse:
        if asked.method == "OPTIONS":
            return self._preflight(visit, asked)
        visit.base += [*self._cors(asked), *FRAMING]
        if not _is_utf8(visit.request.raw_path):
            raise Refusal(500, "URI malformed")
        if asked.path.lower().startswith("/api/v1/") and not endpoints.is_public(asked.path):
            return visit.json({"error": "Unauthorized Access"}, 401)
        handler = endpoints.find(asked.method, asked.path) if asked.path.startswith("/api/v1/") else None
        return await handler(self.desk, visit, asked) if handler else visit.page()

    def _cors(self, asked: ReceivedRequest) -> Iterator[tuple[str, str]]:
        """Open only three endpoints, and those only to a flow's origins (captures origin-*, ping-origin)."""
        origin = asked.headers.get("Origin")
        if not origin:
            yield VARY
        elif self._is_open(asked, origin):
            yield "Access-Control-Allow-Origin", origin
            yield VARY

    def _is_open(self, asked: ReceivedRequest, origin: str) -> bool:
        flow = self._flow(asked)
        if flow is None or not asked.path.startswith(_OPEN):
            return False
        try:
            return flow.allows(origin)
        except ValueError:
            return False

    def _flow(self, asked: ReceivedRequest) -> Flow | None:
        found = endpoints.segments(asked.path)
        return self.desk.flows.get(found[0]) if found else None

    def _preflight(self, visit: Responder, asked: ReceivedRequest) -> Reply:
        """Captures prediction-preflight, ping-options, feedback-preflight."""
        origin, wanted = asked.headers.get("Origin"), asked.headers.get("Access-Control-Request-Headers")
        if origin and not self._is_open(asked, origin):
            methods = endpoints.methods(asked.path)
            visit.base += [*FRAMING, ("Allow", methods)]
            return visit.send(HTML, methods.encode())
        head = [("Access-Control-Allow-Origin", origin)] if origin else []
        head += [("Vary", "Origin, Access-Control-Request-Headers"), _METHODS]
        head += [("Access-Control-Allow-Headers", wanted)] if wanted else []
        return Reply(204, b"", [*head, ("Content-Length", "0"), *visit.closing()])


def _asked(request: web.Request) -> ReceivedRequest:
    path = request.raw_path.partition("?")[0]
    found = endpoints.segments(path) if path.startswith("/api/v1/prediction/") else []
    return ReceivedRequest(
        method=request.method,
        path=path,
        query=dict(request.query),
        headers=request.headers,
        peer=request.remote or "",
        received=_NO_BODY,
        flow=found[0] if found else "",
    )


def _understood(asked: ReceivedRequest) -> ReceivedRequest:
    body, files = understand(asked.received, asked.headers.get("Content-Type", ""))
    return replace(asked, body=body, files=files)


def _is_utf8(raw_path: str) -> bool:
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        return False
    return True

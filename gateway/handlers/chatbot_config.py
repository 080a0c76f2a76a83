"""Answers public-chatbotConfig and chatflows-uploads without prompts, addresses and what the route does not allow.

Anyone may ask. So the requests that come while Flowise is being asked share its answer, an answer that has not changed
(by its ETag) is not read again, and a large one is read in a thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from aiohttp import hdrs
from msgspec import Struct
from msgspec.structs import replace

from gateway import web
from gateway.aio import Tasks, WorkThread
from gateway.config import Route
from gateway.errors import GatewayError, UnknownRoute, UpstreamUnreachable
from gateway.exchange import Exchange
from gateway.flowise.chatbot_config import trim, trim_uploads
from gateway.flowise.endpoints import upstream_target
from gateway.pipeline import Handler
from gateway.relay.outgoing import check_head, choose_upstream, identity_of, note_server
from gateway.relay.results import upstream_result
from gateway.upstream.choice import Choice
from gateway.upstream.response_parser import BodyEnd, ResponseHead
from gateway.upstream.upstream import Upstream

LARGEST = 4 * 1024 * 1024  # bytes of Flowise's answer, most of which is the flow
LARGEST_KEPT = 256 * 1024  # bytes of settings without the flow, for each route
LONG = 64 * 1024  # bytes; reading more takes a millisecond and belongs off the event loop

_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"  # an error page of a proxy in front of Flowise
_ETAG = re.compile(rb'(?:W/)?"[!#-~]{1,128}"')  # RFC 9110 8.8.3, in ASCII


class Settings(Struct, frozen=True):
    """Flowise's answer as the widget gets it.

    `etag`: of Flowise, empty if there is none that is valid. `allowed`: a letter for each feature of the route.
    """

    status: int
    content: bytes
    etag: bytes = b""
    allowed: str = ""

    @property
    def own_etag(self) -> str:
        """Another one than Flowise's, and for each set of allowed features: the content differs."""
        return f'{self.etag[:-1].decode()}-public{self.allowed}"' if self.etag else ""


class ChatbotConfig:
    """`passthrough` handles routes with `chatbot_config: full`; `thread`: for large answers."""

    def __init__(
        self, upstreams: Mapping[str, Upstream], passthrough: Handler, tasks: Tasks, thread: WorkThread
    ) -> None:
        self._upstreams = upstreams
        self._passthrough = passthrough
        self._tasks = tasks
        self._thread = thread
        self._kept: dict[str, Settings] = {}  # by route
        self._questions: dict[str, Question] = {}  # by route, those that Flowise has not answered

    async def __call__(self, exchange: Exchange) -> web.StreamResponse:
        _, route = exchange.matched
        self.check(route)
        if route.chatbot_config == "full":
            return await self._passthrough(exchange)
        upstream = choose_upstream(exchange, self._upstreams)
        question = self._questions.get(route.name)
        if question is None:
            question = self._questions[route.name] = Question()
            question.task = self._tasks.start(self._ask(question, exchange, upstream), "chatbot config")
        try:
            return _response(exchange, await question.answer())
        finally:
            note_server(exchange, question.choice)

    def check(self, route: Route) -> None:
        """Raise UnknownRoute where there are none."""
        if route.chatbot_config == "off":
            raise UnknownRoute("The chatbot settings of this route are off.")

    def trimmed(self, content: bytes, route: Route) -> bytes:
        """Flowise's answer as this route allows it. Raises UpstreamBadReply if it cannot be read."""
        return trim(content, route)

    async def _ask(self, question: Question, exchange: Exchange, upstream: Upstream) -> None:
        """Ask Flowise on behalf of this request, whose line has the result, and of those that wait for the same."""
        _, route = exchange.matched
        try:
            question.settings = await self._fetch(question, exchange, upstream)
        except GatewayError as error:
            question.error = error
        finally:
            del self._questions[route.name]

    async def _fetch(self, question: Question, exchange: Exchange, upstream: Upstream) -> Settings:
        match, route = exchange.matched
        target = upstream_target(match, route.chatflow)
        kept = self._kept.get(route.name)
        known = b"" if kept is None else kept.etag
        try:
            choice = upstream.choose(None, is_short=True)
            question.choice = choice
            # its answer is shared, so the client's own key is not sent, and it has no span in the client's trace
            identity = replace(identity_of(exchange), key="", trace=None)
            reply = await upstream.fetch(choice, target, identity, known, LARGEST)
            check_head(ResponseHead(reply.status), may_be_unmodified=kept is not None)
        except GatewayError as error:
            exchange.upstream_result = upstream_result(error, 0, None)
            raise
        exchange.upstream_result = upstream_result(BodyEnd.WHOLE, reply.status, None)
        if kept is not None and reply.status == 304:
            return kept
        content = reply.body
        if reply.status < 400:
            is_long = len(content) > LONG
            read = self.trimmed
            content = await self._thread.run(read, content, route) if is_long else read(content, route)
        etag = reply.etag if reply.status == 200 and _ETAG.fullmatch(reply.etag) else b""
        settings = Settings(reply.status, content, etag, _letters(route))
        self._kept.pop(route.name, None)
        if etag and len(content) <= LARGEST_KEPT:
            self._kept[route.name] = settings
        return settings


class UploadSettings(ChatbotConfig):
    """The same for chatflows-uploads, which is a part of those settings and cannot be switched off."""

    def check(self, route: Route) -> None:
        """There are some on every route."""

    def trimmed(self, content: bytes, route: Route) -> bytes:
        return trim_uploads(content, route)


def _letters(route: Route) -> str:
    features = {"f": route.uploads, "v": route.upsert, "s": route.speech}
    return "".join(letter for letter, is_allowed in features.items() if is_allowed)


class Question:
    """One request to Flowise and those that wait for its answer: settings or an error."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.choice: Choice | None = None
        self.settings: Settings | None = None
        self.error: GatewayError | None = None

    async def answer(self) -> Settings:
        """Wait for the answer. A client that leaves ends its own waiting only.

        Raises:
            GatewayError: there is none.
        """
        if self.task is not None:
            await asyncio.wait([self.task])
        if self.settings is None:
            raise self.error or UpstreamUnreachable("The question to Flowise was given up.")
        return self.settings


def _response(exchange: Exchange, settings: Settings) -> web.Response:
    etag = settings.own_etag
    headers = {hdrs.ETAG: etag} if etag else {}
    if etag and etag.removeprefix("W/") in exchange.request.headers.get(hdrs.IF_NONE_MATCH, ""):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = _JSON if settings.content[:1] in (b"{", b'"') else _TEXT
    return web.Response(status=settings.status, body=settings.content, headers=headers)

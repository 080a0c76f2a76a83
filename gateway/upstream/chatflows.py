"""What Flowise says of the chatflow of each route: whether it is there, whether it streams, whether it wants a key.

What is not known counts as there and streaming. A chatflow that does not stream answers `streaming: true` with JSON,
but if it fails it never answers, and one that is missing never answers either: so the first is asked without streaming,
and requests for the other are refused. One line is logged for each upstream and each route, and again on each change.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping, Sequence
from time import monotonic

from msgspec import Struct

from gateway.aio import Tasks
from gateway.config import Route
from gateway.errors import GatewayError, Overloaded, UnknownRoute, UpstreamBadReply
from gateway.flowise.chatflow_state import ChatflowFinding, ChatflowState, read_state
from gateway.flowise.error_texts import NOT_FOUND, WRONG_KEY, FlowiseFailure
from gateway.telemetry.logs import Logger
from gateway.upstream.flowise_api import chatflows_streaming
from gateway.upstream.server import Server
from gateway.upstream.upstream import Upstream

ASK_AGAIN_AFTER = 1.0  # seconds: requests for a missing chatflow ask no more often than that
ANSWER_WITHIN = 2.0  # seconds that such a request waits


class _Known(Struct):
    """What is known of one chatflow. `key_refused`: a prediction was answered so, whatever else is known."""

    finding: ChatflowFinding = ChatflowFinding.UNKNOWN
    sentence: str = ""
    may_stream: bool = True
    key_refused: bool = False
    asked_at: float = -math.inf
    asking: asyncio.Task[None] | None = None
    logged: ChatflowFinding | None = None

    @property
    def is_settled(self) -> bool:
        """Whether a prediction that ends well shows nothing new."""
        is_logged = self.finding is self.logged is not ChatflowFinding.UNKNOWN
        return is_logged and not self.key_refused

    @property
    def shown(self) -> ChatflowFinding:
        """What the log says: of several the one to be mended first."""
        has_other = self.key_refused and self.finding is not ChatflowFinding.MISSING
        return ChatflowFinding.WANTS_KEY if has_other else self.finding


class Chatflows:
    """`refresh` asks about all of an upstream; requests and their answers ask and tell about one."""

    def __init__(
        self,
        routes: Sequence[Route],
        upstreams: Mapping[str, Upstream],
        tasks: Tasks,
        logger: Logger,
        before: Chatflows | None = None,
    ) -> None:
        """`before`: of the configuration until now; both know the same of what stands in both."""
        self._routes = routes
        self._upstreams = upstreams
        self._tasks = tasks
        self._logger = logger
        self._known = {route.name: _Known() for route in routes}
        self._is_reachable: dict[str, bool] = {}
        if before is not None:
            self._known |= before.known_of(routes)
            self._is_reachable = before.reachable_of(upstreams)

    def known_of(self, routes: Sequence[Route]) -> dict[str, _Known]:
        """What is known of those of the routes that stand for the same chatflow of the same Flowise."""
        same = {(route.name, route.chatflow, route.upstream) for route in self._routes}
        return {
            route.name: self._known[route.name]
            for route in routes
            if (route.name, route.chatflow, route.upstream) in same
        }

    def reachable_of(self, upstreams: Mapping[str, Upstream]) -> dict[str, bool]:
        """Of those of the upstreams that have kept their server."""
        return {
            name: is_reachable
            for name, is_reachable in self._is_reachable.items()
            if name in upstreams and upstreams[name].label == self._upstreams[name].label
        }

    def may_stream(self, route: Route) -> bool:
        return self._known[route.name].may_stream

    def missing(self, route: Route) -> UnknownRoute | None:
        """The error for a request to a chatflow that is known to be missing."""
        known = self._known[route.name]
        if known.finding is not ChatflowFinding.MISSING:
            return None
        return UnknownRoute(f"{known.sentence}. It was deleted in Flowise, or this route has the wrong id.")

    def check(self, route: Route) -> Awaitable[None] | None:
        """Refuse a request whose chatflow is missing, after another look; None: go on."""
        return self._refuse(route) if self._known[route.name].finding is ChatflowFinding.MISSING else None

    async def _refuse(self, route: Route) -> None:
        await self.look_again(route)
        if (error := self.missing(route)) is not None:
            raise error

    async def look_again(self, route: Route) -> None:
        """Ask about one chatflow, unless that was done a moment ago. All that wait share one question."""
        known = self._known[route.name]
        is_asking = known.asking is not None and not known.asking.done()
        if not is_asking and monotonic() - known.asked_at >= ASK_AGAIN_AFTER:
            known.asking = self._tasks.start(self._ask_once(route), "chatflow")
        if known.asking is not None:
            await asyncio.wait((known.asking,), timeout=ANSWER_WITHIN)

    def learn(self, route: Route, failure: FlowiseFailure | None) -> None:
        """Take note of how a prediction ended: with this failure, or well."""
        known = self._known[route.name]
        if failure is not None and failure.kind == NOT_FOUND:
            self._tasks.start(self.look_again(route), "chatflow")
        elif failure is None and known.is_settled:
            return  # nothing new, as mostly
        elif failure is None or failure.kind == WRONG_KEY:
            known.key_refused = failure is not None
            if known.shown is ChatflowFinding.UNKNOWN:  # the next reply is logged whatever it is
                known.logged = None
            else:
                self._log(route, {})

    async def refresh(self, upstream: str) -> None:
        """Ask about every chatflow of this upstream, as long as it answers."""
        for route in self._routes:
            if route.upstream == upstream and not await self._ask(route):
                return

    def is_silent(self, upstream: str) -> bool:
        """Whether this upstream did not answer the last question."""
        return self._is_reachable.get(upstream) is False

    def close(self) -> None:
        """Give up the questions under way."""
        for known in self._known.values():
            if known.asking is not None:
                known.asking.cancel()

    async def _ask_once(self, route: Route) -> None:
        await self._ask(route)

    async def _ask(self, route: Route) -> bool:
        """Ask about one chatflow; return whether Flowise answered."""
        upstream, known = self._upstreams[route.upstream], self._known[route.name]
        known.asked_at = monotonic()
        try:
            choice = upstream.choose(None, is_short=True)
            status, body = await chatflows_streaming(upstream, choice, route)
        except Overloaded:
            return True  # says nothing about Flowise
        except UpstreamBadReply as error:
            self._note_answer(upstream, choice.server)
            self._note(route, ChatflowState(ChatflowFinding.UNKNOWN), {"error": error.for_log})
            return True
        except GatewayError as error:
            self._note_silence(upstream, error)
            if known.finding is ChatflowFinding.MISSING:
                known.finding, known.logged = ChatflowFinding.UNKNOWN, None
            return False
        self._note_answer(upstream, choice.server)
        self._note(route, read_state(status, body, route.chatflow), {"status": status})
        return True

    def _note_answer(self, upstream: Upstream, server: Server) -> None:
        """Of several servers the one that answered: others may be down."""
        if self._is_reachable.get(upstream.name) is not True:
            self._is_reachable[upstream.name] = True
            self._logger.info("upstream_reachable", upstream=upstream.name, server=server.label)

    def _note_silence(self, upstream: Upstream, error: GatewayError) -> None:
        if self._is_reachable.get(upstream.name) is not False:
            self._is_reachable[upstream.name] = False
            server = upstream.label
            self._logger.warning(
                "upstream_unreachable", upstream=upstream.name, server=server, error=error.for_log
            )

    def _note(self, route: Route, found: ChatflowState, reply: Mapping[str, object]) -> None:
        known = self._known[route.name]
        known.finding, known.sentence = found.finding, found.sentence
        if found.finding in (ChatflowFinding.STREAMS, ChatflowFinding.DOES_NOT_STREAM):
            known.may_stream = found.finding is ChatflowFinding.STREAMS
        self._log(route, reply)

    def _log(self, route: Route, reply: Mapping[str, object]) -> None:
        """One line for what is known now, unless the last one was the same. `reply`: of which it is known."""
        known, logger = self._known[route.name], self._logger
        if known.logged is known.shown:
            return
        known.logged = known.shown
        what = {"route": route.name, "upstream": route.upstream, "chatflow": route.chatflow}
        if known.shown is ChatflowFinding.WANTS_KEY:
            logger.warning("chatflow_wants_key", **what)
        elif known.shown is ChatflowFinding.MISSING:
            logger.error("chatflow_not_found", **what, error=known.sentence)
        elif known.shown is ChatflowFinding.UNKNOWN:
            logger.warning("streamability_unknown", **what, **reply)
        else:
            logger.info("chatflow_found", **what, streaming=known.may_stream)

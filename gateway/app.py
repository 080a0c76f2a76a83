"""Builds the services, lists the policies in their order with the reason for it, and maps endpoints to handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import time

from aiohttp import web

from gateway.admission.factory import Limiting, create_limiter
from gateway.admission.reports import StoreReports
from gateway.aio import Tasks, Ticker, WorkThread
from gateway.auth.caller import check_permission
from gateway.auth.keys_model import ApiKey
from gateway.auth.service import AuthService
from gateway.config import Config, ServerSettings
from gateway.errors import CannotRunError, ConversationBusy, Draining
from gateway.exchange import Exchange
from gateway.handlers.chatbot_config import ChatbotConfig
from gateway.handlers.limits_status import LimitsStatus
from gateway.handlers.local import ping
from gateway.handlers.passthrough import Passthrough
from gateway.handlers.predict import Predict
from gateway.handlers.session_tokens import IssueSessionToken
from gateway.pipeline import Handler, Pipeline, Policy
from gateway.policies.access_log import access_log
from gateway.policies.auth import auth
from gateway.policies.body import BodyThreads, body
from gateway.policies.body_reader import Arrivals, BodyBounds, Budget
from gateway.policies.chatflow import chatflow
from gateway.policies.conversations import conversations
from gateway.policies.cors import check_origin, cors
from gateway.policies.limits import Limits
from gateway.policies.metrics import count_unparsable, metrics
from gateway.policies.routing import find_route, index_routes, request_handler, routing
from gateway.relay.counting import TokenCounting
from gateway.relay.registry import InFlight
from gateway.relay.run import RunServices
from gateway.revocation import Revocation
from gateway.telemetry.logs import Logger
from gateway.telemetry.loop_watch import LoopWatch
from gateway.telemetry.metrics import Metrics
from gateway.upstream.chatflows import Chatflows
from gateway.upstream.large_reads import LargeReads
from gateway.upstream.upstream import Upstream

ASK_SILENT_EVERY = 5.0  # seconds: about the chatflows of an upstream that does not answer
ASK_EVERY = 12  # of these: about the chatflows of any
SETTLE_WITHIN = 5.0  # seconds for the aborts and settlements that are under way at the end
LEAVE_WITHIN = 1.0  # seconds for handlers to return after `end_all`
CONVERSATION_LOST = (
    "This answer was ended, because another one of this conversation has begun while the gateway stood still;"
    " continue with that one, or ask again."
)


class Gateway:
    """Everything that serves requests, without the sockets, from `start` to `close`. `handle` answers one request."""

    def __init__(self, config: Config, logger: Logger, known_keys: tuple[ApiKey, ...] | None = None) -> None:
        """`known_keys`: the parent's, used by a worker while the keys file is broken."""
        self._known_keys = known_keys
        self._config = config
        self._logger = logger
        self.metrics = Metrics(per_caller=config.metrics.per_caller)
        self.is_ready = False
        reads = LargeReads()
        self._upstreams = {
            name: Upstream(name, settings, self.metrics, reads) for name, settings in config.upstreams.items()
        }
        self._routes = index_routes(config.routes)
        self._loop_watch = LoopWatch(self.metrics.lagged, logger)
        self._in_flight = InFlight()
        self._reading = WorkThread("replies")  # of Flowise, the large ones
        self._counting = TokenCounting(
            config.server.kept_replies, config.limits.max_run_tokens, self._reading
        )
        self._tasks = Tasks(self._on_task_error)
        self._store_tasks = Tasks(self._on_task_error)  # of the limit store, which never end by themselves
        self._limiting = self._make_limits()
        self._locks = self._limiting.locks
        self._limits = Limits(
            self._limiting.limiter, config.routes, config.auth.session_tokens.per_minute, self.metrics
        )
        self._identity = AuthService(config.auth, self._tasks, logger, self.metrics.reloaded)
        self._chatflows = Chatflows(config.routes, self._upstreams, self._tasks, logger)
        self._bodies = _body_bounds(config.server)
        self._body_threads = BodyThreads.start()
        self._pipeline = Pipeline(self._policies(), self._handler(), logger)
        self._revocation = Revocation(self._identity.keyring, self._pipeline, self._in_flight, time)
        self._watchers = self._timed()
        self._ticker: Ticker | None = None
        self._learning: list[asyncio.Task[None]] = []
        self.handle = request_handler(self._routes, config.server.trusted_proxies, self._pipeline)

    def count_unparsable(self) -> None:
        """Count a request that the listener could not parse, so that it never got to `handle`."""
        count_unparsable(self.metrics)

    def _timed(self) -> list[Callable[[float], None]]:
        """The callbacks of the coarse timer."""
        return [
            self._in_flight.tick,
            self.metrics.tick,
            self._bodies.arrivals.tick,
            self._limiting.limiter.tick,
            self._identity.tick,
            self._revocation.tick,
            *(upstream.sweep for upstream in self._upstreams.values()),
        ]

    def watch(self, watcher: Callable[[float], None]) -> None:
        """Add a callback of the coarse timer, which gets the monotonic time; before `start`."""
        self._watchers.append(watcher)

    async def start(self) -> None:
        """Read the keys, open the limit store, start the timer and the questions about the chatflows.

        Raises:
            ConfigError: the keys file has mistakes.
        """
        self.metrics.reloaded(True)  # the configuration, whose mistakes end the process before this
        await self._identity.start(self._revocation.apply, self._known_keys)
        await self._limiting.limiter.start()
        self._ticker = Ticker(self._watchers)
        self._ticker.start()
        self._loop_watch.start()
        self._learning = [
            self._tasks.start(self._learn_chatflows(name), f"chatflows of {name}") for name in self._upstreams
        ]

    def begin_drain(self) -> None:
        """Close each connection after its next answer, and abort runs without a client."""
        self._pipeline.is_closing = True
        self._in_flight.begin_drain()

    async def drain(self, seconds: float) -> None:
        """Let open requests finish for at most `seconds`, then end them."""
        await self._finish_within(seconds)
        self.end_all()
        if not await self._finish_within(LEAVE_WITHIN):
            self._logger.warning("requests_left", count=len(self._pipeline))

    def end_all(self) -> None:
        """End every open request and run now."""
        error = Draining("The gateway is shutting down; ask again in a moment.")
        self._locks.cancel_all_waiters(error)
        self._in_flight.close_all(error)  # before the pipeline, so that they do not count as disconnects
        self._pipeline.reject_all(error)

    async def _finish_within(self, seconds: float) -> bool:
        """Wait until no request and no run is open; return whether that was in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._pipeline.wait_idle()
                await self._in_flight.wait_idle()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close what `start` opened, after the settlements under way."""
        self._loop_watch.stop()
        if self._ticker is not None:
            self._ticker.stop()
        for learning in self._learning:
            learning.cancel()
        self._chatflows.close()
        await self._tasks.join(SETTLE_WITHIN)
        await self._body_threads.close()
        await self._reading.close()
        for upstream in self._upstreams.values():
            upstream.close()
        await self._identity.close()
        await self._limiting.limiter.close()
        await self._store_tasks.join(0)

    def _policies(self) -> list[Policy]:
        config = self._config
        origins = {name: upstream.origin for name, upstream in self._upstreams.items()}
        limits_by_address, limits_by_caller = self._limits.policies(is_shadow=config.limits.shadow)
        return [
            access_log(self._logger, with_prompts=config.logs.prompts),  # first: every request gets its line
            metrics(self.metrics),  # with it, from the same facts
            cors(config.defaults_cors, config.routes),  # before any refusal, so that a page can read it
            routing,  # refuses what is no endpoint
            limits_by_address,  # before an unknown caller costs more
            # before the body, so that nothing is buffered for an unknown caller
            auth(self._identity.authenticator, self.metrics, config.routes),
            body(self._bodies, self._body_threads, self._enter_route),
            chatflow(self._chatflows.check),  # after body, which may name it; before anything is locked
            conversations(  # needs the caller and the chatId of the body
                self._locks, self.metrics, origins, self._identity.conversation_ids
            ),
            limits_by_caller,  # last: caller and size are known, and the conversation is free
        ]

    def _enter_route(self, exchange: Exchange, flow: str) -> None:
        """Do for a flow that the body names what routing, cors and auth do for one in the target."""
        exchange.route = find_route(flow, self._routes)
        check_origin(exchange, exchange.route.cors)
        check_permission(exchange.route, exchange.caller)

    def _handler(self) -> Handler:
        send_timeout = self._config.server.timeouts.send
        passthrough = Passthrough(self._upstreams, self._in_flight, self._locks, send_timeout)
        handlers: dict[str, Handler] = {
            "prediction": Predict(
                self._upstreams,
                RunServices(
                    self._in_flight,
                    self._tasks,
                    self.metrics,
                    self._counting,
                    self._reading,
                    self._chatflows,
                ),
                send_timeout,
            ),
            "chatbot_config": ChatbotConfig(self._upstreams, passthrough, self._tasks, self._reading),
            "ping": ping,
            "limits": LimitsStatus(self._limiting.limiter, self._limits.resolver, self._config.routes),
            "session_tokens": IssueSessionToken(
                self._identity.tokens, self._config.auth.session_tokens, self._routes, time
            ),
        }

        def handle(exchange: Exchange) -> Awaitable[web.StreamResponse]:
            return handlers.get(exchange.endpoint, passthrough)(exchange)

        return handle

    def _make_limits(self) -> Limiting:
        settings = self._config.limits
        ca = None if settings.tls.ca is None else str(settings.tls.ca)
        try:
            return create_limiter(
                settings,
                self._store_tasks.start,
                StoreReports(self._logger, self.metrics).listener(self._give_way),
                ca,
            )
        except ValueError as error:  # the package for it is not there
            raise CannotRunError(str(error)) from None

    def _give_way(self, release: Callable[[], None]) -> None:
        """End the request that holds the conversation lock with this release: another process has it by now."""
        error = ConversationBusy(CONVERSATION_LOST)

        def has_lock(exchange: Exchange) -> bool:
            return exchange.release_conversation is release

        self._in_flight.give_way(error, has_lock)
        self._pipeline.reject_pending(error, has_lock)

    async def _learn_chatflows(self, upstream: str) -> None:
        while not self._in_flight.is_draining:
            await self._chatflows.refresh(upstream)
            for _ in range(ASK_EVERY):
                await asyncio.sleep(ASK_SILENT_EVERY)
                if self._chatflows.is_silent(upstream):  # a request may have found that meanwhile
                    break

    def _on_task_error(self, error: BaseException) -> None:
        self._logger.error("bug", error=repr(error), exc_info=error)


def _body_bounds(server: ServerSettings) -> BodyBounds:
    budget = Budget(server.buffered_bodies, server.max_body)
    return BodyBounds(server.timeouts.body_idle, server.timeouts.body, budget, Arrivals())

"""The gateway without its sockets: what lives as long as the process, and the configuration that serves now.

`serving` makes the policies and handlers of a configuration; `Gateway.commit` puts another one in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, time
from weakref import WeakSet

from msgspec import Struct

from gateway.admission.factory import Limiting, create_limiter, store_use
from gateway.admission.reports import StoreReports
from gateway.aio import Tasks, Ticker, Turns, WorkThread
from gateway.auth.keys_model import ApiKey
from gateway.auth.keys_watch import KeysWatch
from gateway.auth.service import AuthService
from gateway.command_errors import CannotRunError
from gateway.config import Config, ConfigError, LimitSettings, Mistake
from gateway.errors import ConversationBusy, Draining
from gateway.exchange import Exchange
from gateway.flowise.content_budget import ContentBudget
from gateway.page.recent import Recent
from gateway.page.sampling import Sampling
from gateway.pipeline import Pipeline
from gateway.policies.body import BodyThreads
from gateway.policies.body_reader import STEPS, Arrivals, Budget
from gateway.policies.metrics import count_unparsable
from gateway.policies.routing import Current, request_handler
from gateway.relay.registry import InFlight
from gateway.revocation import Revocation
from gateway.serving import Services, Serving
from gateway.telemetry.logs import Logger
from gateway.telemetry.loop_watch import LoopWatch
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace_export import TraceExport, check_traces
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


class Prepared(Struct, frozen=True):
    """A configuration that can be served: `commit` cannot fail. `keys`: of another keys file than the current one."""

    serving: Serving
    keys: KeysWatch | None


class Gateway:
    """Everything that serves requests, without the sockets, from `start` to `close`. `handle` answers one request."""

    def __init__(self, config: Config, logger: Logger, known_keys: tuple[ApiKey, ...] | None = None) -> None:
        """`known_keys`: the parent's, used by a worker while the keys file is broken."""
        self._known_keys = known_keys
        self._logger = logger
        self.metrics = Metrics(per_caller=config.metrics.per_caller)
        self.is_ready = False
        self._loop_watch = LoopWatch(self.metrics.lagged, logger)
        self._upstream_tasks = Tasks(self._on_task_error)  # checks and look-ups
        self._store_tasks = Tasks(self._on_task_error)  # of the limit store, which never end by themselves
        recent = Recent()
        self._services = self._make_services(config, recent)
        self._tasks = self._services.tasks
        self._in_flight = self._services.in_flight
        self._limiting = self._services.limiting
        self._identity = self._services.identity
        self._building = WorkThread("configuration")
        self._current = Current(Serving(config, self._services))
        self._retired: WeakSet[Upstream] = WeakSet()  # in use by requests of an earlier configuration
        self._pipeline = Pipeline(logger)
        self._revocation = Revocation(self._identity.keys.keyring, self._pipeline, self._in_flight, time)
        self.sampling = Sampling(
            recent, self._in_flight, self._pipeline, self._current, self._limiting.limiter, logger
        )
        self._watchers = self._timed()
        self._ticker: Ticker | None = None
        self._learning: list[asyncio.Task[None]] = []
        self.handle = request_handler(self._current, self._pipeline)

    def _make_services(self, config: Config, recent: Recent) -> Services:
        tasks = Tasks(self._on_task_error)
        return Services(
            logger=self._logger,
            metrics=self.metrics,
            traces=TraceExport(self.metrics, self._logger),
            tasks=tasks,
            limiting=self._make_limits(config.limits),
            identity=AuthService(config.auth, tasks, self._logger, self.metrics.reloaded),
            in_flight=InFlight(),
            reading=WorkThread("replies"),
            reads=LargeReads(),
            kept=ContentBudget(config.server.kept_replies),
            bodies=Budget(config.server.buffered_bodies, config.server.max_body),
            arrivals=Arrivals(),
            body_turns=Turns(STEPS),
            body_threads=BodyThreads.start(),
            keep=recent.keep,
        )

    @property
    def reads(self) -> LargeReads:
        """What shares out the iterations of the loop among large reads."""
        return self._services.reads

    def count_unparsable(self) -> None:
        """Count a request that the listener could not parse, so that it never got to `handle`."""
        count_unparsable(self.metrics)

    def _timed(self) -> list[Callable[[float], None]]:
        """The callbacks of the coarse timer."""
        return [
            self._in_flight.tick,
            self.metrics.tick,
            self._services.traces.tick,
            self._services.arrivals.tick,
            self._limiting.limiter.tick,
            self._identity.tick,
            self._revocation.tick,
            self._tick_upstreams,
        ]

    def _tick_upstreams(self, now: float) -> None:
        serving = self._current.serving
        for name, upstream in serving.upstreams.items():
            upstream.tick(now, self._upstream_tasks)
            serving.origins.met(name, upstream.places)

    def watch(self, watcher: Callable[[float], None]) -> None:
        """Add a callback of the coarse timer, which gets the monotonic time; before `start`."""
        self._watchers.append(watcher)

    async def start(self) -> None:
        """Read the keys, open the limit store, start the timer and the questions about the chatflows.

        Raises:
            ConfigError: the keys file has mistakes, or traces cannot be exported.
        """
        self.metrics.reloaded(True)  # the configuration, whose mistakes end the process before this
        await self._load_traces(self._current.serving.config)
        self._services.traces.use(self._current.serving.config.traces)
        await self._identity.start(self._revocation.apply, self._known_keys)
        await self._limiting.limiter.start()
        await self._current.serving.start(monotonic())
        self._current.serving.adopt()
        self._ticker = Ticker(self._watchers)
        self._ticker.start()
        self._loop_watch.start()
        self._learn()

    # -- another configuration ---------------------------------------------------------------------

    async def prepare(self, config: Config, known_keys: tuple[ApiKey, ...] | None = None) -> Prepared:
        """Do everything that can fail on the way to another configuration; nothing changes yet.

        Args:
            config: what `config.changes.change` leaves of it.
            known_keys: the parent's, of its keys file.

        Raises:
            ConfigError: its keys file has mistakes, or traces cannot be exported.
            OSError: a file with certificates cannot be read.
        """
        await self._load_traces(config)
        serving = await self._building.run(Serving, config, self._services, self._current.serving)
        await serving.start(monotonic())
        return Prepared(serving, await self._identity.keys.prepare(config.auth.keys_file, known_keys))

    async def _load_traces(self, config: Config) -> None:
        """Load what traces need before a request waits for it: 0.2 s. Raises ConfigError."""
        try:
            await self._building.run(check_traces, config.traces)
        except ValueError as error:
            raise ConfigError([Mistake("configuration", 0, "traces", str(error))]) from None

    async def abandon(self, prepared: Prepared) -> None:
        """Close what was opened for it."""
        if prepared.keys is not None:
            await prepared.keys.close()

    def commit(self, prepared: Prepared) -> None:
        """Serve this configuration from now on, in one step; requests that have begun end under their own."""
        before, serving = self._current.serving, prepared.serving
        self._current.serving = serving
        config, services = serving.config, self._services
        self.metrics.is_per_caller = config.metrics.per_caller
        services.traces.use(config.traces)
        services.kept.resize(config.server.kept_replies)
        services.bodies.resize(config.server.buffered_bodies, config.server.max_body)
        self._limiting.limiter.use(store_use(config.limits))
        self._replace_upstreams(before)
        self._identity.adopt(serving.credentials)
        self._identity.keys.adopt(config.auth.keys_file, prepared.keys)
        self._learn()

    def _replace_upstreams(self, before: Serving) -> None:
        current = self._current.serving.upstreams
        self._current.serving.adopt()
        for name, upstream in before.upstreams.items():
            upstream.drain(current.get(name))
            self._retired.add(upstream)

    # -- the end -----------------------------------------------------------------------------------

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
        self._limiting.locks.cancel_all_waiters(error)
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
        self._current.serving.chatflows.close()
        await self._tasks.join(SETTLE_WITHIN)
        await self._services.body_threads.close()
        await self._services.reading.close()
        await self._building.close()
        await self._upstream_tasks.join(0)
        for upstream in (*self._current.serving.upstreams.values(), *self._retired):
            upstream.close()
        await self._identity.close()
        await self._limiting.limiter.close()
        await self._store_tasks.join(0)
        await asyncio.to_thread(self._services.traces.close)

    def _make_limits(self, settings: LimitSettings) -> Limiting:
        ca = store_use(settings).ca
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

    def _learn(self) -> None:
        """Ask about the chatflows of the configuration that serves now, and no longer about those before."""
        for learning in self._learning:
            learning.cancel()
        self._learning = [
            self._tasks.start(
                self._learn_chatflows(self._current.serving.chatflows, name), f"chatflows of {name}"
            )
            for name in self._current.serving.upstreams
        ]

    async def _learn_chatflows(self, chatflows: Chatflows, upstream: str) -> None:
        while not self._in_flight.is_draining:
            await chatflows.refresh(upstream)
            for _ in range(ASK_EVERY):
                await asyncio.sleep(ASK_SILENT_EVERY)
                if chatflows.is_silent(upstream):  # a request may have found that meanwhile
                    break

    def _on_task_error(self, error: BaseException) -> None:
        self._logger.error("bug", error=repr(error), exc_info=error)

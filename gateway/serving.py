"""What one configuration makes: upstreams, the policies in their order with the reason for it, the handlers.

A `Serving` is made as a whole, in a thread, and never changed. A reload puts another one in its place; a request keeps
the one that it began with. What outlives a configuration is in `Services`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from time import time

from msgspec import Struct

from gateway import web
from gateway.admission.factory import Limiting
from gateway.aio import Tasks, Turns, WorkThread
from gateway.auth.service import AuthService
from gateway.config import Config, TraceSettings
from gateway.exchange import Exchange
from gateway.flowise.content_budget import ContentBudget
from gateway.handlers.chatbot_config import ChatbotConfig, UploadSettings
from gateway.handlers.feedback import Feedback
from gateway.handlers.limits_status import LimitsStatus
from gateway.handlers.local import ping
from gateway.handlers.node_icon import NodeIcon
from gateway.handlers.passthrough import Passthrough
from gateway.handlers.predict import Predict
from gateway.handlers.session_tokens import IssueSessionToken
from gateway.handlers.speech import ReadAloud
from gateway.http.trace_context import TraceSampling
from gateway.pipeline import Handler, Policy
from gateway.policies.access_log import Keep, access_log
from gateway.policies.auth import auth, check_route
from gateway.policies.body import BodyThreads, body
from gateway.policies.body_reader import Arrivals, BodyBounds, Budget
from gateway.policies.chatflow import chatflow
from gateway.policies.conversations import conversations
from gateway.policies.cors import check_origin, cors
from gateway.policies.feedback import feedback
from gateway.policies.limits import Limits
from gateway.policies.metrics import metrics
from gateway.policies.routing import find_route, index_routes, locator, routing
from gateway.policies.traces import names_of, traces, with_marks
from gateway.relay.counting import TokenCounting
from gateway.relay.registry import InFlight
from gateway.relay.run import RunServices
from gateway.relay.speech import SpeechServices
from gateway.telemetry.logs import Logger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace_export import TraceExport
from gateway.upstream.chatflows import Chatflows
from gateway.upstream.large_reads import LargeReads
from gateway.upstream.origins import Origins
from gateway.upstream.upstream import Upstream


class Services(Struct, frozen=True):
    """What lives as long as the process, and so do its counts, locks, threads and caches."""

    logger: Logger
    metrics: Metrics
    traces: TraceExport
    tasks: Tasks
    limiting: Limiting
    identity: AuthService
    in_flight: InFlight
    reading: WorkThread  # of Flowise's large replies
    reads: LargeReads
    kept: ContentBudget
    bodies: Budget
    arrivals: Arrivals
    body_turns: Turns
    body_threads: BodyThreads
    keep: Keep  # of each request, for the live page


class Serving:
    """Everything that a request needs of one configuration.

    Attributes:
        config: the configuration.
        routes: each route by its name and by its chatflow id.
        locate: finds endpoint and route of a target.
        trusted: networks of proxies.
        sampling: of traces; None: they are off.
        upstreams: by name.
        origins: what the conversations of each belong to.
        credentials: what it issues and verifies.
        chatflows: what Flowise says of them.
        policies: in their order.
        handler: of every endpoint.
    """

    def __init__(self, config: Config, services: Services, before: Serving | None = None) -> None:
        """`before`: what is served until now; what has not changed is taken over from it.

        Raises:
            OSError: a file with certificates cannot be read.
        """
        self.config = config
        self._services = services
        known = {} if before is None else before.upstreams
        self.upstreams: Mapping[str, Upstream] = {
            name: Upstream(name, settings, services.metrics, services.logger, services.reads, known.get(name))
            for name, settings in config.upstreams.items()
        }
        self.origins = Origins({name: upstream.origins for name, upstream in self.upstreams.items()})
        self.routes = index_routes(config.routes)
        self.locate = locator(self.routes)
        self.trusted = config.server.trusted_proxies
        self.sampling = None if config.traces is None else _sampling(config.traces)
        self.credentials = services.identity.prepare(config.auth)
        self.chatflows: Chatflows = Chatflows(
            config.routes,
            self.upstreams,
            services.tasks,
            services.logger,
            None if before is None else before.chatflows,
        )
        limits = Limits(
            services.limiting.limiter,
            config.routes,
            config.auth.session_tokens.per_minute,
            services.metrics,
        )
        self.policies: Sequence[Policy] = self._policies(limits)
        self.handler: Handler = self._handler(limits)

    async def start(self, now: float) -> None:
        """Wait a moment for the addresses of names that are looked up. `now`: monotonic seconds."""
        for name, upstream in self.upstreams.items():
            await upstream.start(now)
            self.origins.met(name, upstream.places)

    def adopt(self) -> None:
        """Serve from now on."""
        for upstream in self.upstreams.values():
            upstream.adopt()

    def _policies(self, limits: Limits) -> tuple[Policy, ...]:
        config, services = self.config, self._services
        timeouts = config.server.timeouts
        bounds = BodyBounds(
            timeouts.body_idle, timeouts.body, services.bodies, services.arrivals, services.body_turns
        )
        limits_by_address, limits_by_caller = limits.policies(is_shadow=config.limits.shadow)
        reporting = (
            access_log(  # first: every request gets its line
                services.logger, config.logs, services.keep if config.admin.page else None
            ),
            metrics(services.metrics),  # with it, from the same facts
        )
        deciding = (
            cors(config.defaults_cors, config.routes),  # before any refusal, so that a page can read it
            routing,  # refuses what is no endpoint
            limits_by_address,  # before an unknown caller costs more
            # before the body, so that nothing is buffered for an unknown caller
            auth(self.credentials.authenticator, services.metrics, config.routes),
            # needs the caller; finds the route, whose bounds the body needs
            feedback(services.limiting.owners, self._enter_route),
            body(bounds, services.body_threads, self._enter_route),
            chatflow(self.chatflows.check),  # after body, which may name it; before anything is locked
            conversations(  # needs the caller and the chatId of the body
                services.limiting.locks, services.metrics, self.origins, self.credentials.conversation_ids
            ),
            limits_by_caller,  # last: caller and size are known, and the conversation is free
        )
        if config.traces is None:
            return (*reporting, *deciding)
        tracing = traces(services.traces, config.traces, names_of(deciding))
        return (tracing, *reporting, *with_marks(deciding))  # before the metrics, which name the trace

    def _enter_route(self, exchange: Exchange, flow: str) -> None:
        """Do for a flow that the body names what routing, cors and auth do for one in the target."""
        exchange.route = find_route(flow, self.routes)
        check_origin(exchange, exchange.route.cors)
        check_route(exchange, exchange.route)

    def _handler(self, limits: Limits) -> Handler:
        config, services = self.config, self._services
        send_timeout = config.server.timeouts.send
        in_flight, tasks, reading = services.in_flight, services.tasks, services.reading
        locks = services.limiting.locks
        passthrough = Passthrough(self.upstreams, in_flight, locks, self.origins, tasks, send_timeout)
        counting = TokenCounting(services.kept, config.limits.max_run_tokens, reading)
        runs = RunServices(in_flight, tasks, services.metrics, counting, reading, self.chatflows)
        handlers: dict[str, Handler] = {
            "prediction": Predict(self.upstreams, runs, send_timeout),
            "chatbot_config": ChatbotConfig(self.upstreams, passthrough, tasks, reading),
            "chatflows_uploads": UploadSettings(self.upstreams, passthrough, tasks, reading),
            "feedback": Feedback(self.upstreams, in_flight, services.limiting.owners, counting.budget),
            "node_icon": NodeIcon(self.upstreams),
            "speech": ReadAloud(
                self.upstreams, SpeechServices(in_flight, locks, self.origins, tasks), send_timeout
            ),
            "ping": ping,
            "limits": LimitsStatus(services.limiting.limiter, limits.resolver, config.routes),
            "session_tokens": IssueSessionToken(
                self.credentials.tokens, config.auth.session_tokens, self.routes, time
            ),
        }

        def handle(exchange: Exchange) -> Awaitable[web.StreamResponse]:
            return handlers.get(exchange.endpoint, passthrough)(exchange)

        return handle


def _sampling(settings: TraceSettings) -> TraceSampling:
    return TraceSampling.of(
        settings.ratio, continues=settings.parent == "continue", propagates=settings.propagate
    )

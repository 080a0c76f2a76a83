"""One configured Flowise: its servers, and the requests of the gateway's own to them.

Every request to Flowise gets its Host, forwarding fields, request id and API key here. The client's cookies and
forwarding fields never pass, nor do its credentials: only a key of Flowise on a route with `auth: [upstream]`, in place
of the configured one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256

from msgspec import Struct

from gateway.aio import Tasks
from gateway.config import UpstreamServer, UpstreamSettings, UpstreamTimeouts, Url
from gateway.config.proxies import Proxy
from gateway.http.target import join_target
from gateway.records import DiscreetRecord
from gateway.telemetry.logs import Logger
from gateway.telemetry.metrics import Metrics
from gateway.upstream.checking import Checks
from gateway.upstream.choice import Choice
from gateway.upstream.discovery import START_WITHIN, Discovery
from gateway.upstream.headers import Addressed, UpstreamRequest, own_fields, upward
from gateway.upstream.large_reads import LargeReads
from gateway.upstream.pool import Place, PoolSettings, tls_context
from gateway.upstream.server import Identity, Pinned, Server, ServerOptions
from gateway.upstream.server_reports import ServerReports
from gateway.upstream.servers import Servers
from gateway.upstream.short_request import ShortReply, send_short

_OF_THE_BODY = frozenset({b"content-type"})
REQUEST_TIMEOUT = 10.0  # seconds, for the gateway's own requests
MAX_REPLY = (
    64 * 1024
)  # bytes, likewise; the answers to an abort and to chatflows-streaming have less than 100


class ForwardedIdentity(DiscreetRecord, frozen=True):
    """Request id and client address that Flowise sees; no address: a request of the gateway's own.

    `key`: the client's own key of Flowise; empty: the configured one is sent. `trace`: header fields in the place of
    the client's `traceparent` and `tracestate`; None: those pass.
    """

    request_id: str
    client: str = ""
    key: str = ""
    trace: Mapping[str, str] | None = None


_WITH_TRACE = frozenset({*_OF_THE_BODY, b"traceparent", b"tracestate"})


class CallTimeouts(Struct, frozen=True):
    """The deadlines of one call, in seconds; read for each: an attribute of pydantic's takes ten times as long."""

    send: float
    head: float
    first_event: float
    idle: float
    total: float

    @classmethod
    def of(cls, settings: UpstreamTimeouts) -> CallTimeouts:
        return cls(settings.send, settings.head, settings.first_event, settings.idle, settings.total)


class Upstream:
    """Connects when it is asked to send; until `close`, or `drain` and the end of its last request."""

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        metrics: Metrics,
        logger: Logger,
        reads: LargeReads | None = None,
        before: Upstream | None = None,
    ) -> None:
        """Make its servers; they connect when they are asked to.

        Args:
            name: as configured.
            settings: as configured.
            metrics: where its servers are counted.
            logger: where they are logged.
            reads: shared with other upstreams.
            before: of this name until now; of its servers those that are the same are kept, with what they have.

        Raises:
            OSError: a file with certificates cannot be read.
        """
        self.name = name
        self.settings, self.timeouts = settings, CallTimeouts.of(settings.timeouts)
        self._known = {} if before is None else dict(before.by_identity())
        self._kept: list[tuple[Server, ServerOptions]] = []
        self._reads = reads or LargeReads()
        self._authority = "" if settings.tls.ca is None else sha256(settings.tls.ca.read_bytes()).hexdigest()
        is_tls = any(server.url.scheme == "https" for server in settings.servers)
        self._tls = tls_context(settings.tls.ca) if is_tls else None
        self._reports = ServerReports(name, metrics, logger)
        self._labels = [str(Place(server.url.host, server.url.port)) for server in settings.servers]
        self.servers = Servers(settings, self._labels, self._reports)
        self._checks = Checks(settings.health, self.servers)
        self._discovery: Discovery | None = None
        if settings.discover == "dns":
            self._discovery = Discovery(settings.servers, self.servers, self._server, self._reports)
            self._discovery.begin_with(list(self._known.values()))
        else:
            self.servers.replace(self._server(server) for server in settings.servers)

    # -- its servers -------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """Its servers by their configured names, for the log."""
        return ", ".join(self._labels)

    @property
    def origins(self) -> list[str]:
        """Host, port and path of each configured server: what conversations belong to."""
        return [Identity(server.url).origin for server in self.settings.servers]

    @property
    def places(self) -> list[str]:
        """The same of the servers that there are, by their addresses where those are known."""
        return [server.identity.met_at for server in self.servers]

    async def start(self, now: float) -> None:
        """Wait a moment for the addresses of names that are looked up. `now`: monotonic seconds."""
        if self._discovery is not None:
            await self._discovery.begin(now, START_WITHIN)

    def tick(self, now: float, tasks: Tasks) -> None:
        """Close idle connections in time, check servers, look up names. `now`: monotonic seconds."""
        self.sweep(now)
        self._checks.tick(now, tasks)
        if self._discovery is not None and self._discovery.is_due(now):
            tasks.start(self._discovery.run(now), "look-up")

    def sweep(self, now: float) -> None:
        """Close idle connections that a server is about to close. `now`: monotonic seconds."""
        self.servers.tick(now)

    def by_identity(self) -> Mapping[Identity, Server]:
        """What a successor may keep."""
        return {server.identity: server for server in self.servers}

    def adopt(self) -> None:
        """Serve from now on: servers that were those of `before` follow the settings, as they did not until now."""
        for server, options in self._kept:
            server.adopt(options)
        self._kept.clear()
        self.servers.begin()

    def drain(self, successor: Upstream | None = None) -> None:
        """Keep no connection to servers that the successor does not have; requests that have begun still get them."""
        self.servers.drain(() if successor is None else successor.servers)
        if self._discovery is not None:
            self._discovery.stop()
        known = () if successor is None else successor._labels  # noqa: SLF001 - of this class
        self._reports.forget(label for label in self._labels if label not in known)

    @property
    def is_drained(self) -> bool:
        return self.servers.is_drained

    def close(self) -> None:
        """Close every connection of every server."""
        self.servers.close()

    # -- requests ----------------------------------------------------------------------------------

    def choose(self, chat_id: str | None, *, is_short: bool = False) -> Choice:
        """The server for one request. `is_short`: of the gateway's own, which does not wait for runs.

        Raises:
            UpstreamUnreachable: no server is up.
        """
        return Choice(self.servers, chat_id, is_short=is_short)

    def fields(
        self, identity: ForwardedIdentity, from_client: Iterable[tuple[bytes, bytes]], content_type: str = ""
    ) -> list[tuple[bytes, bytes]]:
        """The header fields of a relayed request to any of the servers: the gateway's own, and what may pass.

        `content_type`: of the body as it is sent, which is not always the client's; empty: no body.
        """
        own = _own(identity)
        if content_type:
            own.append((b"Content-Type", content_type.encode()))
        without = _OF_THE_BODY if identity.trace is None else _WITH_TRACE
        return own + upward(from_client, without=without)

    async def request(
        self,
        method: str,
        target: bytes,
        identity: ForwardedIdentity,
        server: Server,
        content: bytes = b"",
    ) -> tuple[int, bytes]:
        """Send a short request of the gateway's own to this server; return status and body. No redirect is followed.

        `content`: JSON; empty: no body.

        Raises:
            GatewayError: there is no reply, no complete one within `REQUEST_TIMEOUT`, or one that is not valid or
                larger than `MAX_REPLY`.
        """
        own = _own(identity)
        if content:
            own.append((b"Content-Type", b"application/json"))
        request = UpstreamRequest(method, target, own, content)
        reply = await send_short(Pinned(server), request, REQUEST_TIMEOUT, MAX_REPLY)
        return reply.status, reply.body

    async def fetch(
        self,
        choice: Choice,
        target: bytes,
        identity: ForwardedIdentity,
        known: bytes = b"",
        limit: int = MAX_REPLY,
    ) -> ShortReply:
        """GET of the gateway's own. `known`: an ETag; if it still holds, the reply is a 304. `limit`: bytes.

        Raises:
            GatewayError: as `request`.
        """
        condition = [(b"If-None-Match", known)] if known else []
        request = UpstreamRequest("GET", target, [*_own(identity), *condition])
        return await send_short(choice, request, REQUEST_TIMEOUT, limit)

    # -- how a server is made ----------------------------------------------------------------------

    def _server(self, entry: UpstreamServer, address: str = "") -> Server:
        """The server of an entry, at one of its addresses; the known one if it is the same."""
        url = entry.url
        is_tls = url.scheme == "https"
        proxy = self.settings.proxy_of(url)
        via = "" if proxy is None else str(proxy)
        identity = Identity(url, self._authority if is_tls else "", address, via)
        settings = ServerOptions(self._pool_settings(), entry.weight, _addressed(self.settings, url, proxy))
        server = self._known.pop(identity, None)
        if server is not None:
            self._kept.append((server, settings))
            return server
        place = Place(url.host, url.port, self._tls if is_tls else None, address, proxy)
        on_connect = partial(self._reports.connected, str(place))
        return Server(identity, place, settings, on_connect, self._reads)

    def _pool_settings(self) -> PoolSettings:
        settings = self.settings
        return PoolSettings(
            settings.max_connections, settings.timeouts.connect, settings.max_age, int(settings.keepalive)
        )


def _own(identity: ForwardedIdentity) -> list[tuple[bytes, bytes]]:
    """The client's own key, if it has one, comes first: it replaces the one that is configured."""
    own = []
    if identity.key:
        own.append((b"Authorization", f"Bearer {identity.key}".encode()))
    if identity.client:
        own.append((b"X-Forwarded-For", identity.client.encode()))
    own.append((b"X-Request-ID", identity.request_id.encode()))
    if identity.trace:
        own += own_fields(identity.trace)
    return own


def _addressed(settings: UpstreamSettings, url: Url, proxy: Proxy | None) -> Addressed:
    """Host and X-Forwarded-Proto come from the configuration, never from the client: Flowise builds links from them.

    A proxy of plain http gets the target in absolute form (RFC 9112 3.2.2), with its own credentials in each request.
    """
    public = settings.public_url or url
    key = settings.api_key.get_secret_value()
    fields = {
        "Host": public.netloc,
        "X-Forwarded-Proto": public.scheme,
        "Authorization": f"Bearer {key}" if key else "",
        "Accept-Encoding": "identity",
    }
    prefix = join_target(url.prefix.strip("/").split("/"), {}) if url.prefix else b""
    if proxy is not None and url.scheme == "http":
        fields["Proxy-Authorization"] = proxy.authorization
        prefix = f"http://{url.netloc}".encode() + prefix
    return Addressed(prefix, tuple(own_fields(fields)))

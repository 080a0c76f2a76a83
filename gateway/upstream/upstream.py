"""One configured Flowise: a connection pool for relayed calls, and another for the gateway's own short requests.

Every request to Flowise gets its Host, forwarding fields, request id and API key here. The client's cookies and
forwarding fields never pass, nor do its credentials: only a key of Flowise on a route with `auth: [upstream]`, in place
of the configured one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from gateway.config import UpstreamSettings, Url
from gateway.telemetry.metrics import Metrics
from gateway.upstream.headers import UpstreamRequest, own_fields, upward
from gateway.upstream.large_reads import LargeReads
from gateway.upstream.pool import Pool, Server, tls_context
from gateway.upstream.short_request import ShortReply, send_short

REQUEST_TIMEOUT = 10.0  # seconds, for the gateway's own requests
MAX_REPLY = (
    64 * 1024
)  # bytes, likewise; the answers to an abort and to chatflows-streaming have less than 100
MAX_SHORT = 100  # connections, likewise: an abort does not wait for a run to end


@dataclass(frozen=True, slots=True)
class ForwardedIdentity:
    """Request id and client address that Flowise sees; no address: a request of the gateway's own.

    `key`: the client's own key of Flowise; empty: the configured one is sent.
    """

    request_id: str
    client: str = ""
    key: str = field(default="", repr=False)


class Connections(NamedTuple):
    """The pools to one server. `destination`: what makes two of them lead to the same place."""

    destination: tuple[Url, bytes]
    server: Server
    pool: Pool
    short: Pool  # for the gateway's own requests


class Upstream:
    """Connects when it is asked to send; until `close`, or `drain` and the end of its last request."""

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        metrics: Metrics,
        reads: LargeReads | None = None,
        before: Upstream | None = None,
    ) -> None:
        """An upstream that has no connection yet, or those of another one.

        Args:
            name: as configured.
            settings: of the configuration.
            metrics: where connections are counted.
            reads: shared with other upstreams.
            before: of this name until now; its connections are kept if they lead to the same server.

        Raises:
            OSError: a file with certificates cannot be read.
        """
        self.name = name
        self.settings = settings
        self._configured = _configured_fields(settings)
        destination = _destination(settings)
        is_same = before is not None and before.connections.destination == destination
        self.connections: Connections = (
            before.connections
            if before is not None and is_same
            else _connections(self, metrics, reads or LargeReads(), destination)
        )
        self.server, self.pool = self.connections.server, self.connections.pool
        self._short = self.connections.short

    def adopt(self) -> None:
        """Serve from now on: pools that were those of `before` follow the settings."""
        connect = self.settings.timeouts.connect
        self.pool.resize(self.settings.max_connections, connect)
        self._short.resize(MAX_SHORT, connect)

    def drain(self) -> None:
        """Keep no connection any more: the idle ones are closed now, the others when their requests end."""
        self.pool.drain()
        self._short.drain()

    @property
    def origin(self) -> str:
        """Server and path. Two upstreams of one origin (with two API keys, for example) share its conversations."""
        return "/".join((str(self.server), *self.server.prefix))

    def sweep(self, now: float) -> None:
        """Close idle connections that the server is about to close. `now`: monotonic seconds."""
        self.pool.sweep(now)
        self._short.sweep(now)

    def close(self) -> None:
        """Close every connection of both pools."""
        self.pool.close()
        self._short.close()

    def fields(
        self, identity: ForwardedIdentity, from_client: Iterable[tuple[bytes, bytes]], content_type: str = ""
    ) -> list[tuple[bytes, bytes]]:
        """The header fields of a relayed request: the gateway's own, and those of the client that may pass.

        `content_type`: of the body as it is sent, which is not always the client's; empty: no body.
        """
        passed = [pair for pair in upward(from_client) if pair[0] != b"content-type"]
        return [*own_fields({**self._own(identity), "Content-Type": content_type}), *passed]

    async def request(
        self, method: str, target: bytes, identity: ForwardedIdentity, content: bytes = b""
    ) -> tuple[int, bytes]:
        """Send a short request of the gateway's own; return status and body. Redirects are not followed.

        `content`: JSON; empty: no body.

        Raises:
            GatewayError: there is no reply, no complete one within `REQUEST_TIMEOUT`, or one that is not valid or
                larger than `MAX_REPLY`.
        """
        kind = {"Content-Type": "application/json"} if content else {}
        request = UpstreamRequest(method, target, own_fields({**self._own(identity), **kind}), content)
        reply = await send_short(self._short, request, REQUEST_TIMEOUT, MAX_REPLY)
        return reply.status, reply.body

    async def fetch(
        self, target: bytes, identity: ForwardedIdentity, known: bytes = b"", limit: int = MAX_REPLY
    ) -> ShortReply:
        """GET of the gateway's own. `known`: an ETag; if it still holds, the reply is a 304. `limit`: bytes.

        Raises:
            GatewayError: as `request`.
        """
        condition = [(b"If-None-Match", known)] if known else []
        request = UpstreamRequest("GET", target, [*own_fields(self._own(identity)), *condition])
        return await send_short(self._short, request, REQUEST_TIMEOUT, limit)

    def _own(self, identity: ForwardedIdentity) -> dict[str, str]:
        forwarded = {"X-Forwarded-For": identity.client, "X-Request-ID": identity.request_id}
        own = {"Authorization": f"Bearer {identity.key}"} if identity.key else {}
        return {**self._configured, **forwarded, **own}


def _connections(
    upstream: Upstream, metrics: Metrics, reads: LargeReads, destination: tuple[Url, bytes]
) -> Connections:
    name, settings = upstream.name, upstream.settings
    url, connect = settings.servers[0].url, settings.timeouts.connect
    tls = tls_context(settings.tls.ca) if url.scheme == "https" else None
    prefix = tuple(url.prefix.strip("/").split("/")) if url.prefix else ()
    server = Server(url.host, url.port, tls, prefix)
    pool = Pool(
        server,
        max_connections=settings.max_connections,
        connect_timeout=connect,
        on_connect=lambda seconds: metrics.connected(name, server, seconds),
        reads=reads,
    )
    short = Pool(server, max_connections=MAX_SHORT, connect_timeout=connect, reads=reads)
    return Connections(destination, server, pool, short)


def _destination(settings: UpstreamSettings) -> tuple[Url, bytes]:
    """What makes two connections lead to the same place: the URL, and the certificates that it is verified with.

    Raises:
        OSError: their file cannot be read.
    """
    url, ca = settings.servers[0].url, settings.tls.ca
    is_verified = url.scheme == "https" and ca is not None
    return url, sha256(ca.read_bytes()).digest() if is_verified and ca is not None else b""


def _configured_fields(settings: UpstreamSettings) -> dict[str, str]:
    """Host and X-Forwarded-Proto come from the configuration, never from the client: Flowise builds links from them."""
    public, url = settings.public_url, settings.servers[0].url
    key = settings.api_key.get_secret_value()
    return {
        "Host": public.netloc if public else url.netloc,
        "X-Forwarded-Proto": public.scheme if public else url.scheme,
        "Authorization": f"Bearer {key}" if key else "",
        "Accept-Encoding": "identity",
    }

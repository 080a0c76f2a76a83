"""One configured Flowise: a connection pool for relayed calls, and another for the gateway's own short requests.

Every request to Flowise gets its Host, forwarding fields, request id and API key here. The client's credentials,
cookies and forwarding fields never pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config import UpstreamSettings
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
    """Request id and client address that Flowise sees; no address: a request of the gateway's own."""

    request_id: str
    client: str = ""


class Upstream:
    """Connects when it is asked to send; until `close`."""

    def __init__(
        self, name: str, settings: UpstreamSettings, metrics: Metrics, reads: LargeReads | None = None
    ) -> None:
        """`reads`: shared with other upstreams."""
        reads = reads or LargeReads()
        self.name = name
        self.settings = settings
        url = settings.servers[0].url
        self.tls = tls_context(settings.tls.ca) if url.scheme == "https" else None
        self.server = Server(
            url.host, url.port, self.tls, tuple(url.prefix.strip("/").split("/")) if url.prefix else ()
        )
        self.pool = Pool(
            self.server,
            max_connections=settings.max_connections,
            connect_timeout=settings.timeouts.connect,
            on_connect=lambda seconds: metrics.connected(name, self.server, seconds),
            reads=reads,
        )
        self._short = Pool(
            self.server,
            max_connections=MAX_SHORT,
            connect_timeout=settings.timeouts.connect,
            reads=reads,
        )
        self._configured = _configured_fields(settings)

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

    async def request(self, method: str, target: bytes, identity: ForwardedIdentity) -> tuple[int, bytes]:
        """Send a short request of the gateway's own; return status and body. Redirects are not followed.

        Raises:
            GatewayError: there is no reply, no complete one within `REQUEST_TIMEOUT`, or one that is not valid or
                larger than `MAX_REPLY`.
        """
        request = UpstreamRequest(method, target, own_fields(self._own(identity)))
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
        return {**self._configured, **forwarded}


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

"""One configured Flowise: a connection pool for relayed calls, an aiohttp session for the gateway's own short requests.

Every request to Flowise gets its Host, forwarding fields, request id and API key here. The client's credentials,
cookies and forwarding fields never pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp
from yarl import URL

from gateway.config import UpstreamSettings
from gateway.errors import UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.telemetry.metrics import Metrics
from gateway.upstream.headers import own_fields, upward
from gateway.upstream.pool import Pool, Server, tls_context

REQUEST_TIMEOUT = 10.0  # seconds, for the gateway's own requests
MAX_RESPONSE = 16 * 1024 * 1024  # bytes, likewise


@dataclass(frozen=True, slots=True)
class ForwardedIdentity:
    """Request id and client address that Flowise sees; no address: a request of the gateway's own."""

    request_id: str
    client: str = ""


class Upstream:
    """Open from `start` to `close`."""

    def __init__(self, name: str, settings: UpstreamSettings, metrics: Metrics) -> None:
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
        )
        self._session: aiohttp.ClientSession | None = None
        self._configured = _configured_fields(settings)

    @property
    def origin(self) -> str:
        """Server and path. Two upstreams of one origin (with two API keys, for example) share its conversations."""
        return "/".join((str(self.server), *self.server.prefix))

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(
            keepalive_timeout=4, ssl=True if self.tls is None else self.tls, limit=100
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT, connect=self.settings.timeouts.connect),
            trust_env=False,
        )

    async def close(self) -> None:
        self.pool.close()
        if self._session is not None:
            await self._session.close()

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
            UpstreamUnreachable: no connection, or `start` was not called.
            UpstreamTimeout: no complete response within `REQUEST_TIMEOUT`.
            UpstreamBadReply: not HTTP, or more than `MAX_RESPONSE` bytes.
        """
        if self._session is None:
            raise UpstreamUnreachable("The session to Flowise is not open.")
        scheme = "https" if self.tls else "http"
        url = URL(f"{scheme}://{self.server}{target.decode('ascii')}", encoded=True)
        headers = {name: value for name, value in self._own(identity).items() if value}
        try:
            async with self._session.request(method, url, headers=headers, allow_redirects=False) as response:
                return response.status, await _bounded(response.content)
        except TimeoutError:
            raise UpstreamTimeout(f"Flowise did not answer within {REQUEST_TIMEOUT:g} s.") from None
        except aiohttp.ClientConnectionError as error:
            raise UpstreamUnreachable("Flowise cannot be reached.") from error
        except aiohttp.ClientError as error:
            raise UpstreamBadReply("Flowise sent a response that is not valid HTTP.") from error

    def _own(self, identity: ForwardedIdentity) -> dict[str, str]:
        forwarded = {"X-Forwarded-For": identity.client, "X-Request-ID": identity.request_id}
        return {**self._configured, **forwarded}


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    parts, size = [], 0
    async for part in content.iter_any():
        size += len(part)
        if size > MAX_RESPONSE:
            raise UpstreamBadReply(
                f"Flowise sent more than {MAX_RESPONSE} bytes in response to a short request."
            )
        parts.append(part)
    return b"".join(parts)


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

"""One configured Flowise: a pool for calls that are relayed, a session for short questions of our own.

Every request to Flowise gets its identity here: Host, forwarding, request id and the server's API key. The
client's own credentials, cookies and forwarding headers never pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import aiohttp
from yarl import URL

from gateway.config import UpstreamSettings
from gateway.errors import UpstreamBadReply, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.headers import own_fields, upward
from gateway.upstream.pool import Pool, Server, tls_context

QUESTION_TIMEOUT = 10.0
MAX_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ForwardedIdentity:
    """On whose behalf a request is sent."""

    request_id: str
    client: str = ""


class Upstream:
    """Open from `start` to `close`."""

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        on_connect: Callable[[Server, float], None] = lambda *_: None,
    ) -> None:
        """`on_connect` is told of each new connection for relayed calls how many seconds it took."""
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
            on_connect=partial(on_connect, self.server),
        )
        self._session: aiohttp.ClientSession | None = None
        self._identity = _identity(settings)

    @property
    def home(self) -> str:
        """Which Flowise this is: two upstreams of one server (with two keys, say) share its conversations."""
        return "/".join((str(self.server), *self.server.prefix))

    async def start(self) -> None:
        """Open the session."""
        connector = aiohttp.TCPConnector(
            keepalive_timeout=4, ssl=True if self.tls is None else self.tls, limit=100
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=QUESTION_TIMEOUT, connect=self.settings.timeouts.connect),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the session and every connection."""
        self.pool.close()
        if self._session is not None:
            await self._session.close()

    def fields(
        self, sender: ForwardedIdentity, from_client: Iterable[tuple[bytes, bytes]], content_type: str = ""
    ) -> list[tuple[bytes, bytes]]:
        """The header fields of a relayed request: what may pass of the client's, and the gateway's own.

        `content_type` is that of the body as it is sent, which is not always the client's; empty: no body.
        """
        passed = [pair for pair in upward(from_client) if pair[0] != b"content-type"]
        return [*own_fields({**self._own(sender), "Content-Type": content_type}), *passed]

    async def ask(self, method: str, target: bytes, sender: ForwardedIdentity) -> tuple[int, bytes]:
        """A short question of the gateway's own: status and body (up to 16 MiB).

        Raises:
            UpstreamUnreachable, UpstreamTimeout, UpstreamBadReply: as their names say.
        """
        if self._session is None:
            raise UpstreamUnreachable("the session to Flowise is not open")
        scheme = "https" if self.tls else "http"
        url = URL(f"{scheme}://{self.server}{target.decode('ascii')}", encoded=True)
        headers = {name: value for name, value in self._own(sender).items() if value}
        try:
            async with self._session.request(method, url, headers=headers, allow_redirects=False) as answer:
                return answer.status, await _bounded(answer.content)
        except TimeoutError:
            raise UpstreamTimeout(f"Flowise did not answer within {QUESTION_TIMEOUT:g} s.") from None
        except aiohttp.ClientConnectionError as error:
            raise UpstreamUnreachable("Flowise cannot be reached.") from error
        except aiohttp.ClientError as error:
            raise UpstreamBadReply("Flowise sent a response that is not valid HTTP.") from error

    def _own(self, sender: ForwardedIdentity) -> dict[str, str]:
        return {**self._identity, "X-Forwarded-For": sender.client, "X-Request-ID": sender.request_id}


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    parts, size = [], 0
    async for part in content.iter_any():
        size += len(part)
        if size > MAX_ANSWER:
            raise UpstreamBadReply(
                f"Flowise sent an answer of more than {MAX_ANSWER} bytes to a short question."
            )
        parts.append(part)
    return b"".join(parts)


def _identity(settings: UpstreamSettings) -> dict[str, str]:
    """Host and X-Forwarded-Proto are configured, never the client's word: Flowise builds links from them."""
    public, url = settings.public_url, settings.servers[0].url
    key = settings.api_key.get_secret_value()
    return {
        "Host": public.netloc if public else url.netloc,
        "X-Forwarded-Proto": public.scheme if public else url.scheme,
        "Authorization": f"Bearer {key}" if key else "",
        "Accept-Encoding": "identity",
    }

"""The public keys of an issuer (RFC 7517): fetched in the background, kept while the issuer is down.

A token with an unknown key triggers a fetch, which all such tokens share, at most every `RETRY_AFTER` seconds. PyJWT's
own PyJWKClient is not used: it blocks the event loop, and has no keys while the issuer is down.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import aiohttp
from yarl import URL

from gateway.aio import Tasks, WorkThread
from gateway.auth.key_set import JwksError, KeySet
from gateway.causes import cause_of
from gateway.config import JwtSettings
from gateway.config.proxies import NO_PROXIES, Proxies
from gateway.telemetry.logs import Logger

TIMEOUT = 5.0  # seconds, for the whole response
LARGEST = 1024 * 1024  # bytes
_HEADERS = {
    "Accept": "application/json, application/jwk-set+json",
    "Accept-Encoding": "identity",  # then `LARGEST` also bounds the work of reading it
    "User-Agent": "flowise-gateway",
}


class JwksFetch:
    """Fetches key sets, each over its own connection. Open from `start` to `close`."""

    def __init__(self, proxies: Proxies = NO_PROXIES) -> None:
        """`proxies`: of the environment."""
        self._proxies = proxies
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __call__(self, url: str) -> bytes:
        """The document at a URL.

        Raises:
            JwksError: there is none, or it is too large.
        """
        if self._session is None:
            raise JwksError("the session is not open")
        try:
            proxy = self._proxy_of(url)
            async with self._session.get(url, allow_redirects=False, proxy=proxy) as response:
                return await _body(response)
        except TimeoutError:
            raise JwksError(f"no complete response within {TIMEOUT:g} s") from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientHttpProxyError) as error:
            raise JwksError(f"no response ({cause_of(error).words})") from error
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: an impossible host name
            raise JwksError(f"no valid response ({type(error).__name__})") from error

    def _proxy_of(self, url: str) -> str | None:
        parts = URL(url)
        proxy = self._proxies.of(parts.scheme, parts.host or "", parts.port or 0)
        return None if proxy is None else proxy.url


async def _body(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        raise JwksError(f"the response status was {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise JwksError("the response was compressed, which was not requested")
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > LARGEST:
            raise JwksError(f"the response was larger than {LARGEST} bytes")
    return bytes(body)


RETRY_AFTER = 30.0  # seconds between fetches for tokens with unknown keys, also after a failed fetch
REFRESH_EVERY = 600.0  # seconds from a successful fetch; bounds how long a withdrawn key is accepted

Fetch = Callable[[str], Awaitable[bytes]]


class IssuerKeys:
    """The keys of one issuer.

    `fetch` returns the document at a URL or raises JwksError. `thread` reads it, for all issuers: each of them has one
    document at a time. `before`: of this issuer until now, whose keys are known if they come from the same address.
    """

    def __init__(
        self,
        settings: JwtSettings,
        fetch: Fetch,
        thread: WorkThread,
        tasks: Tasks,
        logger: Logger,
        before: IssuerKeys | None = None,
    ) -> None:
        self.settings = settings
        self._fetch = fetch
        self._thread = thread
        self._tasks = tasks
        self._logger = logger
        self._fetching: asyncio.Task[None] | None = None
        self._may_fetch_at = -math.inf
        self._refresh_at = -math.inf
        self.current: KeySet | None = None  # None: none was fetched yet
        if before is not None and before.source == self.source:
            self.current = before.current
            self._may_fetch_at, self._refresh_at = before.times

    @property
    def times(self) -> tuple[float, float]:
        """When tokens may trigger a fetch and when the keys are old, for a successor: what is being fetched is lost."""
        return (-math.inf, -math.inf) if self._is_fetching else (self._may_fetch_at, self._refresh_at)

    @property
    def source(self) -> tuple[str, tuple[str, ...]]:
        """Where the keys come from, and for which algorithms."""
        return self.settings.jwks_url, self.settings.algorithms

    def tick(self, now: float) -> None:
        """Refresh the keys if they are old; `now` in monotonic seconds."""
        if now >= self._refresh_at:
            self._refresh_at = now + RETRY_AFTER  # later, if this fetch succeeds
            self._start_fetch(now)

    async def refetched(self, now: float) -> KeySet | None:
        """The keys after a fetch; those that are known if the last fetch was less than `RETRY_AFTER` ago."""
        if not self._is_fetching and now >= self._may_fetch_at:
            self._may_fetch_at = now + RETRY_AFTER
            self._start_fetch(now)
        if self._fetching is not None:
            await asyncio.wait((self._fetching,))  # a caller that is cancelled does not cancel the fetch
        return self.current

    def retry_after(self, now: float) -> int:
        """Whole seconds until a token may trigger a fetch, at least 1."""
        return max(1, math.ceil(self._may_fetch_at - now))

    @property
    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _start_fetch(self, now: float) -> None:
        if not self._is_fetching:
            self._fetching = self._tasks.start(self._refresh(now), "jwks")

    async def _refresh(self, now: float) -> None:
        issuer = self.settings.issuer
        try:
            document = await self._fetch(self.settings.jwks_url)
            keys = await self._thread.run(KeySet.read, document, self.settings.algorithms)
        except JwksError as error:
            self._logger.warning("jwks_unavailable", issuer=issuer, reason=str(error))
            return
        self.current = keys
        self._refresh_at = now + REFRESH_EVERY
        log = self._logger.info if keys else self._logger.warning
        log("jwks_loaded", issuer=issuer, count=len(keys), left_out=keys.left_out)

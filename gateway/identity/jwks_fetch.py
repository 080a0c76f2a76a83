"""Fetches an issuer's key set over HTTP; no other file of `identity` opens a connection.

Redirects are not followed: the URL in the configuration is the one that an operator trusts.
"""

from __future__ import annotations

import aiohttp

from gateway.identity.jwks_keys import JwksError

TIMEOUT = 5.0  # seconds for all of it
LARGEST = 1024 * 1024  # bytes
_HEADERS = {
    "Accept": "application/json, application/jwk-set+json",
    "Accept-Encoding": "identity",  # so that the bound on its size is the bound on the work
    "User-Agent": "flowise-gateway",
}


class JwksFetch:
    """Open from `start` to `close`; each question has a connection of its own."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __call__(self, url: str) -> bytes:
        """The document behind a URL.

        Raises:
            JwksError: there is none, or it is too large; the text is the reason.
        """
        if self._session is None:
            raise JwksError("the session is not open")
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                return await _body(answer)
        except TimeoutError:
            raise JwksError(f"no whole answer within {TIMEOUT:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: a host name that cannot be
            raise JwksError(f"no valid answer ({type(error).__name__})") from error


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    if answer.status != 200:
        raise JwksError(f"the answer was {answer.status}")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise JwksError("the answer was compressed, though that was not asked for")
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > LARGEST:
            raise JwksError(f"the answer was larger than {LARGEST} bytes")
    return bytes(body)

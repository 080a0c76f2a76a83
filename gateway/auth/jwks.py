"""The keys of an issuer, as last published: fetched in the background and kept while the issuer is down.

A token with an unknown key makes the gateway ask its issuer anew, at most once in a while; all who wait for the
answer share one question. How a document is fetched is in `jwks_fetch`, what a key may do in `jwks_keys`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.config import JwtSettings
from gateway.identity.jwks_keys import JwksError, KeySet

ASK_AGAIN_AFTER = 30.0  # seconds, for tokens with unknown keys; also when the last answer was none
REFRESH_EVERY = 600.0  # seconds, so that withdrawn keys go

Fetch = Callable[[str], Awaitable[bytes]]
Start = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class IssuerKeys:
    """The keys of one issuer.

    `fetch` gives the document behind a URL or raises JwksError; `start` runs something in the background.
    """

    def __init__(
        self, settings: JwtSettings, fetch: Fetch, start: Start, logger: FilteringBoundLogger
    ) -> None:
        self.settings = settings
        self._fetch = fetch
        self._start = start
        self._logger = logger
        self._fetching: asyncio.Task[None] | None = None
        self._may_ask_at = -math.inf
        self._refresh_at = -math.inf
        self.current: KeySet | None = None  # None: none came yet

    def tick(self, now: float) -> None:
        """Ask for the keys if they are old; `now` in monotonic seconds."""
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_EVERY
            self._ask()

    async def newer(self, now: float) -> KeySet | None:
        """The keys after the issuer was asked anew, if it may be asked at this time; else those that there are."""
        if not self._is_fetching and now >= self._may_ask_at:
            self._may_ask_at = now + ASK_AGAIN_AFTER
            self._ask()
        if self._fetching is not None:
            await asyncio.wait((self._fetching,))  # who leaves takes the answer from nobody else
        return self.current

    @property
    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _ask(self) -> None:
        if not self._is_fetching:
            self._fetching = self._start(self._refresh(), "jwks")

    async def _refresh(self) -> None:
        issuer = self.settings.issuer
        try:
            keys = KeySet.read(await self._fetch(self.settings.jwks_url), self.settings.algorithms)
        except JwksError as error:
            self._logger.warning("jwks_unavailable", issuer=issuer, reason=str(error))
            return
        self.current = keys
        log = self._logger.info if keys else self._logger.warning
        log("jwks_loaded", issuer=issuer, count=len(keys), left_out=keys.left_out)

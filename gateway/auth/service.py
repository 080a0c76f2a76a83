"""All sources of credentials of one process: opened at the start, refreshed by the timer, closed at the end."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from time import monotonic, time

from gateway.aio import Tasks, WorkThread
from gateway.auth.authenticator import Authenticator
from gateway.auth.conversation_ids import ConversationIds
from gateway.auth.jwks import IssuerKeys, JwksFetch
from gateway.auth.jwt import JsonWebTokens
from gateway.auth.keyring import Keyring
from gateway.auth.keys_model import ApiKey
from gateway.auth.keys_watch import KeysWatch
from gateway.auth.session_tokens import SessionTokens
from gateway.config import AuthSettings
from gateway.telemetry.logs import Logger

RANDOM_SECRET = 32  # bytes


class AuthService:
    """Open from `start` to `close`."""

    def __init__(
        self, settings: AuthSettings, tasks: Tasks, logger: Logger, on_read: Callable[[bool], None]
    ) -> None:
        """`on_read`: called after each read of the keys file, with whether it had no mistakes."""
        given = [secret.get_secret_value().encode() for secret in settings.secret]
        signing = given or [secrets.token_bytes(RANDOM_SECRET)]
        self.tokens = SessionTokens(signing)
        self.conversation_ids = ConversationIds(signing[-1])
        self.keyring = Keyring()
        self._fetch = JwksFetch()
        self._thread = WorkThread("jwks")
        issuers = [IssuerKeys(issuer, self._fetch, self._thread, tasks, logger) for issuer in settings.jwt]
        self._jwts = JsonWebTokens(issuers, monotonic)
        self.authenticator = Authenticator(self.keyring, self.tokens, self._jwts, time)
        file = settings.keys_file
        self._keys_watch = None if file is None else KeysWatch(file, self.keyring, tasks, logger, on_read)
        self._has_secret = bool(given)
        self._logger = logger

    async def start(self, on_change: Callable[[], None], known: tuple[ApiKey, ...] | None = None) -> None:
        """Read the keys. `on_change`: called after each change of them. `known`: as for `KeysWatch.start`.

        Raises:
            ConfigError: the keys file has mistakes.
        """
        if not self._has_secret:
            self._logger.warning(
                "no_secret",
                message="auth.secret is not set: conversations and session tokens do not survive a restart;"
                " set it to the output of `openssl rand -hex 32`",
            )
        await self._fetch.start()
        if self._keys_watch is not None:
            self._keys_watch.on_change.append(on_change)
            await self._keys_watch.start(known)

    def tick(self, now: float) -> None:
        """Refresh key sets and keys file; `now` in monotonic seconds."""
        self._jwts.tick(now)
        if self._keys_watch is not None:
            self._keys_watch.tick(now)

    async def close(self) -> None:
        await self._fetch.close()
        await self._thread.close()
        if self._keys_watch is not None:
            await self._keys_watch.close()

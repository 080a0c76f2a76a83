"""All sources of credentials of one process: opened at the start, refreshed by the timer, closed at the end.

What a configuration says of them is a `Credentials`, which a reload replaces. The keyring, the keys file that fills it
and the random secret belong to the process.
"""

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
from gateway.auth.session_tokens import SessionTokens
from gateway.auth.watched_keys import WatchedKeys
from gateway.config import AuthSettings
from gateway.telemetry.logs import Logger

RANDOM_SECRET = 32  # bytes


class Credentials:
    """What one configuration issues and verifies."""

    def __init__(
        self, settings: AuthSettings, signing: list[bytes], issuers: list[IssuerKeys], keyring: Keyring
    ) -> None:
        """`signing`: the secrets; the first signs, all verify, the last derives conversation ids."""
        self.settings = settings
        self.tokens = SessionTokens(signing)
        self.conversation_ids = ConversationIds(signing[-1])
        self.issuers = issuers
        self.jwts = JsonWebTokens(issuers, monotonic)
        self.authenticator = Authenticator(keyring, self.tokens, self.jwts, time)


class AuthService:
    """Open from `start` to `close`. `current` is replaced by `adopt`."""

    def __init__(
        self, settings: AuthSettings, tasks: Tasks, logger: Logger, on_read: Callable[[bool], None]
    ) -> None:
        """`on_read`: called after each read of the keys file, with whether it had no mistakes."""
        self._tasks = tasks
        self._logger = logger
        self._random_secret = secrets.token_bytes(RANDOM_SECRET)
        self._fetch = JwksFetch(settings.proxies)
        self._thread = WorkThread("jwks")
        self.keys = WatchedKeys(settings.keys_file, tasks, logger, on_read)
        self.current = self._made(settings, None)

    async def start(self, on_change: Callable[[], None], known: tuple[ApiKey, ...] | None = None) -> None:
        """Read the keys. The arguments are those of `WatchedKeys.start`.

        Raises:
            ConfigError: the keys file has mistakes.
        """
        self._warn_without_secret()
        await self._fetch.start()
        await self.keys.start(on_change, known)

    def prepare(self, settings: AuthSettings) -> Credentials:
        """What these settings mean; the current ones if they mean the same. May run in a thread."""
        before = self.current
        is_same = (before.settings.secret, before.settings.jwt) == (settings.secret, settings.jwt)
        return before if is_same else self._made(settings, before)

    def _made(self, settings: AuthSettings, before: Credentials | None) -> Credentials:
        given = [secret.get_secret_value().encode() for secret in settings.secret]
        known = {} if before is None else {keys.settings.issuer: keys for keys in before.issuers}
        issuers = [
            IssuerKeys(one, self._fetch, self._thread, self._tasks, self._logger, known.get(one.issuer))
            for one in settings.jwt
        ]
        return Credentials(settings, given or [self._random_secret], issuers, self.keys.keyring)

    def adopt(self, credentials: Credentials) -> None:
        """Use these from now on."""
        has_lost_secret = bool(self.current.settings.secret) and not credentials.settings.secret
        self.current = credentials
        if has_lost_secret:
            self._warn_without_secret()

    def tick(self, now: float) -> None:
        """Refresh key sets and keys file; `now` in monotonic seconds."""
        self.current.jwts.tick(now)
        self.keys.tick(now)

    async def close(self) -> None:
        await self._fetch.close()
        await self._thread.close()
        await self.keys.close()

    def _warn_without_secret(self) -> None:
        if not self.current.settings.secret:
            self._logger.warning(
                "no_secret",
                message="auth.secret is not set: conversations and session tokens do not survive a restart;"
                " set it to the output of `openssl rand -hex 32`",
            )

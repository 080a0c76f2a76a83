"""One connection of the redis package: the border where its options and its errors end.

What it raises becomes a `StoreError` with one word; its texts may hold parts of the URL, and so of the password.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.admission.redis.commands import Word
from gateway.admission.store import ErrorReply, Failure, NoScript, StoreError

OPTIONS = {"db", "username", "password", "host", "port", "path"}  # of a URL, and all that begin with ssl_
_CANNOT_BE_READ = (
    "limits.store is not the URL of a Redis or Valkey: write redis://HOST:PORT/0, rediss://HOST:PORT/0 or "
    "unix:///PATH, and special characters of a password in their %-form"
)
_OURS: dict[str, Any] = {
    "protocol": 2,  # nothing that it says unasked
    "socket_timeout": None,  # deadlines are kept by the link
    "socket_connect_timeout": None,
    "driver_info": None,
    "client_name": "flowise-gateway",
}
_BROKEN = (
    *(RedisError, OSError, TimeoutError, asyncio.IncompleteReadError),
    ValueError,  # what answers is no Redis
    RuntimeError,  # uvloop, of a transport that was closed since
)


class RedisConnection:
    """A connection to the store at this URL; `open` it before anything else, and again after `close`.

    `ca`: a file with certificates of a private authority, for `rediss`.

    Raises:
        ValueError: the URL cannot be read; says what would be right, without what stands in it.
    """

    def __init__(self, url: str, ca: str | None = None) -> None:
        self._connection = _connection(url, ca)
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect and authenticate.

        Raises:
            StoreError: it did not come to that.
        """
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]  # the package has it so
        except _BROKEN as error:
            raise StoreError(_kind(error)) from None
        self._writer = self._connection._writer  # noqa: SLF001 - the package has no way to abort

    def abort(self) -> None:
        """Break it off, whether or not the other side still reads; who sends or waits on it fails. `close` it then."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def close(self) -> None:
        """Let go of it; what is on its way is lost. Never raises."""
        self.abort()
        try:
            await self._connection.disconnect(nowait=True)
        except _BROKEN:
            return

    async def send(self, commands: Iterable[tuple[Word, ...]]) -> None:
        """Write commands, in one go; each is its words.

        Raises:
            StoreError: the connection broke, or is closed.
        """
        if not self._connection.is_connected:
            raise StoreError("connection")  # the package would connect anew, and answers would not match
        packed = self._connection.pack_commands(commands)
        try:
            await self._connection.send_packed_command(packed, check_health=False)
        except _BROKEN as error:
            raise StoreError(_kind(error)) from None

    async def answer(self) -> Any:
        """The next answer; `NoScript` and `ErrorReply` stand for errors that leave the connection usable.

        Raises:
            StoreError: the connection broke.
        """
        try:
            return await self._connection.read_response()
        except NoScriptError:
            return NoScript()
        except ResponseError:
            return ErrorReply()
        except _BROKEN as error:
            raise StoreError(_kind(error)) from None


def _connection(url: str, ca: str | None) -> Connection:
    try:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        if ca is not None:
            options["ssl_ca_certs"] = ca
        if all(name in OPTIONS or name.startswith("ssl_") for name in options):
            made: Connection = kind(**(options | _OURS))
            return made
    except (RedisError, TypeError, ValueError):
        pass
    raise ValueError(_CANNOT_BE_READ) from None


def _kind(error: BaseException) -> Failure:
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return "auth"
    if isinstance(error, RedisTimeoutError | TimeoutError) and not isinstance(error, ssl.SSLError):
        return "timeout"
    return "connection"

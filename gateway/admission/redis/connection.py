"""One connection of the redis package; its options and its errors do not get past this file.

Its errors become a `StoreError` with a kind only: their texts may contain parts of the URL, and so of the password.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

from redis._parsers import _AsyncRESP2Parser
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.admission.redis.commands import ErrorReply, NoScript, Word
from gateway.admission.store import StoreError, StoreFailure
from gateway.causes import UNREACHABLE, cause_of
from gateway.connecting import destination

URL_OPTIONS = {"db", "username", "password", "host", "port", "path"}  # and all that begin with ssl_
_BAD_URL = (
    "limits.store is not the URL of a Redis or Valkey: write redis://HOST:PORT/0, rediss://HOST:PORT/0 or "
    "unix:///PATH, and special characters of a password in their %-form"
)
LARGEST_REPLY = 64 * 1024  # bytes of a text; the longest of ours has 200 numbers, and INFO has 10 KB
LONGEST_LIST = 16  # items; TIME has two


class _Parser(_AsyncRESP2Parser):
    """Refuses what no command of ours is answered with before it is read: lists in lists, long lists and texts.

    Also where hiredis is installed, which has no bound.
    """

    _is_in_list = False

    async def read_response(self, disable_decoding: bool = False) -> Any:  # noqa: FBT001, FBT002 - as the package has it
        self._is_in_list = False
        return await super().read_response(disable_decoding)

    async def _readline(self) -> bytes:
        line: bytes = await super()._readline()
        if line.startswith(b"*"):
            if self._is_in_list or not -1 <= int(line[1:]) <= LONGEST_LIST:
                raise InvalidResponse("a list of impossible length")
            self._is_in_list = True
        return line

    async def _read(self, length: int) -> bytes:
        if not 0 <= length <= LARGEST_REPLY:
            raise InvalidResponse("a text of impossible length")
        return await super()._read(length)


_FIXED_OPTIONS: dict[str, Any] = {
    "parser_class": _Parser,
    "protocol": 2,  # no pushed messages
    "socket_timeout": None,  # the client keeps all deadlines
    "socket_connect_timeout": None,
    "driver_info": None,
    "client_name": "flowise-gateway",
}


class _RacingConnection(Connection):
    """Connects to the address of the host that answers first; the package tries one after the other."""

    async def _connect(self) -> None:
        where = self._connection_arguments()
        place = await destination(where["host"], where["port"], where.get("ssl"))
        self._reader, self._writer = await asyncio.open_connection(**place)


class _RacingTlsConnection(_RacingConnection, SSLConnection):
    """The same with TLS."""


_RACING: Mapping[type[Connection], type[Connection]] = MappingProxyType(
    {Connection: _RacingConnection, SSLConnection: _RacingTlsConnection}
)
_CONNECTION_ERRORS = (
    *(RedisError, OSError, TimeoutError, asyncio.IncompleteReadError),
    ValueError,  # the server is no Redis
    RuntimeError,  # raised by uvloop for a transport that was closed
)
_WORD = re.compile(r"[A-Z]{2,}\b")
# Servers before version 7 put the error that a script met behind one of their own.
_IN_SCRIPT = re.compile(r"@user_script.*: -?([A-Z]{2,})\b")
_ACL_IN_SCRIPT = "ACL failure in script"


class RedisConnection:
    """A connection to the store at this URL; `open` it first, and again after `close`.

    `ca`: a file with certificates of a private authority, for `rediss`.

    Raises:
        ValueError: the URL cannot be read; the message shows the right form and nothing of the URL.
    """

    def __init__(self, url: str, ca: str | None = None) -> None:
        self._connection = self._next = _connection(url, ca)
        self._place = url, ca
        self._writer: asyncio.StreamWriter | None = None

    def use(self, url: str, ca: str | None) -> bool:
        """Connect to this store at the next `open`; returns whether it is another place.

        Raises:
            ValueError: as for a new one.
        """
        if (url, ca) == self._place:
            return False
        self._next = _connection(url, ca)
        self._place = url, ca
        return True

    async def open(self) -> None:
        """Connect and authenticate.

        Raises:
            StoreError: either failed.
        """
        self._connection = self._next
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]  # untyped in the package
        except _CONNECTION_ERRORS as error:
            raise _failure(error, _kind_of_opening(error)) from None
        self._writer = self._connection._writer  # noqa: SLF001 - the package has no way to abort

    def abort(self) -> None:
        """Break the connection, even if the server reads no more; pending sends and reads fail. Then `close` it."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def close(self) -> None:
        """Close without waiting for pending data. Never raises."""
        self.abort()
        try:
            await self._connection.disconnect(nowait=True)
        except _CONNECTION_ERRORS:
            return

    async def send(self, commands: Iterable[tuple[Word, ...]]) -> None:
        """Write commands, each given as its words, in one go.

        Raises:
            StoreError: the connection broke, or is closed.
        """
        if not self._connection.is_connected:
            raise StoreError("connection")  # the package would reconnect, and replies would not match
        packed = self._connection.pack_commands(commands)
        try:
            await self._connection.send_packed_command(packed, check_health=False)
        except _CONNECTION_ERRORS as error:
            raise _failure(error) from None

    async def read_reply(self) -> Any:
        """Read the next reply; an error that leaves the connection usable is a `NoScript` or `ErrorReply`.

        Raises:
            StoreError: the connection broke.
        """
        try:
            return await self._connection.read_response()
        except NoScriptError:
            return NoScript()
        except ResponseError as error:
            return ErrorReply(_word(error) or "ERR")
        except _CONNECTION_ERRORS as error:
            raise _failure(error) from None


def _connection(url: str, ca: str | None) -> Connection:
    try:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        if ca is not None:
            options["ssl_ca_certs"] = ca
        if all(name in URL_OPTIONS or name.startswith("ssl_") for name in options):
            made: Connection = _RACING.get(kind, kind)(**(options | _FIXED_OPTIONS))
            return made
    except (RedisError, TypeError, ValueError):
        pass
    raise ValueError(_BAD_URL) from None


def _failure(error: BaseException, kind: StoreFailure | None = None) -> StoreError:
    word = _word(error)
    return StoreError(kind or _kind(error), "" if word == "ERR" else word)


def _word(error: BaseException) -> str:
    """The word that says what the server refuses; empty if the server sent no error."""
    if not isinstance(error, RedisError):
        return ""
    text = str(error)
    if (found := _IN_SCRIPT.search(text)) is not None:
        return found[1]
    if text.startswith(_ACL_IN_SCRIPT):
        return "NOPERM"
    if error.status_code is not None:
        return error.status_code
    first = _WORD.match(text) if isinstance(error, ResponseError) else None
    return "" if first is None else first[0]


def _kind(error: BaseException) -> StoreFailure:
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return "auth"
    if isinstance(error, RedisTimeoutError | TimeoutError) and not isinstance(error, ssl.SSLError):
        return "timeout"
    return "connection"


def _kind_of_opening(error: BaseException) -> StoreFailure:
    """The cause, where there is one to find; the package's own text may hold parts of the URL."""
    kind, cause = _kind(error), cause_of(error)
    if kind != "connection" or cause is UNREACHABLE or cause.label == "reset":
        return kind
    return cast(StoreFailure, cause.label)

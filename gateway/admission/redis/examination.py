"""What `doctor` wants to know of a shared store, over a connection of its own. Writes one short-lived key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.admission.redis.commands import Command, ErrorReply, LimitCommands, NoScript, Script
from gateway.admission.redis.connection import RedisConnection

_LINE = re.compile(rb"^([a-z_]+):([^\r\n]*)", re.MULTILINE)


class StoreExamination(Struct, frozen=True):
    """What a store answered.

    Attributes:
        refused: the word of the error by which it refused a write, like NOPERM; empty: it accepted the write.
        info: sections `server` and `memory` of INFO; empty if the user may not read it.
        time: its clock in seconds since the epoch; None if the user may not read it.
    """

    refused: str
    info: Mapping[str, str]
    time: float | None

    @property
    def version(self) -> str:
        """Name and version, as far as they are known."""
        if "valkey_version" in self.info:
            return f"Valkey {self.info['valkey_version']}"
        return f"Redis {self.info['redis_version']}" if "redis_version" in self.info else "a store"


async def examine(url: str, ca: str | None, name: str) -> StoreExamination:
    """Connect, write as the limits do, and ask for version, memory and time.

    Args:
        url: of the store.
        ca: a file with the certificates of a private authority.
        name: unique, of the key that is written; it lasts for an hour.

    Raises:
        StoreError: there is no connection, or it broke; `auth`: the login was refused.
        ValueError: the URL cannot be read.
    """
    script = Script("limits.lua")
    load = await script.load()
    connection = RedisConnection(url, ca)
    try:
        await connection.open()
        refused = _refusal(await _call(connection, load))
        refused = refused or _refusal(await _call(connection, LimitCommands(script, 1_000_000).probe(name)))
        info: dict[str, str] = {}
        for section in ("server", "memory"):
            info |= _info(await _call(connection, Command(("INFO", section))))
        time = await _call(connection, Command(("TIME",)))
    finally:
        await connection.close()
    return StoreExamination(refused, info, None if isinstance(time, ErrorReply) else _seconds(time))


async def _call(connection: RedisConnection, command: Command) -> Any:
    await connection.send([command.words])
    return await connection.read_reply()


def _refusal(reply: Any) -> str:
    if isinstance(reply, ErrorReply):
        return reply.word
    return "NOSCRIPT" if isinstance(reply, NoScript) else ""


def _info(reply: Any) -> dict[str, str]:
    found = _LINE.findall(reply) if isinstance(reply, bytes) else []
    return {key.decode(): value.decode("utf-8", "replace") for key, value in found}


def _seconds(reply: Any) -> float:
    seconds, microseconds = reply
    return int(seconds) + int(microseconds) / 1e6

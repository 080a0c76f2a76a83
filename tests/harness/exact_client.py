"""A client on a plain socket, for exact bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"


def request(method: str, target: str, headers: dict[str, str] | None = None, body: Any = b"") -> bytes:
    """The bytes of a request; a body that is not bytes is sent as JSON."""
    headers = dict(headers or {})
    if not isinstance(body, bytes):
        headers.setdefault("Content-Type", "application/json")
        body = json.dumps(body).encode()
    if body or method == "POST":
        headers["Content-Length"] = str(len(body))
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: flowise",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.got = b""

    @classmethod
    async def to(cls, url: str) -> Wire:
        where = urlsplit(url)
        return cls(*await asyncio.open_connection(where.hostname, where.port))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def more(self) -> bytes:
        """Read the next bytes; empty at the end."""
        data = await self._reader.read(1 << 20)
        self.got += data
        return data

    async def until(self, mark: bytes, times: int = 1) -> bytes:
        """Read until `mark` has arrived `times` times."""
        while self.got.count(mark) < times:
            assert await self.more(), f"closed before {mark!r}, after {self.got[-200:]!r}"
        return self.got

    async def bytes(self, size: int) -> bytes:
        """Read `size` bytes."""
        while len(self.got) < size:
            assert await self.more(), f"closed after {len(self.got)} of {size} bytes"
        return self.got[:size]

    async def response(self, method: str = "GET") -> bytes:
        """Read one whole response, by its framing."""
        await self.until(HEAD_END)
        while self.got.startswith(b"HTTP/1.1 1") and self.got.count(HEAD_END) < 2:
            await self.more()
        final = self.got[self.got.rindex(b"HTTP/1.1 ") if self.got.startswith(b"HTTP/1.1 1") else 0 :]
        head, _, _ = final.partition(HEAD_END)
        before = len(self.got) - len(final) + len(head) + len(HEAD_END)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if method == "HEAD" or b" 204 " in head[:13] or b" 304 " in head[:13]:
            return self.got
        if b"content-length" in fields:
            return await self.bytes(before + int(fields[b"content-length"]))
        if b"transfer-encoding" in fields:
            return await self.until(b"\r\n0\r\n\r\n")
        return await self.end()

    async def end(self) -> bytes:
        """Read until the server closes."""
        while await self.more():
            pass
        return self.got

    def hang_up(self, *, rudely: bool = False) -> None:
        """Close, with a FIN or an RST."""
        if rudely:
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort() if rudely else self._writer.close()


async def ask(url: str, data: bytes) -> bytes:
    """One exchange on a connection of its own."""
    async with await Wire.to(url) as wire:
        wire.send(data)
        return await wire.response(data.split(b" ", 1)[0].decode())

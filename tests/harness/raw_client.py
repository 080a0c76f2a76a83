"""An HTTP client on a raw socket: sends exact bytes, reads exact chunks, closes with a FIN or an RST."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """One response. `fields` has lower-case names, `body` no chunked framing; `is_whole`: it was complete."""

    status: int
    fields: dict[str, str]
    body: bytes
    is_whole: bool = True
    chunks: list[bytes] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.version = ""  # of the last head

    @classmethod
    async def to(cls, host: str, port: int, **options: Any) -> Wire:
        return cls(*await asyncio.open_connection(host, port, limit=64 * 1024 * 1024, **options))

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(self, path: str, body: bytes | dict[str, Any], **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(request("POST", path, content, **headers))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and fields of the next response, 1xx included."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode().split("\r\n")[:-2]
        pairs = (line.split(":", 1) for line in lines)
        self.version = first.split()[0]
        return int(first.split()[1]), {name.lower(): value.strip() for name, value in pairs}

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def until(self, marker: bytes) -> bytes:
        """All chunks up to the one that completes this marker."""
        got = b""
        while marker not in got:
            chunk = await self.chunk()
            if not chunk:
                raise AssertionError(f"the body ended before {marker!r}: {got[-200:]!r}")
            got += chunk
        return got

    async def rest(self) -> bytes:
        """All chunks up to the last one."""
        got = b""
        while chunk := await self.chunk():
            got += chunk
        return got

    async def reply(self, *, has_body: bool = True) -> Reply:
        """The next response, or the part of it that came before the connection was closed."""
        status, fields = await self.head()
        if not has_body or status in (204, 304):
            return Reply(status, fields, b"")
        if fields.get("transfer-encoding") == "chunked":
            return await self._chunked(status, fields)
        if "content-length" in fields:
            return Reply(status, fields, await self.reader.readexactly(int(fields["content-length"])))
        return Reply(status, fields, await self.reader.read())

    async def _chunked(self, status: int, fields: dict[str, str]) -> Reply:
        chunks = []
        try:
            while chunk := await self.chunk():
                chunks.append(chunk)
        except (asyncio.IncompleteReadError, ConnectionError):
            return Reply(status, fields, b"".join(chunks), is_whole=False, chunks=chunks)
        return Reply(status, fields, b"".join(chunks), chunks=chunks)

    def reset(self) -> None:
        """Close with an RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close with a FIN."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request. `_` in a header name stands for `-`; a header with the value None is left out."""
    fields = {"Host": "gateway", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body and "Content-Length" not in fields and "Transfer-Encoding" not in fields:
        fields["Content-Length"] = str(len(body))
    if body and "Content-Type" not in fields:
        fields["Content-Type"] = "application/json"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body

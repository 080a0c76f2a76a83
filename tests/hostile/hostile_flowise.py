"""A Flowise in a process of its own whose replies are those of the corpus; prints its port.

A prediction names its reply in its question, `reply NAME`; a request for the settings of a chatflow by the number at
the end of its id. Everything else gets the same small answer. `python -m tests.hostile.hostile_flowise BYTES` breaks replies off
after this number of bytes.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys

import uvloop

from tests.harness.blunt_upstream import RESPONSE
from tests.hostile.corpus import questions, replies

MOST = int(sys.argv[1]) if len(sys.argv) > 1 and __name__ == "__main__" else 1 << 40
PIECE = 256 * 1024  # bytes written at once
_REPLY = re.compile(rb'"question":"reply ([^"]+)"')
_SETTINGS = re.compile(rb"/(?:public-chatbotConfig|chatflows-streaming)/[0-9a-f-]{24}(\d{12}) ")
SETTINGS = [*questions.REFUSED.values(), *questions.TRIMMED.values(), *questions.STREAMABILITY.values()]


def flow_of(number: int) -> str:
    """The id of the chatflow whose settings are the corpus's of this number."""
    return f"00000000-0000-4000-8000-{number:012}"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await answer(head.partition(b"\r\n")[0], await _beginning(reader, head.lower()), writer)
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):  # ValueError: a cut chunk size
        pass
    finally:
        writer.close()


async def answer(first: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
    """Send one reply; a hostile one ends the connection."""
    if found := _SETTINGS.search(first):
        content = SETTINGS[int(found[1]) % len(SETTINGS)]
        reply = replies.JSON_HEAD % len(content) + content
    elif found := _REPLY.search(body):
        reply = replies.TABLE[found[1].decode()][:MOST]
    else:
        writer.write(RESPONSE)
        return
    for at in range(0, len(reply), PIECE):
        writer.write(reply[at : at + PIECE])
        await writer.drain()
    writer.close()
    raise ConnectionError


async def _beginning(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """Read a body, and return at least its first 4 KiB."""
    kept = b""
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            kept += (await reader.readexactly(size + 2))[: max(0, 4096 - len(kept))]
        await reader.readline()
    elif b"content-length: " in head:
        left = int(head.partition(b"content-length: ")[2].split()[0])
        while left:
            piece = await reader.readexactly(min(left, PIECE))
            left -= len(piece)
            kept += piece[: max(0, 4096 - len(kept))]
    return kept


async def _main() -> None:
    os.nice(5)  # it stands for a machine of its own
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2 * PIECE)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main())

"""A Flowise in a process of its own that takes every request and answers all of them alike.

The other scripted upstream shares the loop of the gateway under test, so what it does with a large body would count
as the gateway's.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

ROOT = Path(__file__).parents[2]  # the other harness would import the gateway into this process
ANSWER = b'{"text":"hello","chatId":"c","isStreaming":true}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)


@contextmanager
def blunt_upstream():
    """`with blunt_upstream() as url:`"""
    command = [sys.executable, "-m", "tests.harness.blunt_upstream"]
    with Popen(command, cwd=ROOT, stdout=PIPE) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"transfer-encoding: chunked" in head:
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                await reader.readline()
            elif b"content-length: " in head:
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
            writer.write(RESPONSE)
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=2**26)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())

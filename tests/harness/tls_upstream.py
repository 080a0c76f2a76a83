"""A Flowise behind TLS."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness.raw_upstream import Peer
from tests.harness.surface import ANSWER

CERTS = Path(__file__).parent / "certs"


@asynccontextmanager
async def tls_flowise(answered_on=None):
    """The port of an https server for `localhost`, with one answer; `answered_on` gets the connection of each prediction."""

    async def serve(reader, writer):
        peer = Peer(reader, writer)
        try:
            while True:
                seen = await peer.request()
                if answered_on is not None and seen.method == "POST":
                    answered_on.append(peer)
                peer.answer(ANSWER)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / "server.pem", CERTS / "server-key.pem")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]

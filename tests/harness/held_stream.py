"""An upstream whose stream stays open until the test lets it finish, and the frames that it sends."""

from __future__ import annotations

import asyncio

from tests.harness.frames import END, METADATA, token
from tests.harness.raw_upstream import STREAM_HEAD

TOKEN = token("a")


class Held:
    """It streams, sends `first` (one token; nothing if empty), and waits for `may_finish` before it sends `rest`."""

    def __init__(self, first=TOKEN, rest=METADATA + END):
        self.first, self.rest = first, rest
        self.may_finish = asyncio.Event()

    async def __call__(self, peer, seen):
        if seen.method == "GET":
            peer.answer(b'{"isStreaming":true}')
            return
        peer.send(STREAM_HEAD)
        if self.first:
            peer.chunk(self.first)
        await self.may_finish.wait()
        peer.chunk(self.rest)
        peer.chunk(b"")

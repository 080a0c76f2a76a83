"""Reads request bodies off the wire: bounded in size, in time between two pieces, and all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from gateway.errors import BadRequest, Overloaded, TooLarge

T = TypeVar("T")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Budget:
    """The bytes of all bodies that are held in memory at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            Overloaded: they would be too many.
        """
        if self.used + size > self._limit:
            raise Overloaded("The gateway holds as many request bodies as it may; try again shortly.")
        self.used += size

    def give(self, size: int) -> None:
        """So many bytes are held no longer."""
        self.used -= size


@dataclass(slots=True)
class BodyReader:
    """The body of one request. `idle`: seconds between two pieces. `held` stays taken until `release`.

    `waited` are the seconds that the client took to send it.
    """

    request: web.BaseRequest
    limit: int
    idle: float
    budget: Budget
    held: int = 0
    waited: float = 0.0

    async def begin(self) -> None:
        """Check what the head says of the body, and let a client send it that asked first.

        Raises:
            TooLarge: the announced length is above the limit.
            BadRequest: a coding or an expectation that is not served.
        """
        headers = self.request.headers
        length = self.request.content_length
        if length is not None and length > self.limit:
            raise self._too_large()
        codings = headers.getall(hdrs.CONTENT_ENCODING, [])
        if any(coding.strip().lower() not in ("", "identity") for coding in codings):
            raise BadRequest("A body with Content-Encoding is not taken here; send it as it is.")
        expect = headers.get(hdrs.EXPECT)
        if expect is None or self.request.version < (1, 1):
            return
        if expect.strip().lower() != "100-continue":
            raise BadRequest("The only expectation that is served is `Expect: 100-continue`.")
        await self.request.writer.write(_CONTINUE)
        self.request.writer.output_size = 0

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it is longer than the limit.
            BadRequest: it broke off, or paused for too long.
            Overloaded: too much is held already.
        """
        await self.begin()
        parts = []
        async for part in self._parts():
            if self.held + len(part) > self.limit:
                raise self._too_large()
            self.take(len(part))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def keep_within(self, limit: int) -> None:
        """The limit is known only now, and is a smaller one.

        Raises:
            TooLarge: what was read is larger.
        """
        if self.held > limit:
            self.limit = limit
            raise self._too_large()

    def take(self, size: int) -> None:
        """Hold so many bytes of the body more. Raises Overloaded."""
        self.budget.take(size)
        self.held += size

    async def paced(self, read: Awaitable[T]) -> T:
        """A read of the body, however many bytes it needs; the seconds that it took are `waited`.

        Raises:
            BadRequest: no byte came for too long.
            TooLarge: more bytes came than are allowed, and the read still needs more.
        """
        began = monotonic()
        try:
            async with self._while_bytes_come():
                return await read
        except TimeoutError:
            if self.request.content.total_bytes > self.limit:
                raise self._too_large() from None
            raise BadRequest(
                f"No byte of the body came for {self.idle:g} s; send it without such pauses."
            ) from None
        finally:
            self.waited += monotonic() - began

    def release(self) -> None:
        """The body is not held any longer."""
        self.budget.give(self.held)
        self.held = 0

    async def _parts(self) -> AsyncIterator[bytes]:
        content = self.request.content
        while not content.at_eof():
            try:
                part = await self.paced(content.readany())
            except (web.RequestPayloadError, HttpProcessingError, HTTPException):
                raise BadRequest("The body is not what its head says: its framing is broken.") from None
            if part:
                yield part

    @asynccontextmanager
    async def _while_bytes_come(self) -> AsyncIterator[None]:
        """Raises TimeoutError once none came for `idle`, or more than `limit` in all."""
        loop, content = asyncio.get_running_loop(), self.request.content
        timer: asyncio.TimerHandle
        async with asyncio.timeout(None) as bound:

            def look(seen: int) -> None:
                nonlocal timer
                if content.total_bytes == seen or content.total_bytes > self.limit:
                    bound.reschedule(loop.time())
                else:
                    timer = loop.call_later(self.idle, look, content.total_bytes)

            timer = loop.call_later(self.idle, look, content.total_bytes)
            try:
                yield
            finally:
                timer.cancel()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than the {self.limit} bytes that are allowed here.")

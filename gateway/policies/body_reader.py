"""Reads request bodies off the wire, bounded in size, in the pause between two pieces, and in memory altogether."""

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
    """Bounds the bytes of all request bodies that are held in memory at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def hold(self, size: int) -> None:
        """Adds `size` bytes. Raises Overloaded if that exceeds the limit."""
        if self.used + size > self._limit:
            raise Overloaded("The gateway's memory for request bodies is full. Try again shortly.")
        self.used += size

    def release(self, size: int) -> None:
        self.used -= size


@dataclass(slots=True)
class BodyReader:
    """The body of one request.

    Attributes:
        limit: bytes.
        idle: seconds that may pass between two pieces.
        held: bytes that count in the budget until `release`.
        waited: seconds that the client took to send the body.
    """

    request: web.BaseRequest
    limit: int
    idle: float
    budget: Budget
    held: int = 0
    waited: float = 0.0

    async def begin(self) -> None:
        """Checks what the head says about the body, and answers `Expect: 100-continue`.

        Raises:
            TooLarge: the announced length is above the limit.
            BadRequest: a content coding or expectation that is not served.
        """
        headers = self.request.headers
        length = self.request.content_length
        if length is not None and length > self.limit:
            raise self._too_large()
        codings = headers.getall(hdrs.CONTENT_ENCODING, [])
        if any(coding.strip().lower() not in ("", "identity") for coding in codings):
            raise BadRequest("A body with Content-Encoding is not accepted. Send it without.")
        expect = headers.get(hdrs.EXPECT)
        if expect is None or self.request.version < (1, 1):
            return
        if expect.strip().lower() != "100-continue":
            raise BadRequest("This expectation is not served. The only one is `Expect: 100-continue`.")
        await self.request.writer.write(_CONTINUE)
        self.request.writer.output_size = 0

    async def read(self) -> bytes:
        """Reads the whole body.

        Raises:
            TooLarge: it is longer than the limit.
            BadRequest: it broke off, or paused for longer than `idle`.
            Overloaded: the budget is used up.
        """
        await self.begin()
        parts = []
        async for part in self._parts():
            if self.held + len(part) > self.limit:
                raise self._too_large()
            self.hold(len(part))
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def keep_within(self, limit: int) -> None:
        """Applies a smaller limit to what was read. Raises TooLarge."""
        if self.held > limit:
            self.limit = limit
            raise self._too_large()

    def hold(self, size: int) -> None:
        """Counts `size` more bytes of the body as held. Raises Overloaded."""
        self.budget.hold(size)
        self.held += size

    async def paced(self, read: Awaitable[T]) -> T:
        """Awaits one read of the body for as long as bytes arrive, and adds its time to `waited`.

        Raises:
            BadRequest: no byte arrived for `idle`.
            TooLarge: more than `limit` bytes arrived and the read needs more.
        """
        began = monotonic()
        try:
            async with self._while_bytes_come():
                return await read
        except TimeoutError:
            if self.request.content.total_bytes > self.limit:
                raise self._too_large() from None
            raise BadRequest(
                f"No byte of the body arrived for {self.idle:g} s. Send it without such pauses."
            ) from None
        finally:
            self.waited += monotonic() - began

    def release(self) -> None:
        self.budget.release(self.held)
        self.held = 0

    async def _parts(self) -> AsyncIterator[bytes]:
        content = self.request.content
        while not content.at_eof():
            try:
                part = await self.paced(content.readany())
            except (web.RequestPayloadError, HttpProcessingError, HTTPException):
                raise BadRequest(
                    "The framing of the body is broken. Its length or chunks must be as the head announces."
                ) from None
            if part:
                yield part

    @asynccontextmanager
    async def _while_bytes_come(self) -> AsyncIterator[None]:
        """Raises TimeoutError when no byte arrives for `idle`, or more than `limit` have arrived."""
        loop, content = asyncio.get_running_loop(), self.request.content
        timer: asyncio.TimerHandle
        async with asyncio.timeout(None) as bound:

            def check(seen: int) -> None:
                nonlocal timer
                if content.total_bytes == seen or content.total_bytes > self.limit:
                    bound.reschedule(loop.time())
                else:
                    timer = loop.call_later(self.idle, check, content.total_bytes)

            timer = loop.call_later(self.idle, check, content.total_bytes)
            try:
                yield
            finally:
                timer.cancel()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than the {self.limit} bytes that are allowed here.")

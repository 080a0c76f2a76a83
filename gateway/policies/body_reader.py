"""Reads request bodies off the wire: bounded in size, in time between two pieces, and all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException

from gateway.errors import BadRequest, Overloaded, TooLarge

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
            self.budget.take(len(part))
            self.held += len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self) -> None:
        """The body is not held any longer."""
        self.budget.give(self.held)
        self.held = 0

    async def _parts(self) -> AsyncIterator[bytes]:
        content = self.request.content
        while not content.at_eof():
            began = monotonic()
            try:
                async with asyncio.timeout(self.idle):
                    part = await content.readany()
            except TimeoutError:
                raise slow_body(self.idle) from None
            except (web.RequestPayloadError, HttpProcessingError, HTTPException):
                raise BadRequest("The body is not what its head says: its framing is broken.") from None
            self.waited += monotonic() - began
            if part:
                yield part

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than the {self.limit} bytes that are allowed here.")


def slow_body(idle: float) -> BadRequest:
    """The refusal of a body that came too slowly."""
    return BadRequest(f"No byte of the body came for {idle:g} s; send it without such pauses.")

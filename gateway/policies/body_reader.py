"""Reads request bodies off the wire, bounded in size, in time, and in memory altogether."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import ParamSpec, TypeVar

import msgspec
from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_exceptions import HTTPException
from msgspec import Struct

from gateway import web
from gateway.aio import Turns, WorkThread
from gateway.errors import BadRequest, GatewayError, Overloaded, TooLarge, UnsupportedMediaType
from gateway.flowise.json_text import STEP, Buffer

T = TypeVar("T")
P = ParamSpec("P")

LEAST_RATE = 1024  # bytes a second that a body must arrive with on average, after the grace
RATE_GRACE = 10.0  # seconds, or `timeouts.body_idle` if that is longer
# of all bodies in one iteration of the loop: heads of parts, and pieces of up to 128 KiB; each takes 0.1 to 0.3 ms
STEPS = 16
ADDRESS_SHARE = 4  # one address may hold the fourth part of the memory for bodies
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Budget:
    """Bounds the bytes of all request bodies that are held in memory at once, and the share of one address.

    An address may always hold `largest` bytes, so that every body that is allowed can be sent.
    """

    def __init__(self, limit: int, largest: int = 0) -> None:
        self._by_address: dict[str, int] = {}
        self.used = 0
        self.resize(limit, largest)

    def resize(self, limit: int, largest: int = 0) -> None:
        """What is held beyond a smaller limit stays until it is released."""
        self._limit = limit
        self._share = min(limit, max(limit // ADDRESS_SHARE, largest))

    def hold(self, size: int, address: str) -> None:
        """Adds `size` bytes. Raises Overloaded if that exceeds the limit or the share of the address."""
        of_address = self._by_address.get(address, 0) + size
        if self.used + size > self._limit:
            raise Overloaded("The gateway's memory for request bodies is full. Try again shortly.")
        if of_address > self._share:
            raise Overloaded(
                "Bodies from this address fill its share of the gateway's memory. Try again shortly."
            )
        self.used += size
        self._by_address[address] = of_address

    def release(self, size: int, address: str) -> None:
        self.used -= size
        of_address = self._by_address.pop(address, 0) - size
        if of_address > 0:
            self._by_address[address] = of_address


class Arrivals:
    """The bodies that are awaited now; the coarse timer ends those that arrive too slowly."""

    def __init__(self) -> None:
        self._awaited: set[BodyReader] = set()

    def add(self, reader: BodyReader) -> None:
        self._awaited.add(reader)

    def discard(self, reader: BodyReader) -> None:
        self._awaited.discard(reader)

    def tick(self, now: float) -> None:
        """Check each of them. `now`: monotonic seconds."""
        for reader in list(self._awaited):
            reader.check(now)


class BodyBounds(Struct, frozen=True):
    """What all bodies share.

    Attributes:
        idle: seconds that may pass between two pieces.
        total: seconds for a body that is held; a file that is passed on may take longer.
        turns: shared by all bodies.
    """

    idle: float
    total: float
    budget: Budget
    arrivals: Arrivals
    turns: Turns


_BROKEN = (web.RequestPayloadError, HttpProcessingError, HTTPException)


def _broken() -> BadRequest:
    return BadRequest(
        "The framing of the body is broken. Its length or chunks must be as the head announces."
    )


class BodyReader(msgspec.Struct, eq=False):
    """The body of one request.

    Attributes:
        address: of the client, as limits count it.
        limit: bytes.
        held: bytes that count in the budget until `release`.
        waited: seconds that the client took to send the body.
    """

    request: web.BaseRequest
    address: str
    limit: int
    bounds: BodyBounds
    held: int = 0
    waited: float = 0.0
    _is_passed_on: bool = False
    _began: float = 0.0  # the read that is awaited
    _seen: int = 0  # bytes that had arrived at the last look
    _last_byte_at: float = 0.0
    _jobs: int = 0
    _is_released: bool = False
    _arrived: bytes | None = None

    async def begin(self) -> None:
        """Checks what the head says about the body, and answers `Expect: 100-continue`.

        Raises:
            TooLarge: the announced length is above the limit.
            UnsupportedMediaType: the body is compressed.
            BadRequest: an expectation that is not served.
        """
        self._check_head()
        expect = self.request.headers.get(hdrs.EXPECT)
        if expect is None or self.request.version < (1, 1):
            return
        if expect.strip().lower() != "100-continue":
            raise BadRequest("This expectation is not served. The only one is `Expect: 100-continue`.")
        await self.request.writer.write(_CONTINUE)
        self.request.writer.output_size = 0

    def _check_head(self) -> None:
        headers = self.request.headers
        length = self.request.content_length
        if length is not None and length > self.limit:
            raise self._too_large()
        codings = headers.getall(hdrs.CONTENT_ENCODING, [])
        if codings and any(coding.strip().lower() not in ("", "identity") for coding in codings):
            raise UnsupportedMediaType(
                "A body with Content-Encoding is not accepted: a short one can be of any length. Send it uncompressed."
            )

    def arrived(self) -> bytes | None:
        """The whole body, as `read` returns it, if nothing has to be awaited or sent for it; else None.

        Raises:
            GatewayError: as `read`.
        """
        if (
            self._arrived is None
            and self.request.content.is_eof()
            and hdrs.EXPECT not in self.request.headers
        ):
            self._check_head()
            self._arrived = self._take()
        return self._arrived

    async def read(self) -> Buffer:
        """Reads the whole body; a long one is a bytearray, which no other copy was made of.

        Raises:
            TooLarge: it is longer than the limit.
            BadRequest: it broke off, or arrived too slowly.
            Overloaded: the budget is used up.
        """
        if self._arrived is not None:
            return self._arrived
        await self.begin()
        content = self.request.content
        if content.is_eof():  # it arrived with its head
            return self._take()
        try:
            parts = bytearray()
            while not content.at_eof():
                part = await self.paced(content.readany)
                self._add(len(part))
                parts += part
        except _BROKEN:
            raise _broken() from None
        return bytes(parts) if len(parts) <= STEP else parts

    def _take(self) -> bytes:
        """What has arrived, which is all."""
        try:
            body = self.request.content.read_nowait()
        except _BROKEN:
            raise _broken() from None
        self._add(len(body))
        return body

    def _add(self, size: int) -> None:
        if self.held + size > self.limit:
            raise self._too_large()
        self.hold(size)

    def keep_within(self, limit: int) -> None:
        """Applies a smaller limit to what was read. Raises TooLarge."""
        if self.held > limit:
            self.limit = limit
            raise self._too_large()

    def hold(self, size: int) -> None:
        """Counts `size` more bytes as held. Raises Overloaded."""
        self.bounds.budget.hold(size, self.address)
        self.held += size

    def pass_on(self) -> None:
        """What follows is sent to Flowise as it arrives, so its time is not bounded as a whole."""
        self._is_passed_on = True

    async def in_thread(
        self, threads: WorkThread, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of a job about this body. What is held stays held until it ends, also if the client leaves.

        Raises:
            Overloaded: too many jobs wait.
        """
        loop = asyncio.get_running_loop()
        try:
            job = threads.submit(call, *args, **kwargs)
        except asyncio.QueueFull:
            raise Overloaded("Too many large bodies wait to be read. Try again shortly.") from None
        self._jobs += 1
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._job_ended))
        return await asyncio.wrap_future(job)

    def _job_ended(self) -> None:
        self._jobs -= 1
        if self._is_released:
            self.release()

    def release(self) -> None:
        """Nothing of the body is needed any more, except by a job that has not ended."""
        self._is_released = True
        self._arrived = None
        if self.held and not self._jobs:
            self.bounds.budget.release(self.held, self.address)
            self.held = 0

    # -- time --------------------------------------------------------------------------------------

    async def paced(self, read: Callable[[], Awaitable[T]]) -> T:
        """Awaits one read of the body in its turn, and adds the time for which the client was awaited to `waited`.

        Raises:
            BadRequest: the body arrives too slowly.
            TooLarge: more than `limit` bytes arrived and the read needs more.
        """
        turns = self.bounds.turns
        await turns.step()
        began_in = turns.iteration
        self._began = self._last_byte_at = monotonic()
        self.bounds.arrivals.add(self)
        try:
            found = await read()
        finally:
            self.bounds.arrivals.discard(self)
            self.waited += monotonic() - self._began
        if turns.iteration != began_in:  # it had to be awaited, perhaps as those of many others
            await turns.step()
        return found

    def check(self, now: float) -> None:
        """Fails the read that is awaited if the body arrives too slowly. `now`: monotonic seconds."""
        content = self.request.content
        if content.total_bytes != self._seen:
            self._seen, self._last_byte_at = content.total_bytes, now
        error = self._too_slow(now)
        if content.total_bytes > self.limit:
            error = self._too_large()
        if error is not None and content.exception() is None:
            content.set_exception(error)
            self.request.protocol.close()  # after the response: the rest of the body is not read

    def _too_slow(self, now: float) -> GatewayError | None:
        idle, waited = self.bounds.idle, self.waited + now - self._began
        total = math.inf if self._is_passed_on else self.bounds.total
        if now - self._last_byte_at > idle:
            return BadRequest(f"No byte of the body arrived for {idle:g} s. Send it without such pauses.")
        if waited > total:
            return BadRequest(f"The body did not arrive within {total:g} s. Send a smaller one, or faster.")
        if self._seen < LEAST_RATE * (waited - max(idle, RATE_GRACE)):
            return BadRequest(f"The body arrives with less than {LEAST_RATE} bytes a second. Send it faster.")
        return None

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than the {self.limit} bytes that are allowed here.")

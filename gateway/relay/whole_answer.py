"""Answers that are no stream, of which something must be known first: read whole, looked into, and only then sent.

Nothing passes unread: what cannot be looked into is refused before the client has a head. The observer sees the answer
as Flowise sent it, so its tokens are counted as ever.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway import web
from gateway.aio import OneShot, WorkThread
from gateway.errors import Overloaded, UpstreamBadReply, UpstreamUnreachable
from gateway.flowise.content_budget import ContentBudget
from gateway.flowise.withheld import without_withheld
from gateway.relay.call import UpstreamCall
from gateway.relay.delivery import whole_response
from gateway.relay.run import PredictionRun
from gateway.upstream.response_parser import BodyEnd, Framing, ResponseHead

LARGEST = 4 * 1024 * 1024  # bytes; the scan of more would hold the interpreter for longer than 10 ms
LONG = 64 * 1024  # bytes; the scan of more takes a millisecond and belongs off the event loop

_JSON = b"application/json"


class WholeAnswer:
    """Takes the place of the client's writer until the body has ended. `release` gives its memory back."""

    feed_chunk = None

    def __init__(
        self,
        call: UpstreamCall,
        budget: ContentBudget,
        largest: int,
        too_large: UpstreamBadReply,
    ) -> None:
        """`largest`: bytes; a larger body is `too_large`."""
        self._call = call
        self._budget = budget
        self._largest = largest
        self._too_large = too_large
        self._parts: list[bytes] = []
        self._size = 0  # of the budget
        self._body: OneShot[bytes] = OneShot()

    async def body(self) -> bytes:
        """Wait for the end of the body.

        Raises:
            UpstreamBadReply: it is too large, or broke off.
            Overloaded: the budget is used up.
            GatewayError: why the call was terminated.
        """
        return await self._body.wait()

    def release(self) -> None:
        self._parts.clear()
        self._budget.give(self._size)
        self._size = 0

    # -- ResponseWriter ----------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        if self._body.is_set:
            return
        if self._size + len(data) > self._largest:
            self._body.fail(self._too_large)
        elif not self._budget.take(len(data)):
            self._body.fail(
                Overloaded(
                    "The gateway holds as many answers of Flowise as it may (server.kept_replies); ask again later."
                )
            )
        else:
            self._parts.append(data)
            self._size += len(data)

    def end(self, end: BodyEnd, last: bytes = b"", *, is_complete: bool) -> None:  # noqa: ARG002 - no event
        self.feed(last)
        if end is BodyEnd.CUT:
            self._body.fail(
                UpstreamBadReply("The answer of Flowise broke off. Look into the log of Flowise.")
            )
        else:
            self._body.set(b"".join(self._parts))
            self._parts.clear()

    def terminate(self, message: str) -> None:
        self._body.fail(self._call.terminated_by or UpstreamUnreachable(message))

    def tick(self, now: float) -> float:
        """There is no client to send a heartbeat to: its response has not begun."""
        return now


async def answer_without(
    run: PredictionRun, head: ResponseHead, events: Collection[str], budget: ContentBudget, thread: WorkThread
) -> web.StreamResponse:
    """The response with Flowise's answer, without what it has of these events.

    Raises:
        UpstreamBadReply: the answer cannot be looked into.
        GatewayError: there is none.
    """
    answer = WholeAnswer(run.call, budget, LARGEST, _too_large())
    response: web.StreamResponse | None = None
    try:
        _check(head)
        run.call.attach(answer)
        body = await answer.body()
        is_long = len(body) > LONG
        content = (
            await thread.run(without_withheld, body, events) if is_long else without_withheld(body, events)
        )
        if content is not body:
            head.fields[:] = [field for field in head.fields if field[0] != b"etag"]
        response = whole_response(run.exchange, head, content, answer.release)
    except UpstreamBadReply as error:
        run.refuse(error)
        raise
    except Overloaded as error:
        run.call.terminate(error)  # what still comes is read and counted
        raise
    finally:
        if response is None:
            answer.release()
    return response


def _check(head: ResponseHead) -> None:
    """Refuse by the head.

    Raises:
        UpstreamBadReply: it announces something else than JSON, or too much of it.
    """
    content_type = head.get(b"content-type")
    if content_type.partition(b";")[0].strip().lower() != _JSON:
        named = content_type.decode("latin-1") or "none"
        raise UpstreamBadReply(
            f"Flowise answered with the content type {named}. This route withholds events, so it needs"
            " application/json or an event stream."
        )
    if head.framing is Framing.LENGTH and int(head.get(b"content-length")) > LARGEST:
        raise _too_large()


def _too_large() -> UpstreamBadReply:
    return UpstreamBadReply(
        f"The answer of Flowise is larger than {LARGEST >> 20} MiB, which is too large to take out what this route"
        " withholds. Ask with streaming: true."
    )

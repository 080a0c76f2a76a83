"""What is observed of Flowise's reply to a prediction: one observer for event streams, one for every other reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.flowise.content_budget import ContentBudget
from gateway.flowise.error_texts import FlowiseFailure, of_reply, of_text
from gateway.flowise.events import event_text
from gateway.flowise.nodes import NodeEvidence
from gateway.flowise.observer import StreamObserver
from gateway.flowise.outcome import Outcome, of_answer, of_stream
from gateway.flowise.usage import UsageSource
from gateway.upstream.response_parser import BodyEnd, ResponseHead

KEPT_BODY = 4 * 1024 * 1024
_NO_EVENTS: Mapping[str, int] = {}


class BodyObserver(Protocol):
    """What a call knows of the body of its reply. Moments are monotonic seconds."""

    first_event_at: float | None

    @property
    def has_end(self) -> bool:
        """Whether the stream's last event was seen."""

    def feed(self, data: bytes, now: float) -> None:
        """The body bytes of one read."""


class ReplyObserver(BodyObserver, Protocol):
    """What a run knows of its reply."""

    is_stream: bool
    status: int
    first_token_at: float | None
    uncounted: str  # why the tokens that Flowise reported do not count; empty: they do

    @property
    def is_finished(self) -> bool:
        """Whether Flowise reported that the run succeeded."""

    @property
    def events(self) -> Mapping[str, int]:
        """The number of events of each name."""

    @property
    def gaps(self) -> tuple[Sequence[int], float] | None:
        """Seconds between two tokens: a count for each bucket, and their sum."""

    def outcome(self, end: BodyEnd) -> Outcome:
        """Called once, at the end of the body."""

    def failure(self) -> FlowiseFailure | None:
        """What Flowise says went wrong; None: nothing."""

    def usage_source(self, question: str) -> UsageSource | None:
        """What the tokens are counted from; None: no token was spent."""

    def keep_steps(self) -> None:
        """Keep what `node_evidence` needs beside what the tokens are counted from."""

    def node_evidence(self) -> NodeEvidence:
        """What is known of the nodes of the run."""

    def release(self) -> None:
        """Give the kept content back to the budget, once it is counted."""


def observer_for(head: ResponseHead, budget: ContentBudget) -> ReplyObserver:
    content_type = head.get(b"content-type").lower()
    if head.status == 200 and content_type.startswith(b"text/event-stream"):
        return StreamReply(budget)
    return BodyReply(head.status, budget)


class StreamReply(StreamObserver):
    """A 200 event stream."""

    __slots__ = ()
    is_stream = True
    status = 200

    @property
    def is_finished(self) -> bool:
        """`metadata` comes only if the run has succeeded."""
        return self.has_metadata

    @property
    def gaps(self) -> tuple[Sequence[int], float] | None:
        return self.gap_counts, self.gap_sum

    def outcome(self, end: BodyEnd) -> Outcome:  # noqa: ARG002 - a stream's events decide
        return of_stream(self)

    def failure(self) -> FlowiseFailure | None:
        return of_text(event_text(self.error)) if self.error else None

    def usage_source(self, question: str) -> UsageSource | None:
        return self.evidence(len(question.encode()))


class BodyReply:
    """Any other reply: kept, up to a bound, because the token counts stand in it."""

    is_stream = False
    has_end = False
    first_event_at: float | None = None
    first_token_at: float | None = None
    gaps: tuple[Sequence[int], float] | None = None
    events = _NO_EVENTS

    def __init__(self, status: int, budget: ContentBudget) -> None:
        self.status = status
        self.uncounted = ""
        self._budget = budget
        self._parts: list[bytes] | None = []
        self._size = 0
        self._is_whole = False

    def feed(self, data: bytes, now: float) -> None:  # noqa: ARG002 - it has no first token
        self._size += len(data)
        if self._parts is None:
            return
        if self._size <= KEPT_BODY and self._budget.take(len(data)):
            self._parts.append(data)
        else:
            self.uncounted = "answer_too_large" if self._size > KEPT_BODY else "answer_over_budget"
            self.release()

    def keep_steps(self) -> None:
        """The answer is kept as it is."""

    def node_evidence(self) -> NodeEvidence:
        return NodeEvidence(answer=tuple(self._parts or ()), size=self._size if self._parts else 0)

    def release(self) -> None:
        self._budget.give(sum(map(len, self._parts or ())))
        self._parts = None

    @property
    def is_finished(self) -> bool:
        return self._is_whole and self.status < 300

    def outcome(self, end: BodyEnd) -> Outcome:
        self._is_whole = end is not BodyEnd.CUT
        return of_answer(self.status, is_whole=self._is_whole)

    def failure(self) -> FlowiseFailure | None:
        if self.status < 400:
            return None
        return of_reply(self.status, None if self._parts is None else b"".join(self._parts))

    def usage_source(self, question: str) -> UsageSource | None:
        """A refusal costs nothing, a failure the question; a reply above the bound is estimated by its size."""
        if 300 <= self.status < 500:
            return None
        question_bytes = len(question.encode())
        if self.status >= 500:
            return UsageSource(question_bytes=question_bytes)
        kept = None if self._parts is None else b"".join(self._parts)
        size = self._size if kept is None else 0
        return UsageSource(answer=kept, question_bytes=question_bytes, answer_bytes=size)

"""Who reads along with Flowise's answer to a prediction: one reader for event streams, one for everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.flowise.observer import StreamObserver
from gateway.flowise.outcome import Outcome, of_answer, of_stream
from gateway.flowise.usage import Usage, UsageSource, count
from gateway.upstream.response_parser import BodyEnd, ResponseHead

KEPT_ANSWER = 4 * 1024 * 1024
_NO_EVENTS: Mapping[str, int] = {}


class Answer(Protocol):
    """What a run knows of its answer."""

    is_stream: bool
    status: int

    @property
    def has_end(self) -> bool:
        """Whether the stream's last event was seen."""

    @property
    def is_finished(self) -> bool:
        """Whether Flowise came to the end of its work."""

    @property
    def first_event_at(self) -> float | None:
        """On monotonic seconds."""

    @property
    def first_token_at(self) -> float | None:
        """On monotonic seconds."""

    @property
    def events(self) -> Mapping[str, int]:
        """How many of each name."""

    @property
    def gaps(self) -> tuple[Sequence[int], float] | None:
        """Seconds between two tokens: a count for each bucket, and their sum."""

    def feed(self, data: bytes, now: float) -> None:
        """The body bytes of one read."""

    def outcome(self, end: BodyEnd) -> Outcome:
        """How it went."""

    def evidence(self, question: str) -> UsageSource | None:
        """What its tokens are counted from; None: nothing was spent."""


def answer_for(head: ResponseHead) -> Answer:
    """The reader for a reply with this head."""
    content_type = head.get(b"content-type").lower()
    if head.status == 200 and content_type.startswith(b"text/event-stream"):
        return StreamReply()
    return BodyReply(head.status)


def counted(evidence: UsageSource | None) -> Usage | None:
    """The tokens of a run."""
    return None if evidence is None else count(evidence)


class StreamReply:
    """A 200 event stream."""

    is_stream = True
    status = 200

    def __init__(self) -> None:
        self._observer = StreamObserver()
        self.feed = self._observer.feed

    @property
    def has_end(self) -> bool:
        """Whether `end` was seen."""
        return self._observer.has_end

    @property
    def is_finished(self) -> bool:
        """`metadata` comes only when the run has succeeded."""
        return self._observer.has_metadata

    @property
    def first_event_at(self) -> float | None:
        """When the first event came that is not a comment."""
        return self._observer.first_event_at

    @property
    def first_token_at(self) -> float | None:
        """When the first token with text came."""
        return self._observer.first_token_at

    @property
    def events(self) -> Mapping[str, int]:
        """How many of each name."""
        return self._observer.events

    @property
    def gaps(self) -> tuple[Sequence[int], float] | None:
        """Counted while the stream ran."""
        return self._observer.gap_counts, self._observer.gap_sum

    def outcome(self, end: BodyEnd) -> Outcome:  # noqa: ARG002 - a stream tells by its events
        """How it went."""
        return of_stream(self._observer)

    def evidence(self, question: str) -> UsageSource | None:
        """The trace, the usage event, and the sizes."""
        return self._observer.evidence(len(question.encode()))


class BodyReply:
    """Any other reply: kept, up to a bound, because its end tells the tokens."""

    is_stream = False
    has_end = False
    first_event_at: float | None = None
    first_token_at: float | None = None
    gaps: tuple[Sequence[int], float] | None = None
    events = _NO_EVENTS

    def __init__(self, status: int) -> None:
        self.status = status
        self._parts: list[bytes] | None = []
        self._size = 0
        self._is_whole = False

    def feed(self, data: bytes, now: float) -> None:  # noqa: ARG002 - there is no first token in it
        """Keep it."""
        self._size += len(data)
        if self._size > KEPT_ANSWER:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(data)

    @property
    def is_finished(self) -> bool:
        """Whether Flowise said that the run succeeded."""
        return self._is_whole and self.status < 300

    def outcome(self, end: BodyEnd) -> Outcome:
        """How it went."""
        self._is_whole = end is not BodyEnd.CUT
        return of_answer(self.status, is_whole=self._is_whole)

    def evidence(self, question: str) -> UsageSource | None:
        """The answer, if it is one and was not too large to keep; a refusal costs nothing, a failure the question."""
        if 300 <= self.status < 500:
            return None
        if self.status >= 500:
            return UsageSource(question_bytes=len(question.encode()))
        kept = None if self._parts is None else b"".join(self._parts)
        size = self._size if kept is None else 0
        return UsageSource(answer=kept, question_bytes=len(question.encode()), answer_bytes=size)

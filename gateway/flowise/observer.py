"""Observes one stream: counts its events and measures its times, changes nothing, never fails (pure).

It keeps no text of the answer, of other events only what the token count needs, and the beginning of the first `error`.
Time arrives with the bytes. The counts do not depend on how the stream is cut.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from gateway.flowise.content_budget import ContentBudget
from gateway.flowise.events import EVENT_NAMES, HEAD, content_size, event_name, is_comment, may_be_event
from gateway.flowise.nodes import NodeEvidence
from gateway.flowise.usage import UsageSource, started_node
from gateway.http.sse import boundaries

GAP_BOUNDS = (0.001, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
KEPT_TRACE = 4 * 1024 * 1024  # bytes
_NO_GAPS = array("I", [0] * (len(GAP_BOUNDS) + 1))
MOST_NODES = 1024
MOST_STEPS = 1024  # beginnings and ends of nodes
OTHER = "other"  # counts events without a name, or with one that Flowise does not define

_LINE_ENDS = b"\r\n"
_LONGEST_END = 4  # CRLF CRLF
_TOKEN = b'message:\ndata:{"event":"token","data":"'
_TOKEN_FRAME = len(_TOKEN) + len(b'"}')
_CR, _LF = 13, 10
_TRACE = "agentFlowExecutedData"
_OUTPUT = frozenset({"token", "thinking"})
_CONTENT = frozenset({"action", "artifacts", "usedTools", "calledTools", "tool"})


class StreamObserver:
    """What is known of one stream so far.

    Attributes:
        first_event_at: `now` of the first event; a comment, such as a heartbeat, is not an event.
        first_token_at: `now` of the first `token` or `thinking` that is not empty.
        has_metadata, has_end: whether an event of this name was seen.
        error: the first `error` event, at most `HEAD` bytes of it; empty if there was none.
        text_bytes: size of the text of all tokens, as escaped on the wire.
        gap_counts: gaps between tokens (and `thinking`), one count for each upper bound in `GAP_BOUNDS` (seconds,
            inclusive) and one for longer gaps; `gap_sum` is their sum.
        uncounted: why the tokens of the last `agentFlowExecutedData` do not count: `trace_too_large` (above
            `KEPT_TRACE` bytes), `trace_over_budget`, or nothing.
    """

    __slots__ = (
        "_budget",
        "_counts",
        "_has_other_content",
        "_has_too_many_nodes",
        "_metadata",
        "_nodes",
        "_output_at",
        "_partial",
        "_steps",
        "_steps_size",
        "_tokens",
        "_trace",
        "_usage",
        "error",
        "first_event_at",
        "first_token_at",
        "gap_counts",
        "gap_sum",
        "has_end",
        "has_metadata",
        "text_bytes",
        "uncounted",
    )

    def __init__(self, budget: ContentBudget | None = None) -> None:
        """`budget`: for the trace; all that is taken from it is given back by `release`."""
        self.first_event_at: float | None = None
        self.first_token_at: float | None = None
        self.has_metadata = False
        self.error = b""
        self.has_end = False
        self.uncounted = ""
        self.text_bytes = 0
        self.gap_counts = _NO_GAPS[:]
        self.gap_sum = 0.0
        self._tokens = 0
        self._counts: dict[str, int] = {}
        self._output_at: float | None = None
        self._has_other_content = False
        self._budget = budget or ContentBudget()
        self._partial: PartialEvent | None = None  # while an event is unfinished
        self._trace: bytes | None = None
        self._usage: bytes | None = None
        self._nodes: set[str] | None = None  # created with the first node; most streams have none
        self._has_too_many_nodes = False
        self._steps: list[tuple[bytes, float]] | None = None  # kept for a trace
        self._steps_size = 0
        self._metadata = b""

    @property
    def events(self) -> dict[str, int]:
        """The number of events by name."""
        if not self._tokens:
            return dict(self._counts)
        return self._counts | {"token": self._tokens + self._counts.get("token", 0)}

    @property
    def has_error(self) -> bool:
        return bool(self.error)

    @property
    def has_content(self) -> bool:
        """Whether the stream held something for the user: a token, an action, artifacts or tools, not empty."""
        return self.text_bytes > 0 or self._has_other_content

    def evidence(self, question_bytes: int = 0) -> UsageSource:
        """What the tokens of this run are counted from."""
        return UsageSource(
            executed=self._trace,
            usage_metadata=self._usage,
            started_nodes=frozenset(self._nodes) if self._nodes else None,
            question_bytes=question_bytes,
            answer_bytes=self.text_bytes,
        )

    def keep_steps(self) -> None:
        """From now on also keeps when each node has begun and ended, as far as the budget lasts."""
        self._steps = []

    def node_evidence(self) -> NodeEvidence:
        """What is known of the nodes of this run, after `keep_steps`."""
        size = len(self._trace or b"") + self._steps_size + len(self._metadata)
        return NodeEvidence(self._trace, (), tuple(self._steps or ()), self._metadata, size)

    def release(self) -> None:
        """Forgets the trace and gives its memory back to the budget."""
        if self._partial is not None:
            self._partial.take()
            self._partial = None
        if self._trace is not None:
            self._drop_trace()
        if self._steps is not None:
            self._budget.give(self._steps_size)
            self._steps, self._steps_size = None, 0

    def feed(self, data: bytes, now: float) -> None:
        """Reads the next bytes of the stream, in any cut. `now`: monotonic seconds."""
        if self._partial is not None:
            data = self._finish_event(self._partial, data, now)
        if _CR in data:
            self._feed_any(data, now)
            return
        events = data.split(b"\n\n")
        tail = events.pop()
        for event in events:
            if event.startswith(_TOKEN):
                self._on_token(len(event) - _TOKEN_FRAME, now)
            elif may_be_event(event):  # a comment of any kind costs no more than this
                block = event.lstrip(b"\n")
                self._on_event(block, len(block), now)
        if tail:
            self._begin_event(tail)

    def _begin_event(self, data: bytes) -> None:
        self._partial = PartialEvent(_TRACE, KEPT_TRACE, self._budget)
        self._partial.add(data)

    def _finish_event(self, partial: PartialEvent, data: bytes, now: float) -> bytes:
        """Adds to the unfinished event what belongs to it and returns the rest of `data`."""
        if _LF not in data and _CR not in data:  # inside a long line
            partial.add(data)
            return b""
        end = next(boundaries(partial.last + data), 0) - len(partial.last)
        if end <= 0:
            partial.add(data)
            return b""
        partial.add(data[:end])
        self._partial = None
        kept, size = partial.take()
        if may_be_event(kept):
            self._on_event(kept, size, now)
        return data[end:]

    def _feed_any(self, data: bytes, now: float) -> None:
        start = 0
        for end in boundaries(data):
            event = data[start:end]
            start = end
            if may_be_event(event):
                event = event.strip(b"\r\n")
                self._on_event(event, len(event), now)
        if start < len(data):
            self._begin_event(data[start:])

    def _on_event(self, kept: bytes, size: int, now: float) -> None:
        if kept.startswith(_TOKEN):
            self._on_token(size - _TOKEN_FRAME, now)
            return
        name = event_name(kept)
        if name is None and is_comment(kept):
            return
        if self.first_event_at is None:
            self.first_event_at = now
        known = name if name in EVENT_NAMES else OTHER
        self._counts[known] = self._counts.get(known, 0) + 1
        if name in _OUTPUT:
            self._on_output_event(known, kept, size, now)
        elif name == _TRACE:
            self._keep_trace(kept, size)
        else:
            self._note(known, kept, size)
            if self._steps is not None:
                self._keep_step(known, kept[:HEAD], now)

    def _keep_step(self, name: str, head: bytes, now: float) -> None:
        """Keeps the beginning of an event that says when a node began or ended, or how the answer is named."""
        if name == "metadata":
            self._metadata = head
        elif name != "nextAgentFlow" or self._steps is None or len(self._steps) == MOST_STEPS:
            return
        elif self._budget.take(len(head)):
            self._steps_size += len(head)
            self._steps.append((head, now))

    def _keep_trace(self, kept: bytes, size: int) -> None:
        """Replaces the one before: each holds all entries of the earlier ones."""
        self._drop_trace()
        if size > KEPT_TRACE:
            self.uncounted = "trace_too_large"
        elif len(kept) < size or not self._budget.take(size):
            self.uncounted = "trace_over_budget"
        else:
            self._trace, self.uncounted = kept, ""

    def _drop_trace(self) -> None:
        if self._trace is not None:
            self._budget.give(len(self._trace))
            self._trace = None

    def _on_token(self, text_bytes: int, now: float) -> None:
        if self.first_event_at is None:
            self.first_event_at = now
        self._tokens += 1
        if text_bytes > 0:
            self.text_bytes += text_bytes
            self._on_output(now)

    def _on_output_event(self, name: str, kept: bytes, size: int, now: float) -> None:
        content = content_size(kept) if size <= HEAD else size
        if name == "token":
            self.text_bytes += content
        if content:
            self._on_output(now)

    def _on_output(self, now: float) -> None:
        if self._output_at is None:
            self.first_token_at = now
        else:
            gap = now - self._output_at
            self.gap_sum += gap
            self.gap_counts[bisect_left(GAP_BOUNDS, gap)] += 1
        self._output_at = now

    def _note(self, name: str, kept: bytes, size: int) -> None:
        if name == "metadata":
            self.has_metadata = True
        elif name == "error":
            self.error = self.error or kept[:HEAD]
        elif name == "end":
            self.has_end = True
        elif name in _CONTENT:
            self._has_other_content = self._has_other_content or size > HEAD or content_size(kept) > 0
        elif name == "usageMetadata" and size <= HEAD:
            self._usage = kept
        elif name == "nextAgentFlow" and size <= HEAD:
            self._on_node(started_node(kept))

    def _on_node(self, node: str | None) -> None:
        if node is None or self._has_too_many_nodes:
            return
        if self._nodes is None:
            self._nodes = set()
        self._nodes.add(node)
        if len(self._nodes) > MOST_NODES:
            self._nodes, self._has_too_many_nodes = None, True  # then all entries count


class PartialEvent:
    """An unfinished event. It keeps the first `HEAD` bytes.

    If its name is `kept_name`, it keeps the first `limit` bytes, or fewer if the budget is used up.
    """

    __slots__ = ("_budget", "_held", "_is_kept", "_kept_name", "_limit", "_size", "_taken", "last")

    def __init__(self, kept_name: str, limit: int, budget: ContentBudget) -> None:
        self._kept_name, self._limit = kept_name, limit
        self._budget, self._taken = budget, 0  # bytes of the budget
        self._held = bytearray()
        self._size = 0
        self._is_kept: bool | None = None
        self.last = b""  # the last few bytes received

    def add(self, piece: bytes) -> None:
        """Adds bytes of this event; bare line ends before it are skipped."""
        self.last = (self.last + piece[-_LONGEST_END:])[-_LONGEST_END:]
        if not self._size:
            piece = piece.lstrip(_LINE_ENDS)
        self._size += len(piece)
        if self._is_kept is None and self._size > HEAD:
            head = bytes(self._held) + piece[: HEAD - len(self._held)]
            self._is_kept = event_name(head) == self._kept_name
        self._held += piece[: (self._limit if self._is_kept else HEAD) - len(self._held)]
        if self._is_kept:
            self._pay()

    def _pay(self) -> None:
        more = len(self._held) - self._taken
        if self._budget.take(more):
            self._taken += more
        else:
            self._give_back()
            self._is_kept = False
            del self._held[HEAD:]

    def _give_back(self) -> None:
        self._budget.give(self._taken)
        self._taken = 0

    def take(self) -> tuple[bytes, int]:
        """Ends the event: returns its kept bytes and its full size, both without the final line ends."""
        size = self._size - (len(self.last) - len(self.last.rstrip(_LINE_ENDS)) if self._size else 0)
        self._give_back()
        del self._held[size:]
        return bytes(self._held), size

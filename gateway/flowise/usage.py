"""Counts the tokens of a run from what Flowise reports about it (pure).

For agents with tools `usageMetadata` and the totals in the trace are wrong: they omit turns or count them twice. In the
capture 3.1.2/v2_agent_tool_stream the event reports 11 in and 7 out, the truth is 111 and 27. So the turns of the model
are added up, over all entries of the last `agentFlowExecutedData`.

The reply may be hostile: no call in C is long, and what is built is bounded, see `json_scan`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from gateway.flowise.events import UNREADABLE, payload, text_size
from gateway.flowise.json_scan import TooManyError, items
from gateway.flowise.raw_json import HEAVY
from gateway.records import DiscreetRecord

BYTES_PER_TOKEN = 4
# Tokens that a run may have used although no byte shows them: system prompt, documents, memory, reasoning, over all
# turns of the model. The largest contexts have 1 to 2 million tokens.
UNSEEN_TOKENS = 2_000_000
MOST_MESSAGES = 8192  # to and from the model in one run; a trace with more is not counted

_MOST_DIGITS = 13  # of a number of tokens
_MOST_TOKENS = 10**12  # a larger number is an error
_LONGEST_METADATA = 4096  # bytes
_LONGEST_ID = 256
_NULL = msgspec.Raw(b"null")

T = TypeVar("T")


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens in and out; estimated from the sizes of question and answer if Flowise reported none.

    `implausible_input`, `implausible_output`: what Flowise reported beyond what is believed. It is counted apart and
    charged to no limit.
    """

    input: int
    output: int
    source: Literal["reported", "estimated"]
    implausible_input: int = 0
    implausible_output: int = 0


class UsageSource(DiscreetRecord, frozen=True):
    """What is known of one run.

    Attributes:
        executed: the bytes of the last `agentFlowExecutedData` event.
        usage_metadata: the bytes of the last `usageMetadata` event.
        answer: the whole JSON answer, if the run did not stream.
        started_nodes: ids of the nodes that started in this run; None if unknown, then all entries count. A resumed
            run (`humanInput`) sends the entries of the earlier run, too.
        question_bytes, answer_bytes: for the estimate. Without `answer_bytes` the text in `answer` is measured.
    """

    executed: bytes | None = None
    usage_metadata: bytes | None = None
    answer: bytes | None = None
    started_nodes: frozenset[str] | None = None
    question_bytes: int = 0
    answer_bytes: int = 0

    @property
    def is_heavy(self) -> bool:
        """Whether `count` takes milliseconds and belongs off the event loop."""
        return len(self.executed or b"") + len(self.answer or b"") > HEAVY


def count(source: UsageSource) -> Usage:
    """Counts one run: by its trace if that reports tokens, else by `usageMetadata`, else by an estimate."""
    if not (source.executed or source.usage_metadata or source.answer):  # a stream that reported nothing
        return Usage(_estimate(source.question_bytes), _estimate(source.answer_bytes), "estimated")
    answer = read(source.answer or b"", _Answer, _Answer())
    trace = data_of(source.executed) if source.executed else answer.agent_flow_executed_data
    for turns in (_turns(trace, source.started_nodes), iter([_tokens(data_of(source.usage_metadata))])):
        try:
            tokens_in, tokens_out = _sum(turns)
        except TooManyError:
            continue
        if tokens_in or tokens_out:
            return Usage(tokens_in, tokens_out, "reported")
    answer_bytes = source.answer_bytes or text_size(bytes(answer.text)) or text_size(bytes(answer.json))
    return Usage(_estimate(source.question_bytes), _estimate(answer_bytes), "estimated")


def plausible(usage: Usage, seen: int, most: int) -> Usage:
    """What is believed of a usage; the rest is set apart as implausible.

    Args:
        usage: as counted.
        seen: bytes of question and reply; each holds at most one token.
        most: tokens of one run in each direction, whatever its bytes say.
    """
    most = min(most, UNSEEN_TOKENS + seen)
    if usage.input <= most and usage.output <= most:
        return usage
    tokens_in, tokens_out = min(usage.input, most), min(usage.output, most)
    return replace(
        usage,
        input=tokens_in,
        output=tokens_out,
        implausible_input=usage.input - tokens_in,
        implausible_output=usage.output - tokens_out,
    )


def _sum(turns: Iterator[tuple[int, int]]) -> tuple[int, int]:
    """Tokens in and out of all turns. Raises TooManyError."""
    tokens_in = tokens_out = 0
    for count, (turn_in, turn_out) in enumerate(turns, 1):
        if count > MOST_MESSAGES:
            raise TooManyError
        tokens_in += turn_in
        tokens_out += turn_out
    return tokens_in, tokens_out


def started_node(event: bytes) -> str | None:
    """Returns the id of the node that this `nextAgentFlow` event reports as started, else None."""
    node = read(data_of(event), _NodeStatus, _NodeStatus())
    is_start = node.status == "INPROGRESS" and 0 < len(node.node_id) <= _LONGEST_ID
    return node.node_id if is_start else None


class _Event(msgspec.Struct):
    data: msgspec.Raw = _NULL


class _Answer(msgspec.Struct, rename="camel"):
    text: msgspec.Raw = _NULL
    json: msgspec.Raw = _NULL
    agent_flow_executed_data: msgspec.Raw = _NULL


class _NodeStatus(msgspec.Struct, rename="camel"):
    node_id: str = ""
    status: str = ""


class _Entry(msgspec.Struct, rename="camel"):
    node_id: str = ""
    data: msgspec.Raw = _NULL


class _EntryData(msgspec.Struct):
    input: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL


class _Input(msgspec.Struct):
    messages: msgspec.Raw = _NULL


class _Output(msgspec.Struct, rename="camel"):
    usage_metadata: msgspec.Raw = _NULL


class _Message(msgspec.Struct):
    role: msgspec.Raw = _NULL
    usage_metadata: msgspec.Raw = _NULL


class _Tokens(msgspec.Struct):
    input_tokens: msgspec.Raw = _NULL
    output_tokens: msgspec.Raw = _NULL


def _turns(trace: msgspec.Raw, started_nodes: frozenset[str] | None) -> Iterator[tuple[int, int]]:
    """Yields tokens in and out of each turn and message of all nodes."""
    for raw in objects(trace):
        entry = read(raw, _Entry, _Entry())
        if started_nodes is None or entry.node_id in started_nodes:
            yield from turns_of(entry.data)


def turns_of(data: msgspec.Raw) -> Iterator[tuple[int, int]]:
    """Yields tokens in and out of each turn and message of a node, of which `data` is the member of its entry.

    Turns that called tools are in the node's input. Raises TooManyError.
    """
    about = read(data, _EntryData, _EntryData())
    for message in objects(read(about.input, _Input, _Input()).messages):
        turn = read(message, _Message, _Message())
        yield _tokens(turn.usage_metadata) if bytes(turn.role) == b'"assistant"' else (0, 0)
    yield _tokens(read(about.output, _Output, _Output()).usage_metadata)


def objects(array: msgspec.Raw) -> list[msgspec.Raw]:
    """The objects among the items; to decode anything else would raise, which takes ten times as long."""
    return [item for item in items(array) if bytes(memoryview(item)[:1]) == b"{"]


def _tokens(metadata: msgspec.Raw) -> tuple[int, int]:
    if len(metadata) > _LONGEST_METADATA:
        return 0, 0
    found = read(metadata, _Tokens, _Tokens())
    return _number(bytes(found.input_tokens)), _number(bytes(found.output_tokens))


def _number(raw: bytes) -> int:
    number = int(raw) if raw.isdigit() and len(raw) <= _MOST_DIGITS else 0
    return number if number <= _MOST_TOKENS else 0


def _estimate(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def data_of(event: bytes | None) -> msgspec.Raw:
    """The member `data` of an event, raw."""
    return read(payload(event or b""), _Event, _Event()).data


def read(text: bytes | msgspec.Raw, kind: type[T], default: T) -> T:
    """Reads one level and leaves those below raw, so that an unexpected value affects only its own level."""
    try:
        return msgspec.json.decode(text, type=kind)
    except UNREADABLE:
        return default

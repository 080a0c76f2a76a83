"""The nodes that an agentflow has executed, from the trace that Flowise sends and from when its events came (pure).

Nodes may run side by side and more than once. So each execution is found by the id of its node: the events that begin
and end it in their order, its entry in the trace by its place among those of this node. A resumed run (`humanInput`)
sends the entries of the earlier run too, before its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import Struct

from gateway.flowise.events import payload
from gateway.flowise.json_scan import TooManyError, items
from gateway.flowise.node_content import Raw, as_json, content_of, messages_of, text_of
from gateway.flowise.usage import MOST_MESSAGES, data_of, objects, read, turns_of

MOST_EXECUTIONS = 256  # of one run; the later ones are left out
MOST_TOOLS = 32  # of one execution
MOST_CONTENT = 256 * 1024  # characters of all texts of one run; beyond it the later nodes have none
IN_PROGRESS, FAILED = "INPROGRESS", frozenset({"ERROR", "TERMINATED"})

_LONGEST_NAME = 200  # characters
_LONGEST_ERROR = 1000
_NOTHING = msgspec.Raw(b"null")
_MESSAGE_ID = re.compile(
    rb'"chatMessageId":"([0-9A-Za-z-]{1,64})"'
)  # inside of a text its quotes are escaped
# what is left of an event whose error is long
_CUT_STEP = re.compile(
    rb'"nodeId":("(?:[^"\\]|\\.)*+"),"nodeLabel":("(?:[^"\\]|\\.)*+"),"status":"(\w+)"', re.DOTALL
)


class NodeEvidence(msgspec.Struct, frozen=True, gc=False):
    """What is kept of one reply.

    Attributes:
        executed: the last `agentFlowExecutedData` event.
        answer: the pieces of an answer that is no stream.
        steps: each `nextAgentFlow` event, or its beginning, and the monotonic seconds at which it came.
        metadata: the beginning of the `metadata` event.
        size: bytes of all these.
    """

    executed: bytes | None = None
    answer: tuple[bytes, ...] = ()
    steps: tuple[tuple[bytes, float], ...] = ()
    metadata: bytes = b""
    size: int = 0


class UsedTool(Struct, frozen=True):
    """A tool that a node has called. `arguments`, `result`: only if content is wanted."""

    name: str
    is_failed: bool = False
    arguments: str = ""
    result: str = ""


class Execution(Struct):
    """One execution of a node; texts are cut.

    Attributes:
        began, ended: by the events of the stream, in monotonic seconds; None: there was none.
        model_time: when its model was called and was done, by Flowise's clock, in seconds since 1970.
        parent: id of the node that has repeated it (an iteration).
        kind: name of its component, like `llmAgentflow`.
        tokens: in and out, over all turns of its model; None: it reports none.
        error: Flowise's text, which may hold a prompt.
        input, output: messages in the form of `gen_ai.input.messages`, and a text; only if content is wanted.
    """

    node: str
    label: str = ""
    status: str = IN_PROGRESS
    began: float | None = None
    ended: float | None = None
    model_time: tuple[float, float] | None = None
    parent: str = ""
    iteration: int | None = None
    kind: str = ""
    model: str = ""
    answering_model: str = ""
    provider: str = ""
    finish_reason: str = ""
    tokens: tuple[int, int] | None = None
    tools: tuple[UsedTool, ...] = ()
    error: str = ""
    input: str = ""
    output: str = ""


class ReadRun(Struct, frozen=True):
    """`executions`: in the order in which they began. `left_out`: how many more there were."""

    executions: tuple[Execution, ...] = ()
    left_out: int = 0
    message_id: str = ""


def read_run(evidence: NodeEvidence, *, with_content: bool = False) -> ReadRun:
    """What a reply reports of its run. Takes milliseconds for a large trace: for a thread."""
    answer = b"".join(evidence.answer)
    message_id = _MESSAGE_ID.search(evidence.metadata) or _MESSAGE_ID.search(answer)
    trace = (
        data_of(evidence.executed)
        if evidence.executed
        else read(answer, _NodesOfAnswer, _NodesOfAnswer()).executed
    )
    executions = list(_started(evidence.steps))
    reader = _NodeReader(with_content)
    try:
        entries = objects(trace)
    except TooManyError:
        entries = []
    if executions:
        _match(executions, entries, reader)
    else:
        executions = [reader.fill(Execution(""), entry) for entry in entries[:MOST_EXECUTIONS]]
    left_out = max(len(entries), len(executions)) - MOST_EXECUTIONS
    return ReadRun(
        tuple(executions[:MOST_EXECUTIONS]), max(0, left_out), message_id[1].decode() if message_id else ""
    )


# -- when: the events ------------------------------------------------------------------------------


class _NodeStep(msgspec.Struct, rename="camel"):
    node_id: str = ""
    node_label: str = ""
    status: str = ""
    error: msgspec.Raw = _NOTHING


def _started(steps: Iterable[tuple[bytes, float]]) -> Iterator[Execution]:
    """Each execution that has begun, with its end if that was seen; side by side, the first to begin ends first."""
    opened: dict[str, list[Execution]] = defaultdict(list)
    begun: list[Execution] = []
    for event, now in steps:
        step = _read_step(event)
        if not step.node_id:
            continue
        if step.status == IN_PROGRESS:
            execution = Execution(step.node_id[:_LONGEST_NAME], step.node_label[:_LONGEST_NAME], began=now)
            opened[step.node_id].append(execution)
            begun.append(execution)
        elif opened[step.node_id]:
            ended = opened[step.node_id].pop(0)
            ended.ended, ended.status = now, step.status[:_LONGEST_NAME]
            ended.error = text_of(step.error, _LONGEST_ERROR)
    return iter(begun)


def _read_step(event: bytes) -> _NodeStep:
    step = read(data_of(event), _NodeStep, _NodeStep())
    if step.node_id:
        return step
    cut = _CUT_STEP.search(payload(event) or event)
    if cut is None:
        return step
    return _NodeStep(
        text_of(Raw(cut[1]), _LONGEST_NAME), text_of(Raw(cut[2]), _LONGEST_NAME), cut[3].decode()
    )


# -- what: the entries of the trace ----------------------------------------------------------------


class _NodesOfAnswer(msgspec.Struct):
    executed: msgspec.Raw = msgspec.field(default=_NOTHING, name="agentFlowExecutedData")


class _NodeEntry(msgspec.Struct, rename="camel"):
    node_id: msgspec.Raw = _NOTHING
    node_label: msgspec.Raw = _NOTHING
    status: msgspec.Raw = _NOTHING
    data: msgspec.Raw = _NOTHING


class _NodeData(msgspec.Struct, rename="camel"):
    name: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING
    output: msgspec.Raw = _NOTHING
    iteration_index: msgspec.Raw = _NOTHING
    parent_node_id: msgspec.Raw = _NOTHING


class _NodeInput(msgspec.Struct, rename="camel"):
    messages: msgspec.Raw = _NOTHING
    question: msgspec.Raw = _NOTHING
    llm_model_config: msgspec.Raw = _NOTHING
    agent_model_config: msgspec.Raw = _NOTHING
    condition_agent_model_config: msgspec.Raw = _NOTHING


class _NodeOutput(msgspec.Struct, rename="camel"):
    content: msgspec.Raw = _NOTHING
    used_tools: msgspec.Raw = _NOTHING
    response_metadata: msgspec.Raw = _NOTHING
    time_metadata: msgspec.Raw = _NOTHING


class _NodeModel(msgspec.Struct, rename="camel"):
    model_name: msgspec.Raw = _NOTHING


class _ModelResponse(msgspec.Struct):
    model_name: msgspec.Raw = _NOTHING
    model_provider: msgspec.Raw = _NOTHING
    finish_reason: msgspec.Raw = _NOTHING


class _ModelTime(msgspec.Struct):
    start: float = 0.0
    end: float = 0.0


class _NodeTool(msgspec.Struct, rename="camel"):
    tool: msgspec.Raw = _NOTHING
    tool_input: msgspec.Raw = _NOTHING
    tool_output: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


def _match(executions: Sequence[Execution], entries: Sequence[msgspec.Raw], reader: _NodeReader) -> None:
    """Fill each execution from its entry. More entries than executions: the first ones are of an earlier run."""
    by_node: dict[str, list[msgspec.Raw]] = defaultdict(list)
    for entry in entries:
        by_node[_name(read(entry, _NodeEntry, _NodeEntry()).node_id)].append(entry)
    begun: dict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        begun[execution.node].append(execution)
    for node, its in begun.items():
        found = by_node[node]
        for execution, entry in zip(its, found[max(0, len(found) - len(its)) :], strict=False):
            reader.fill(execution, entry)


class _NodeReader:
    """Reads the entries of one trace; what it reads of all together is bounded."""

    def __init__(self, with_content: bool) -> None:  # noqa: FBT001 - the only argument
        self._with_content = with_content
        self._messages_left = MOST_MESSAGES
        self._content_left = MOST_CONTENT

    def fill(self, execution: Execution, raw: msgspec.Raw) -> Execution:
        """Add what the entry says; returns the execution."""
        entry = read(raw, _NodeEntry, _NodeEntry())
        about = read(entry.data, _NodeData, _NodeData())
        given, made = (
            read(about.input, _NodeInput, _NodeInput()),
            read(about.output, _NodeOutput, _NodeOutput()),
        )
        response = read(made.response_metadata, _ModelResponse, _ModelResponse())
        execution.node = execution.node or _name(entry.node_id)
        execution.label = execution.label or _name(entry.node_label)
        execution.status = _name(entry.status) or execution.status
        execution.error = execution.error or text_of(about.error, _LONGEST_ERROR)
        execution.kind, execution.parent = _name(about.name), _name(about.parent_node_id)
        execution.iteration = (
            read(about.iteration_index, int, -1) if about.parent_node_id != _NOTHING else None
        )
        configs = (given.llm_model_config, given.agent_model_config, given.condition_agent_model_config)
        execution.model = next(
            filter(None, (_name(read(one, _NodeModel, _NodeModel()).model_name) for one in configs)), ""
        )
        execution.answering_model = _name(response.model_name)
        execution.provider = _name(response.model_provider)
        execution.finish_reason = _name(response.finish_reason)
        execution.tokens = self._tokens(entry.data)
        execution.tools = tuple(self._tools(made.used_tools))
        spent = read(made.time_metadata, _ModelTime, _ModelTime())
        execution.model_time = (
            (spent.start / 1000, spent.end / 1000) if 0 < spent.start <= spent.end else None
        )
        if self._with_content:
            question = self._content(given.question)
            execution.input = self._bounded(messages_of(given.messages)) or (
                as_json(("user", question)) if question else ""
            )
            execution.output = self._content(made.content)
        return execution

    def _content(self, raw: msgspec.Raw) -> str:
        return self._bounded(content_of(raw))

    def _bounded(self, text: str) -> str:
        """The text, or nothing if there is no more memory for it."""
        self._content_left -= len(text)
        return text if self._content_left >= 0 else ""

    def _tokens(self, data: msgspec.Raw) -> tuple[int, int] | None:
        tokens_in = tokens_out = 0
        try:
            for turn_in, turn_out in turns_of(data):
                if self._messages_left <= 0:
                    return None
                self._messages_left -= 1
                tokens_in += turn_in
                tokens_out += turn_out
        except TooManyError:
            return None
        return (tokens_in, tokens_out) if tokens_in or tokens_out else None

    def _tools(self, raw: msgspec.Raw) -> Iterator[UsedTool]:
        try:
            calls = items(raw)[:MOST_TOOLS]
        except TooManyError:
            return
        for call in calls:
            tool = read(call, _NodeTool, _NodeTool())
            name, is_failed = _name(tool.tool), tool.error != _NOTHING
            if not name:
                continue
            if self._with_content:
                yield UsedTool(
                    name, is_failed, self._content(tool.tool_input), self._content(tool.tool_output)
                )
            else:
                yield UsedTool(name, is_failed)


def _name(raw: msgspec.Raw) -> str:
    return text_of(raw, _LONGEST_NAME)

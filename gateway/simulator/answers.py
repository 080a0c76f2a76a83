"""What Flowise says about a run: its default steps, its metadata, its JSON answer, its failures; pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.simulator import agentflow
from gateway.simulator.flows import Flow
from gateway.simulator.prompt_directives import model
from gateway.simulator.requests import ReceivedRequest, printable
from gateway.simulator.steps import Delay, Event, Fail, Step, present

ABORTED = "This operation was aborted"

_PREFIX = "Error: predictionsServices.buildChatflow - "
_NODE_PREFIX = "Error in LLM node: "
_WRONG_MODEL_KEY = "401 Incorrect API key provided"
_WRONG_MODEL_KEY_TOLD = (
    "401 Unauthorized \u2013 check your API key and ensure it has access to the requested model."
)


@dataclass(frozen=True)
class Call:
    """One prediction and the names it goes by."""

    asked: ReceivedRequest
    flow: Flow
    is_streaming: bool
    chat_id: Any
    session_id: Any
    message_id: str

    @classmethod
    def of(cls, asked: ReceivedRequest, flow: Flow) -> Call:
        """Name it as Flowise does: chatId, else sessionId, else a new one (stream-chain-session)."""
        given, session = asked.fields.get("chatId"), asked.overrides.get("sessionId")
        in_override = asked.fields.get("overrideConfig")
        fallback = in_override.get("sessionId") if isinstance(in_override, dict) else None
        chat_id = next((each for each in (given, fallback) if each is not None), str(uuid.uuid4()))
        chat_id = _clean(chat_id)
        session_id = chat_id if session is None else _clean(session)
        is_streaming = asked.is_streaming and flow.is_streaming
        return cls(asked, flow, is_streaming, chat_id, session_id, str(uuid.uuid4()))

    @property
    def is_agentflow(self) -> bool:
        """Whether it runs on an Agentflow v2."""
        return self.flow.kind == "agentflow"

    @property
    def to_model(self) -> str | None:
        """The text that reaches the model: the question, or an agentflow's form in lines."""
        if not self.is_agentflow or self.asked.form is None:
            return self.asked.question
        return "\n".join(f"{name}: {value}" for name, value in self.asked.form.items())


@dataclass(frozen=True)
class Failure:
    """Why a run fails: the words for its caller, and the events before them."""

    told: str
    events: tuple[Event, ...] = ()


def default(call: Call, turn: Callable[[], agentflow.Turn]) -> Iterator[Step]:
    """The steps of a run that no test has scripted; `turn` is asked for once the model has spoken."""
    thinking = model(call.to_model or "")
    if call.is_agentflow:
        yield from agentflow.opening(call.to_model)
        yield from agentflow.speech(thinking)
        yield from agentflow.closing(turn())
        return
    yield Delay(thinking.before)
    if thinking.failure:
        yield Fail(thinking.failure)
    yield Event("start", "")
    yield from thinking.steps


def precondition(call: Call, key: str) -> Failure | None:
    """Find why a run may not even begin; `key`: what a protected flow asks for, empty: nobody has it."""
    if call.flow.needs_key and not _has_key(call.asked, key):
        return Failure(_PREFIX + "Unauthorized")
    if not call.is_agentflow and not isinstance(call.chat_id, str):
        return Failure(_PREFIX + "Invalid chatId: must be a string")
    if call.is_agentflow and call.asked.form is not None and call.asked.question is not None:
        message = "Question and form cannot be provided at the same time"
        return Failure(_PREFIX + message, tuple(agentflow.failing_at_start(message)))
    return None


def mishap(call: Call, message: str) -> Failure:
    """Put the model's failure into Flowise's words."""
    if not call.is_agentflow:
        return Failure(_told(message))
    message = _NODE_PREFIX + message
    return Failure(_told(message), tuple(agentflow.failing(call.to_model, message)))


def metadata(call: Call) -> Event:
    """The event before `end`; only a run that succeeded has one."""
    said = {
        "chatId": call.chat_id,
        "chatMessageId": call.message_id,
        "question": _or_unset(call.asked.question),
        "sessionId": call.session_id,
        "memoryType": msgspec.UNSET if call.is_agentflow else "Buffer Memory",
    }
    return Event("metadata", present(said))


def answer(call: Call, parts: Sequence[str], turn: agentflow.Turn) -> dict[str, Any]:
    """The JSON answer of a run that was not streamed."""
    text = "".join(parts)
    said = {
        "text": text if call.flow.model_streams else text.rstrip(),
        "question": _or_unset(call.asked.question),
        "form": _or_unset(call.asked.form),
        "chatId": call.chat_id,
        "chatMessageId": call.message_id,
    }
    if not call.is_agentflow:
        more = {"isStreamValid": False, "sessionId": call.session_id, "memoryType": "Buffer Memory"}
        return present({**said, "form": msgspec.UNSET, **more})
    trace = {"executionId": str(uuid.uuid4()), "agentFlowExecutedData": agentflow.executed(turn)}
    return present({**said, **trace, "sessionId": call.session_id})


def _has_key(asked: ReceivedRequest, key: str) -> bool:
    """With `Bearer` or without, both pass (capture key-right-stream; the bare key is from its source)."""
    return bool(key) and asked.headers.get("Authorization", "").removeprefix("Bearer ") == key


def _told(message: str) -> str:
    return _WRONG_MODEL_KEY_TOLD if _WRONG_MODEL_KEY in message else _PREFIX + message


def _or_unset(value: Any) -> Any:
    return msgspec.UNSET if value is None else value


def _clean(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value

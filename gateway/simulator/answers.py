"""What Flowise sends for a run: default steps, metadata, JSON answer, error messages; pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.simulator import agentflow
from gateway.simulator.flows import Flow
from gateway.simulator.prompt_directives import model_reply
from gateway.simulator.requests import ReceivedRequest, encodable
from gateway.simulator.steps import Delay, Event, Fail, Step, present

ABORTED = "This operation was aborted"
MEMBERS = frozenset(
    {"sourceDocuments", "usedTools", "artifacts", "fileAnnotations"}
)  # of a chain's JSON answer

_PREFIX = "Error: predictionsServices.buildChatflow - "
_NODE_PREFIX = "Error in LLM node: "
_WRONG_MODEL_KEY = "401 Incorrect API key provided"
_WRONG_MODEL_KEY_MESSAGE = (
    "401 Unauthorized \u2013 check your API key and ensure it has access to the requested model."
)


@dataclass(frozen=True)
class PredictionCall:
    """One prediction with its ids."""

    request: ReceivedRequest
    flow: Flow
    is_streaming: bool
    chat_id: Any
    session_id: Any
    message_id: str

    @classmethod
    def of(cls, request: ReceivedRequest, flow: Flow) -> PredictionCall:
        """Choose ids as Flowise does: chatId, else sessionId, else a new one (stream-chain-session)."""
        given, session = request.fields.get("chatId"), request.overrides.get("sessionId")
        in_override = request.fields.get("overrideConfig")
        fallback = in_override.get("sessionId") if isinstance(in_override, dict) else None
        chat_id = next((each for each in (given, fallback) if each is not None), str(uuid.uuid4()))
        chat_id = _clean(chat_id)
        session_id = chat_id if session is None else _clean(session)
        is_streaming = request.is_streaming and flow.is_streaming
        return cls(request, flow, is_streaming, chat_id, session_id, str(uuid.uuid4()))

    @property
    def is_agentflow(self) -> bool:
        return self.flow.kind == "agentflow"

    @property
    def to_model(self) -> str | None:
        """The text that reaches the model: the question, or an agentflow's form in lines."""
        if not self.is_agentflow or self.request.form is None:
            return self.request.question
        return "\n".join(f"{name}: {value}" for name, value in self.request.form.items())


@dataclass(frozen=True)
class Failure:
    """Why a run fails: Flowise's message, and the events before it."""

    message: str
    events: tuple[Event, ...] = ()


def default_steps(call: PredictionCall, completion: Callable[[], agentflow.Completion]) -> Iterator[Step]:
    """The steps of a run without a script; `completion` is called once the model has answered."""
    reply = model_reply(call.to_model or "")
    if call.is_agentflow:
        yield from agentflow.opening(call.to_model)
        yield from agentflow.model_steps(reply)
        yield from agentflow.closing(completion())
        return
    yield Delay(reply.before)
    if reply.failure:
        yield Fail(reply.failure)
    yield Event("start", "")
    yield from reply.steps


def precondition(call: PredictionCall, key: str) -> Failure | None:
    """Why a run may not start, if so. `key`: of protected flows; empty: no request has it."""
    if call.flow.needs_key and not _has_key(call.request, call.flow.own_key or key):
        return Failure(_PREFIX + "Unauthorized")
    if not call.is_agentflow and not isinstance(call.chat_id, str):
        return Failure(_PREFIX + "Invalid chatId: must be a string")
    if call.is_agentflow and call.request.form is not None and call.request.question is not None:
        message = "Question and form cannot be provided at the same time"
        return Failure(_PREFIX + message, tuple(agentflow.failing_at_start(message)))
    return None


def model_failure(call: PredictionCall, message: str) -> Failure:
    """Word a model's failure as Flowise does."""
    if not call.is_agentflow:
        return Failure(_public_message(message))
    message = _NODE_PREFIX + message
    return Failure(_public_message(message), tuple(agentflow.failing(call.to_model, message)))


def metadata(call: PredictionCall) -> Event:
    """The event before `end` of a successful run."""
    fields = {
        "chatId": call.chat_id,
        "chatMessageId": call.message_id,
        "question": _or_unset(call.request.question),
        "sessionId": call.session_id,
        "memoryType": msgspec.UNSET if call.is_agentflow else "Buffer Memory",
    }
    return Event("metadata", present(fields))


def answer(
    call: PredictionCall, parts: Sequence[str], members: Mapping[str, Any], completion: agentflow.Completion
) -> dict[str, Any]:
    """The JSON answer of a run that was not streamed. `members`: of a chain, by name."""
    text = "".join(parts)
    fields = {
        "text": text if call.flow.model_streams else text.rstrip(),
        "question": _or_unset(call.request.question),
        "form": _or_unset(call.request.form),
        "chatId": call.chat_id,
        "chatMessageId": call.message_id,
    }
    if not call.is_agentflow:
        more = {"isStreamValid": False, "sessionId": call.session_id, "memoryType": "Buffer Memory"}
        text_first = {"text": fields.pop("text"), **members}
        return present({**text_first, **fields, "form": msgspec.UNSET, **more})
    trace = {"executionId": str(uuid.uuid4()), "agentFlowExecutedData": agentflow.executed(completion)}
    return present({**fields, **trace, "sessionId": call.session_id})


def _has_key(request: ReceivedRequest, key: str) -> bool:
    """The key passes with and without `Bearer` (capture key-right-stream; the bare key is from Flowise's source)."""
    return bool(key) and request.headers.get("Authorization", "").removeprefix("Bearer ") == key


def _public_message(message: str) -> str:
    return _WRONG_MODEL_KEY_MESSAGE if _WRONG_MODEL_KEY in message else _PREFIX + message


def _or_unset(value: Any) -> Any:
    return msgspec.UNSET if value is None else value


def _clean(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value

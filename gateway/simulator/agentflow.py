"""The events of an Agentflow v2 with two nodes, Start and one LLM (capture stream-agentflow); pure data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.simulator.prompt_directives import ModelReply
from gateway.simulator.steps import Delay, Event, Fail, Step, Token, number

START, LLM = ("startAgentflow", "Start"), ("llmAgentflow", "General Agent")

_CREDENTIAL = "c32b4602-0963-4b72-9789-1d97d028baef"
_INPUT_COST, _OUTPUT_COST = 1.5e-7, 6e-7
_MODEL = {
    "credential": _CREDENTIAL,
    "modelName": "gpt-4o-mini",
    "temperature": 0.9,
    "streaming": True,
    "maxTokens": "",
    "topP": "",
    "frequencyPenalty": "",
    "presencePenalty": "",
    "timeout": "",
    "strictToolCalling": "",
    "stopSequence": "",
    "basepath": "http://127.0.0.1:9999/v1",
    "proxyUrl": "",
    "baseOptions": "",
    "allowImageUploads": "",
    "imageResolution": "low",
    "reasoningEffort": "",
    "llmModel": "chatOpenAI",
}


@dataclass(frozen=True)
class Completion:
    """A model's answer to one question.

    Attributes:
        question: the model's input; None if there was none.
        parts: the answer's tokens.
        began: when the model was called, milliseconds since 1970.
        ended: when it was done, milliseconds since 1970.
        is_streaming: streamed runs repeat the credential's id.
    """

    question: str | None
    parts: Sequence[str]
    began: int
    ended: int
    is_streaming: bool


def opening(question: str | None) -> Iterator[Event]:
    """The events before the model is called."""
    yield Event("agentFlowEvent", "INPROGRESS")
    yield _next(START, "INPROGRESS")
    yield _next(START, "FINISHED")
    yield Event("agentFlowExecutedData", [_start_node(question)])
    yield _next(LLM, "INPROGRESS")


def model_steps(reply: ModelReply) -> Iterator[Step]:
    """The model's answer between empty tokens."""
    yield Delay(reply.before)
    if reply.failure:
        yield Fail(reply.failure)
        return
    yield Token("")
    yield from reply.steps
    yield Token("")
    yield Token("")


def closing(completion: Completion) -> Iterator[Event]:
    """The events between the last token and `metadata`."""
    yield Event("calledTools", [])
    yield Event("usageMetadata", _usage(completion))
    yield _next(LLM, "FINISHED")
    yield Event("agentFlowExecutedData", executed(completion))
    yield Event("agentFlowEvent", "FINISHED")


def failing(question: str | None, message: str) -> Iterator[Event]:
    """The events when the model's node failed (capture stream-agentflow-llm-400)."""
    yield _next(LLM, "ERROR", message)
    yield Event(
        "agentFlowExecutedData", [_start_node(question), _failed_node(LLM, message, [f"{START[0]}_0"])]
    )
    yield Event("agentFlowEvent", "ERROR")


def failing_at_start(message: str) -> Iterator[Event]:
    """The events when the start node failed (capture question-and-form-stream)."""
    yield Event("agentFlowEvent", "INPROGRESS")
    yield _next(START, "INPROGRESS")
    yield _next(START, "ERROR", message)
    yield Event("agentFlowExecutedData", [_failed_node(START, message, [])])
    yield Event("agentFlowEvent", "ERROR")


def executed(completion: Completion) -> list[dict[str, Any]]:
    """The whole trace of a finished run: prompts, model, answer and usage."""
    return [_start_node(completion.question), _llm_node(completion)]


def _next(node: tuple[str, str], status: str, error: str = "") -> Event:
    about = {"nodeId": f"{node[0]}_0", "nodeLabel": node[1], "status": status}
    return Event("nextAgentFlow", {**about, "error": error} if error else about)


def _start_node(question: str | None) -> dict[str, Any]:
    fields = {} if question is None else {"question": question}
    data = {"id": f"{START[0]}_0", "name": START[0], "input": fields, "output": fields, "state": {}}
    return {
        "nodeId": f"{START[0]}_0",
        "nodeLabel": START[1],
        "data": data,
        "previousNodeIds": [],
        "status": "FINISHED",
    }


def _failed_node(node: tuple[str, str], message: str, before: list[str]) -> dict[str, Any]:
    return {
        "nodeId": f"{node[0]}_0",
        "nodeLabel": node[1],
        "previousNodeIds": before,
        "data": {"id": f"{node[0]}_0", "name": node[0], "error": message},
        "status": "ERROR",
    }


def _llm_node(completion: Completion) -> dict[str, Any]:
    messages = [] if completion.question is None else [{"role": "user", "content": completion.question}]
    answer = {"role": "user", "content": "".join(completion.parts), "name": "general_agent"}
    return {
        "nodeId": f"{LLM[0]}_0",
        "nodeLabel": LLM[1],
        "data": {
            "id": f"{LLM[0]}_0",
            "name": LLM[0],
            "input": {
                "messages": messages,
                "llmModel": "chatOpenAI",
                "llmEnableMemory": True,
                "llmMemoryType": "allMessages",
                "llmReturnResponseAs": "userMessage",
                "llmModelConfig": {**_MODEL, "FLOWISE_CREDENTIAL_ID": _CREDENTIAL}
                if completion.is_streaming
                else _MODEL,
            },
            "output": _output(completion),
            "state": {},
            "chatHistory": [*messages, answer],
        },
        "previousNodeIds": [f"{START[0]}_0"],
        "status": "FINISHED",
    }


def _output(completion: Completion) -> dict[str, Any]:
    usage = _usage(completion)
    given, made = usage["input_tokens"], usage["output_tokens"]
    return {
        "content": "".join(completion.parts),
        "timeMetadata": {
            "start": completion.began,
            "end": completion.ended,
            "delta": completion.ended - completion.began,
        },
        "calledTools": [],
        "usageMetadata": {
            **usage,
            "input_cost": number(given * _INPUT_COST),
            "output_cost": number(made * _OUTPUT_COST),
            "total_cost": number(given * _INPUT_COST + made * _OUTPUT_COST),
            "base_input_cost": number(_INPUT_COST),
            "base_output_cost": number(_OUTPUT_COST),
        },
        "responseMetadata": {
            "prompt": 0,
            "completion": 0,
            "model_provider": "openai",
            "usage": {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made},
            "finish_reason": "stop",
            "system_fingerprint": "fp_fake",
            "model_name": "gpt-4o-mini",
        },
    }


def _usage(completion: Completion) -> dict[str, Any]:
    given, made = len((completion.question or "").split()), sum(1 for part in completion.parts if part)
    return {
        "input_tokens": given,
        "output_tokens": made,
        "total_tokens": given + made,
        "input_token_details": {},
        "output_token_details": {},
    }

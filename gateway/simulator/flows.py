"""The chatflows that the simulated Flowise knows: six by default, each with another behaviour."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

CHAIN_ID = "11111111-1111-4111-8111-111111111111"
AGENTFLOW_ID = "22222222-2222-4222-8222-222222222222"
PROTECTED_ID = "33333333-3333-4333-8333-333333333333"
NOT_STREAMABLE_ID = "44444444-4444-4444-8444-444444444444"
ORIGINS_ID = "55555555-5555-4555-8555-555555555555"
RATE_LIMITED_ID = "66666666-6666-4666-8666-666666666666"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class RateLimit:
    """Flowise's own limiter: so many requests in a fixed window of so many seconds, per address."""

    requests: int
    seconds: int
    message: str = "slow down please"


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One chatflow.

    Attributes:
        kind: `chain` (a Conversation Chain) or `agentflow` (Agentflow v2).
        streamable: false as with post-processing: a prediction is answered with JSON whatever it asks for.
        model_streams: the model's own Streaming switch; off means not streamable as well.
        needs_key: predictions need the simulator's API key.
        allowed_origins: origins that may call it, `https://host`; empty: all.
        chatbot_config: what the widget is told; `fullFileUpload` in it opens `attachments`.
        flow_data: the flow's nodes as JSON text, told to everybody; empty: a small one with a secret in it.
    """

    id: str
    name: str
    kind: Literal["chain", "agentflow"] = "chain"
    streamable: bool = True
    model_streams: bool = True
    needs_key: bool = False
    allowed_origins: tuple[str, ...] = ()
    origins_error: str = "This site is not allowed to access this chatbot"
    rate_limit: RateLimit | None = None
    chatbot_config: Mapping[str, Any] = field(default_factory=dict)
    flow_data: str = ""

    @property
    def is_streaming(self) -> bool:
        """What `chatflows-streaming` says."""
        return self.streamable and self.model_streams

    @property
    def may_upload(self) -> bool:
        """Whether `attachments` takes files for it."""
        return bool(self.chatbot_config.get("fullFileUpload", {}).get("status"))

    def allows(self, origin: str) -> bool:
        """Compare hosts and ports only, as Flowise does; ValueError if the Origin is no URL."""
        if not self.allowed_origins:
            return True
        return _host(origin) in {_host(allowed) for allowed in self.allowed_origins}

    def told_nodes(self) -> str:
        """Give the `flowData` of `public-chatbotConfig`: all nodes, prompts and addresses included."""
        return self.flow_data or json.dumps(_nodes(self), separators=(",", ":"))


def is_flow_id(text: str) -> bool:
    """Tell whether Flowise takes this as a chatflow's id at all."""
    return _UUID.fullmatch(text) is not None


def _host(origin: str) -> str:
    host = urlsplit(origin).netloc
    if not host:
        raise ValueError("Invalid URL")
    return host.lower()


def _nodes(flow: Flow) -> dict[str, Any]:
    model = {"modelName": "gpt-4o-mini", "basepath": "http://127.0.0.1:9999/v1"}
    secret = "You are a secret system prompt."  # noqa: S105 - bait for tests, no password
    if flow.kind == "chain":
        return {
            "nodes": [_node("chatOpenAI", model), _node("conversationChain", {"systemMessagePrompt": secret})]
        }
    start = {"startInputType": "chatInput", "formTitle": "", "formInputTypes": "", "startPersistState": False}
    prompt = {"llmModelConfig": model, "llmMessages": [{"role": "system", "content": secret}]}
    return {"nodes": [_node("startAgentflow", start), _node("llmAgentflow", prompt)]}


def _node(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{name}_0",
        "type": "customNode",
        "data": {"id": f"{name}_0", "name": name, "inputs": inputs},
    }


DEFAULT_FLOWS = (
    Flow(
        id=CHAIN_ID,
        name="chain",
        chatbot_config=MappingProxyType(
            {"welcomeMessage": "Hello from the simulator", "starterPrompts": {"0": {"prompt": "hi"}}}
        ),
    ),
    Flow(
        id=AGENTFLOW_ID,
        name="agentflow",
        kind="agentflow",
        chatbot_config=MappingProxyType({"fullFileUpload": {"status": True}}),
    ),
    Flow(id=PROTECTED_ID, name="protected", needs_key=True),
    Flow(id=NOT_STREAMABLE_ID, name="nostream", streamable=False),
    Flow(
        id=ORIGINS_ID,
        name="origins",
        allowed_origins=("https://good.example",),
        origins_error="not from here",
    ),
    Flow(id=RATE_LIMITED_ID, name="ratelimited", rate_limit=RateLimit(2, 60)),
)

"""The chatflows of the simulated Flowise: six by default, one for each behaviour."""

from __future__ import annotations

import json
import re
import uuid
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
    """Flowise's own limiter: `requests` per address in a fixed window of `seconds`."""

    requests: int
    seconds: int
    message: str = "slow down please"


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One chatflow.

    Attributes:
        kind: `chain` (a Conversation Chain) or `agentflow` (Agentflow v2).
        streamable: false as with post-processing: predictions are always answered with JSON.
        model_streams: the model's own Streaming switch; off: not streamable either.
        needs_key: predictions need the simulator's API key.
        allowed_origins: as `https://host`; empty: all.
        chatbot_config: for the widget; `fullFileUpload` in it enables `attachments`.
        trigger: what starts an agentflow: a chat message, a form, a webhook or a schedule.
        own_key: the API key that predictions need, with `needs_key`; empty: the simulator's.
        uploads: what `chatflows-uploads` reports, over the answer of a flow without uploads.
        speaks: whether it has text-to-speech.
        stores: whether it has a vector store that takes documents.
        flow_data: the flow's nodes as JSON text, public; empty: a small flow with a secret prompt.
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
    trigger: Literal["chatInput", "formInput", "webhookTrigger", "scheduleInput"] = "chatInput"
    own_key: str = ""
    uploads: Mapping[str, Any] = field(default_factory=dict)
    speaks: bool = False
    stores: bool = False
    flow_data: str = ""

    @property
    def is_streaming(self) -> bool:
        """The answer of `chatflows-streaming`."""
        return self.streamable and self.model_streams

    @property
    def may_upload(self) -> bool:
        """Whether `attachments` accepts files."""
        return bool(self.chatbot_config.get("fullFileUpload", {}).get("status"))

    @property
    def key_id(self) -> str:
        """The id of the API key that predictions need; empty: none. One id for each key."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.own_key)) if self.needs_key else ""

    def allows(self, origin: str) -> bool:
        """Compare hosts and ports only, as Flowise does.

        Raises:
            ValueError: the origin is not a URL.
        """
        if not self.allowed_origins:
            return True
        return _host(origin) in {_host(allowed) for allowed in self.allowed_origins}

    def public_nodes(self) -> str:
        """The `flowData` of `public-chatbotConfig`: all nodes, with prompts and addresses."""
        return self.flow_data or json.dumps(_nodes(self), separators=(",", ":"))


def is_flow_id(text: str) -> bool:
    """Whether Flowise accepts this as a chatflow id."""
    return _UUID.fullmatch(text) is not None


def _host(origin: str) -> str:
    host = urlsplit(origin).netloc
    if not host:
        raise ValueError("Invalid URL")
    return host.lower()


def _nodes(flow: Flow) -> dict[str, Any]:
    model = {"modelName": "gpt-4o-mini", "basepath": "http://127.0.0.1:9999/v1"}
    secret = "You are a secret system prompt."  # noqa: S105 - bait for tests, not a password
    if flow.kind == "chain":
        return {
            "nodes": [_node("chatOpenAI", model), _node("conversationChain", {"systemMessagePrompt": secret})]
        }
    start = {
        "startInputType": flow.trigger,
        "formTitle": "",
        "formInputTypes": "",
        "startPersistState": False,
    }
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

"""What `events.withhold` means for a JSON answer, and which other events repeat what an event has (pure).

Flowise answers a run that does not stream with one JSON object. A member of it has the name of the event with the same
content, apart from those below (Flowise 3.1.4, buildChatflow.ts, buildAgentflow.ts and SSEStreamer.ts). Names are
compared exactly, as Flowise writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.errors import UpstreamBadReply
from gateway.flowise.json_scan import members, with_changes

# `action` is in the event `metadata`, too, but has an event of its own.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "token": ("text", "json", "assistant"),  # `assistant`: the messages of an OpenAI assistant
    "thinking": ("reasonContent",),
    "usageMetadata": ("metrics",),
    "metadata": (
        "chatId",
        "chatMessageId",
        "question",
        "sessionId",
        "memoryType",
        "followUpPrompts",
        "flowVariables",
    ),
}

# The events that repeat a whole run. What is withheld is not cut out of them, nor out of the members of the same
# name: there it is text among text, in prompts and in the history.
_TRACES: Mapping[str, tuple[str, ...]] = {
    "agentFlowExecutedData": (
        "token",
        "thinking",
        "sourceDocuments",
        "usedTools",
        "calledTools",
        "artifacts",
        "fileAnnotations",
        "usageMetadata",
        "action",
    ),
    "agentReasoning": ("token", "sourceDocuments", "usedTools", "artifacts", "nextAgent"),
    "agent_trace": ("usedTools",),
}


def repeating(events: Collection[str]) -> list[str]:
    """The traces that repeat what these events have, and are not among them."""
    return [
        trace
        for trace, contents in _TRACES.items()
        if trace not in events and any(name in events for name in contents)
    ]


def without_withheld(answer: bytes, events: Collection[str]) -> bytes:
    """The JSON answer without the members that have the content of these events; the others keep their bytes.

    The same object is returned if it has none of them. An ETag of Flowise does not hold for another one.

    Raises:
        UpstreamBadReply: it cannot be looked into.
    """
    try:
        found = members(answer)
    except ValueError as error:
        raise UpstreamBadReply(
            f"The answer of Flowise cannot be looked into: {error}. This route withholds events, so it needs a JSON"
            " object."
        ) from None
    return with_changes(answer, found, dict.fromkeys(_members_of(events)))


def _members_of(events: Collection[str]) -> set[str]:
    return {name for event in events for name in (event, *_OTHER_NAMES.get(event, ()))}

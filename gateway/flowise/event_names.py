"""The closed list of event names that Flowise sends (PROTOCOL.md 2.2), not what they mean (pure)."""

from __future__ import annotations

EVENT_NAMES: frozenset[str] = frozenset(
    {
        "start",
        "token",
        "thinking",
        "sourceDocuments",
        "usedTools",
        "calledTools",
        "artifacts",
        "fileAnnotations",
        "tool",
        "agent_trace",
        "agentReasoning",
        "nextAgent",
        "agentFlowEvent",
        "nextAgentFlow",
        "agentFlowExecutedData",
        "usageMetadata",
        "action",
        "abort",
        "metadata",
        "error",
        "end",
        "tts_start",
        "tts_data",
        "tts_end",
        "tts_abort",
        "listenerReady",
        "executionEnd",
    }
)

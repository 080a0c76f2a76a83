"""The few frames that the gateway itself writes into a stream, byte for byte as Flowise would (pure)."""

from __future__ import annotations

import msgspec

HEARTBEAT = b":\n\n"
END_EVENT = b'message:\ndata:{"event":"end","data":"[DONE]"}\n\n'


def error_event(text: str) -> bytes:
    """Return the `error` event with this text (capture stream-chain-llm-400); lone surrogates become `?`."""
    readable = text.encode("utf-8", "replace").decode()
    return b'message:\ndata:{"event":"error","data":%b}\n\n' % msgspec.json.encode(readable)

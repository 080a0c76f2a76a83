"""What is seen of Flowise's text-to-speech stream: its events, its end, and how much sound has come (pure).

It has another form than other streams (capture speech): `event: tts_data` LF `data: {"event":"tts_data","data":
{"chatMessageId":…,"audioChunk":"<base64>"}}` LF LF. The first event is tts_start, the last tts_end or tts_error.
"""

from __future__ import annotations

import re

from gateway.flowise.raw_json import encode

# Begins with fixed text, which is found at memory speed: with `^` before it each byte of the sound would be tried.
_EVENT = re.compile(rb"event: (tts_[a-z]{1,16})\r?\n")
_LONGEST_LINE = 64  # bytes of a line with a name
_KNOWN = (b"tts_start", b"tts_data", b"tts_end", b"tts_error", b"tts_abort")


def speech_error(message: str) -> bytes:
    """The event that completes a stream which broke off, in Flowise's own form."""
    event = encode({"event": "tts_error", "data": {"error": message}})
    return b"event: tts_error\ndata: " + event + b"\n\n"


class SpeechObserver:
    """Counts the events by name. Reads each byte once, and keeps the beginning of a line that is cut."""

    def __init__(self) -> None:
        self.events: dict[str, int] = {}
        self.first_event_at: float | None = None
        self._rest = b""

    @property
    def has_end(self) -> bool:
        """Whether the last event was seen."""
        return not {"tts_end", "tts_error", "tts_abort"}.isdisjoint(self.events)

    @property
    def has_error(self) -> bool:
        return "tts_error" in self.events

    def feed(self, data: bytes, now: float) -> None:
        """The bytes of one read; `now`: monotonic seconds."""
        text = self._rest + data
        line = text.rfind(b"\n") + 1
        for found in _EVENT.finditer(text, 0, line):
            begins_line = text[found.start() - 1 : found.start()] in (b"", b"\n")
            if begins_line and found[1] in _KNOWN:
                name = found[1].decode()
                self.events[name] = self.events.get(name, 0) + 1
                self.first_event_at = self.first_event_at or now
        rest = text[line:]
        # of a long line only that it is none with a name is kept: what it begins with
        self._rest = rest if len(rest) <= _LONGEST_LINE else rest[:1] + b"-"

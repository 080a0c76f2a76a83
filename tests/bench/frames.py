"""The frames that the benchmark's upstream sends, and the timestamps in them; no socket, no clock.

Every token event carries its number and the time in ns (CLOCK_MONOTONIC, the same for all processes of a machine)
at which it was handed to the kernel, so that the reader can compute its latency. The shapes are those of the capture
`stream-chain`.
"""

from __future__ import annotations

HEAD = (
    b"HTTP/1.1 200 OK\r\nVary: Origin\r\nContent-Security-Policy: frame-ancestors 'self'\r\n"
    b"X-Frame-Options: SAMEORIGIN\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Connection: keep-alive\r\nX-Accel-Buffering: no\r\nDate: Sat, 21 Nov 2026 03:45:51 GMT\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"

_MARK = b'"data":"@'
_STAMP = len(b"%08d:%019d" % (0, 0))
_TOKEN = b'message:\ndata:{"event":"token","data":"@%08d:%019d tok "}\n\n'


def chunk(payload: bytes) -> bytes:
    """Frame a payload as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


_TOKEN_CHUNK = b"%x\r\n" % len(_TOKEN % (0, 0)) + _TOKEN + b"\r\n"

END = chunk(
    b'message:\ndata:{"event":"metadata","data":{"chatId":"c5444bba-fb9d-48e4-a5f6-fd534070082e",'
    b'"chatMessageId":"d5573f55-4925-4bc0-92e8-90a932e1b3f1","question":"bench",'
    b'"sessionId":"c5444bba-fb9d-48e4-a5f6-fd534070082e","memoryType":"Buffer Memory"}}\n\n'
) + chunk(b'message:\ndata:{"event":"end","data":"[DONE]"}\n\n')


def token_chunk(number: int, stamp_ns: int) -> bytes:
    """Render one token event as a chunk; always the same length."""
    return _TOKEN_CHUNK % (number, stamp_ns)


def bulk_chunk(size: int) -> bytes:
    """Render one token event without a stamp whose text is `size` bytes long."""
    return chunk(b'message:\ndata:{"event":"token","data":"%b"}\n\n' % (b"x" * size))


class StampReader:
    """Reads a body in pieces of any size and returns the stamps of the complete events."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, body: bytes) -> list[tuple[int, int]]:
        """Return (number, stamp in ns) of each token event whose stamp ends in this piece."""
        if self._held:
            body = self._held + body
        stamps: list[tuple[int, int]] = []
        at = body.find(_MARK)
        after = 0
        while at >= 0:
            start = at + len(_MARK)
            after = start + _STAMP
            if after > len(body):
                self._held = body[at:]
                return stamps
            stamps.append((int(body[start : start + 8]), int(body[start + 9 : after])))
            at = body.find(_MARK, after)
        self._held = b"" if body.endswith(b"\n\n") else body[max(after, len(body) - len(_MARK) + 1) :]
        return stamps

"""A request to Flowise, as it is written on the wire (pure)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.upstream.headers import request_head


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is written to Flowise. A body of pieces has no length and is sent chunked."""

    method: str
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes | AsyncIterator[bytes] = b""

    def encoded(self) -> bytes:
        """The head, and the body if it is at hand."""
        if isinstance(self.body, bytes):
            length = [] if self.method in ("GET", "HEAD") else [(b"Content-Length", b"%d" % len(self.body))]
            return request_head(self.method, self.target, [*self.fields, *length]) + self.body
        return request_head(self.method, self.target, [*self.fields, (b"Transfer-Encoding", b"chunked")])

"""One request to the simulator, for scripts and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDictProxy

from gateway.simulator.bodies import File, RawBody


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """One request.

    Attributes:
        path: as in the request line, without the query.
        flow: the id in the path of a prediction, else empty.
        peer: the client's address.
        raw_body: the body's bytes, length and SHA-256.
        body: the parsed body; an empty object if there is none, or none that Express parses.
        files: the files of a multipart body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    peer: str
    raw_body: RawBody
    flow: str = ""
    body: Any = field(default_factory=dict)
    files: tuple[File, ...] = ()

    @property
    def raw(self) -> bytes:
        """The body's bytes; see `RawBody`."""
        return self.raw_body.raw

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body if it is an object, else empty."""
        return self.body if isinstance(self.body, dict) else {}

    @property
    def question(self) -> str | None:
        question = self.fields.get("question")
        return None if question is None else encodable(str(question))

    @property
    def form(self) -> Mapping[str, Any] | None:
        """The form of an agentflow that starts with one."""
        form = self.fields.get("form")
        return form if isinstance(form, dict) else None

    @property
    def overrides(self) -> Mapping[str, Any]:
        """`overrideConfig`; with files, every field (capture multipart-no-question-stream)."""
        given = self.fields if self.files else self.fields.get("overrideConfig")
        return given if isinstance(given, dict) else {}

    @property
    def is_streaming(self) -> bool:
        """Only `true` and `"true"` request a stream (captures stream-chain-string, -number)."""
        streaming = self.fields.get("streaming")
        return streaming is True or streaming == "true"

    @property
    def is_unanswerable(self) -> bool:
        """Whether an error before the stream is never answered at all (capture unknown-stream)."""
        return bool(self.fields.get("streaming")) and self.fields.get("streaming") != "false"


def encodable(text: str) -> str:
    """Replace lone surrogates, which JSON may carry and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()

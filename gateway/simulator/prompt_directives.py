"""The simulated model, controlled by directives in the question; pure.

`hi [[tokens=50 delay=0.1 first=2 fail=500 cut=7 how=rst text=hello size=20]]`

    tokens  how many tokens the answer has                                   (default 12)
    delay   seconds after each token                                         (default 0.05)
    first   seconds before the first token or the failure                    (default 0)
    fail    the model answers with this HTTP status
    cut     the model breaks off after N tokens
    how     how it breaks off: rst, eof, error (with a message), hang (sends nothing more)  (default eof)
    die     Flowise itself is killed after N tokens: a bare FIN
    text    every token is this word                                         (default tok0 tok1 ...)
    size    every token is padded to N characters
    tools   how often the flow's agent has used a tool, told behind the tokens (default 0)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from gateway.simulator.steps import Close, Delay, Event, Fail, Hang, Step, Token

_BRACKETS = re.compile(r"\[\[([^\]]*)\]\]")
_PADDING = " lorem ipsum"
_HELP = "https://docs.langchain.com/oss/javascript/langchain/errors/"
_MESSAGES = {
    401: f"Incorrect API key provided: sk-fake.\n\nTroubleshooting URL: {_HELP}MODEL_AUTHENTICATION/\n",
    404: f"fake failure 404\n\nTroubleshooting URL: {_HELP}MODEL_NOT_FOUND/\n",
}
_BROKEN = {"error": "fake mid-stream failure"}
_TERMINATED = "terminated"
_USED_TOOL = {"tool": "calculator", "toolInput": {"input": "2+2"}, "toolOutput": "4"}  # 3.1.2/toolagent_json
_GREETING = (
    "Hello from the Flowise simulator of the gateway. It streams like Flowise, but there is no model behind it. "
    "Put directives in double brackets to control the answer, for instance [[tokens=50 delay=0.1]]. "
)


class Directives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question's directives; see the module's docstring for each."""

    tokens: int = 12
    delay: float = 0.05
    first: float = 0
    fail: int = 0
    cut: int | None = None
    how: str = "eof"
    die: int | None = None
    text: str = ""
    size: int = 0
    tools: int = 0


@dataclass(frozen=True)
class ModelReply:
    """The model's reply to one question.

    Attributes:
        before: seconds until the first token or the failure.
        failure: the model's message if it fails at once, else empty.
        steps: tokens, delays, and perhaps a failure at the end.
    """

    before: float
    failure: str
    steps: Iterator[Step]


def model_reply(question: str) -> ModelReply:
    """Decide the model's reply; an invalid directive makes it fail with an explanation."""
    try:
        directives = _directives(question)
    except (msgspec.ValidationError, ValueError) as error:
        return ModelReply(
            0, f"400 {error}. A directive is name=value, as in [[tokens=50 delay=0.1]].", iter(())
        )
    if directives is None:
        return ModelReply(0, "", _greet())
    if directives.fail:
        reason = _MESSAGES.get(directives.fail, f"fake failure {directives.fail}")
        return ModelReply(directives.first, f"{directives.fail} {reason}", iter(()))
    return ModelReply(directives.first, "", _answer(directives))


def _directives(question: str) -> Directives | None:
    """Read the last brackets; None if there are none, the defaults for an empty question."""
    found = _BRACKETS.findall(question)
    if not found:
        return None if question.strip() else Directives()
    pairs = dict(word.split("=", 1) for word in found[-1].split() if "=" in word)
    directives = msgspec.convert(pairs, Directives, strict=False)
    if directives.how not in ("rst", "eof", "error", "hang"):
        raise ValueError(f"how={directives.how} is unknown: use rst, eof, error or hang")
    return directives


def _greet() -> Iterator[Step]:
    for word in _GREETING.split():
        yield Token(word + " ")
        yield Delay(0.05)


def _answer(directives: Directives) -> Iterator[Step]:
    for index in range(directives.tokens):
        if index == directives.die:
            yield Close("fin")
            return
        if index == directives.cut:
            yield Hang() if directives.how == "hang" else Fail(_BROKEN.get(directives.how, _TERMINATED))
            return
        yield Token(_word(directives, index))
        yield Delay(directives.delay)
    if directives.tools:
        yield Event("usedTools", [_USED_TOOL] * directives.tools)


def _word(directives: Directives, index: int) -> str:
    """One token; padded with short words, because a long word would block a real Flowise."""
    word = directives.text or f"tok{index}"
    padded = word + _PADDING * (directives.size // len(_PADDING) + 1)
    return padded[: max(directives.size - 1, len(word))] + " "

"""The fake model behind the simulated Flowise: what a question asks it to do; pure, no sockets, no clock.

`hi [[tokens=50 delay=0.1 first=2 fail=500 cut=7 how=rst text=hello size=20]]`

    tokens  how many tokens the answer has                                   (default 12)
    delay   seconds after each token                                         (default 0.05)
    first   seconds before the first token or the failure                    (default 0)
    fail    the model answers with this HTTP status
    cut     the model breaks off after so many tokens
    how     how it breaks off: rst, eof, error (says so), hang (says nothing more)  (default eof)
    die     Flowise itself is killed after so many tokens: a bare FIN
    text    every token is this word                                         (default tok0 tok1 ...)
    size    every token is padded to so many characters
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from gateway.simulator.steps import Close, Delay, Fail, Hang, Step, Token

_WISHES = re.compile(r"\[\[([^\]]*)\]\]")
_PADDING = " lorem ipsum"
_HELP = "https://docs.langchain.com/oss/javascript/langchain/errors/"
_MESSAGES = {
    401: f"Incorrect API key provided: sk-fake.\n\nTroubleshooting URL: {_HELP}MODEL_AUTHENTICATION/\n",
    404: f"fake failure 404\n\nTroubleshooting URL: {_HELP}MODEL_NOT_FOUND/\n",
}
_BROKEN = {"error": "fake mid-stream failure"}
_TERMINATED = "terminated"
_GREETING = (
    "Hello! I am the simulator that comes with the gateway: I speak like Flowise, but nobody thinks here. "
    "Ask me for something in double brackets, for instance [[tokens=50 delay=0.1]], and I will do just that. "
)


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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


@dataclass(frozen=True)
class Model:
    """What the model will do with one question.

    Attributes:
        before: seconds until the first token or the failure.
        failure: the model's message if it fails at once, else empty.
        steps: tokens and delays, perhaps a failure.
    """

    before: float
    failure: str
    steps: Iterator[Step]


def model(question: str) -> Model:
    """Decide what the model does; a wish that makes no sense is answered as a failure that says so."""
    try:
        directives = _wishes(question)
    except (msgspec.ValidationError, ValueError) as error:
        return Model(0, f"400 {error}; a wish is name=value as in [[tokens=50 delay=0.1]]", iter(()))
    if directives is None:
        return Model(0, "", _greet())
    if directives.fail:
        reason = _MESSAGES.get(directives.fail, f"fake failure {directives.fail}")
        return Model(directives.first, f"{directives.fail} {reason}", iter(()))
    return Model(directives.first, "", _speak(directives))


def _wishes(question: str) -> Wishes | None:
    """Read the last brackets; None if there are none, the plain twelve tokens if nothing was asked."""
    found = _WISHES.findall(question)
    if not found:
        return None if question.strip() else Wishes()
    pairs = dict(word.split("=", 1) for word in found[-1].split() if "=" in word)
    directives = msgspec.convert(pairs, Wishes, strict=False)
    if directives.how not in ("rst", "eof", "error", "hang"):
        raise ValueError(f"how={directives.how}: rst, eof, error and hang are known")
    return directives


def _greet() -> Iterator[Step]:
    for word in _GREETING.split():
        yield Token(word + " ")
        yield Delay(0.05)


def _speak(directives: Wishes) -> Iterator[Step]:
    for index in range(directives.tokens):
        if index == directives.die:
            yield Close("fin")
            return
        if index == directives.cut:
            yield Hang() if directives.how == "hang" else Fail(_BROKEN.get(directives.how, _TERMINATED))
            return
        yield Token(_word(directives, index))
        yield Delay(directives.delay)


def _word(directives: Wishes, index: int) -> str:
    """One token; padded with short words, because one long word would block a real Flowise."""
    word = directives.text or f"tok{index}"
    padded = word + _PADDING * (directives.size // len(_PADDING) + 1)
    return padded[: max(directives.size - 1, len(word))] + " "

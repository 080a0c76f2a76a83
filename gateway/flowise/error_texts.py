"""What kind of failure an error text of Flowise reports, and which texts may be logged (pure).

A text may hold the question, the answer or what a tool returned. Only Flowise's own fixed sentences, and the one that
its operator has configured for 429, are known to hold none of it.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec

from gateway.flowise.events import UNREADABLE

SHOWN = 200  # characters of a text in the log
READ = 64 * 1024  # bytes: a larger reply is not searched for its text
WRONG_KEY, NOT_FOUND, OTHER = "wrong_key", "not_found", "other"

_ID = r"[0-9A-Za-z-]{1,64}"
# `services/predictions` of Flowise puts the first one before every text of a run, `services/chatflows` the second.
_PREFIX = re.compile(r"Error: (?:predictionsServices\.buildChatflow|chatflowsService\.\w+) - ")
_IN_NODE = re.compile(r"Error in [A-Za-z ]{1,40} node: ")
_WEBHOOK = (
    r"This flow is configured as a Webhook Trigger\. Call [A-Z]{1,10} /api/v1/webhook/"
    rf"{_ID} instead of the prediction API\."
)
_SCHEDULE = (
    r"This flow is configured as a Scheduled Trigger\. It is fired by the scheduler and cannot be invoked via the "
    r"API\. Change the Start node Input Type to Chat or Form to call it from the prediction API\."
)
_FIXED = tuple(
    (kind, re.compile(text))
    for kind, text in (
        (WRONG_KEY, r"Unauthorized"),
        (NOT_FOUND, rf"Chatflow {_ID} not found(?: in the database!)?|Invalid Chatflow ID"),
        (NOT_FOUND, rf"(?:Workspace|Organization) {_ID} not found"),
        ("rate_limit", r"Predictions limit exceeded|Limit exceeded: [a-z]{1,20}"),
        ("trigger", _WEBHOOK),
        ("trigger", _SCHEDULE),
        ("request", r"Invalid (?:chatId|sessionId): must be a string"),
        ("request", r"Question and form cannot be provided at the same time"),
        (
            "model_key",
            r"401 Unauthorized \u2013 check your API key and ensure it has access to the requested model\.",
        ),
        ("origin", r"This site is not allowed to access this chatbot"),
        ("aborted", r"Aborted|This operation was aborted"),
        ("model_connection", r"terminated"),
        ("iterations", r"Maximum iteration limit reached"),
        ("queue", r"Job execution failed"),
    )
)
KINDS = frozenset({OTHER, *(kind for kind, _ in _FIXED)})  # and those that end with a status
_MODEL_STATUS = re.compile(r"([45][0-9]{2}) ")


class _ErrorReply(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw(b"")


_MESSAGE = msgspec.json.Decoder(_ErrorReply)  # builds nothing of what else is in the reply


class FlowiseFailure(msgspec.Struct, frozen=True, gc=False):
    """`kind`: one of deploy/README.md's. `may_be_logged`: the text holds nothing of a user."""

    kind: str
    text: str = ""
    may_be_logged: bool = False

    def described(self, *, with_text: bool) -> str:
        """For the log. `with_text`: show it in any case."""
        if not self.text or not (with_text or self.may_be_logged):
            return self.kind
        shown = self.text if len(self.text) <= SHOWN else self.text[: SHOWN - 1] + "…"
        return f"{self.kind} ({shown})"


def of_text(text: str) -> FlowiseFailure:
    """The failure that an `error` event or the message of a JSON reply reports."""
    text = " ".join(text.split())
    said = _IN_NODE.sub("", _PREFIX.sub("", text, count=1), count=1)
    for kind, pattern in _FIXED:
        if pattern.fullmatch(said):
            return FlowiseFailure(kind, text, may_be_logged=True)
    status = _MODEL_STATUS.match(said)
    return FlowiseFailure(OTHER if status is None else f"model_{status[1]}", text)


def of_reply(status: int, body: bytes | None) -> FlowiseFailure:
    """The failure that a reply with a status from 400 on reports. None: the body was not kept."""
    text = message(body) if body is not None and len(body) <= READ else ""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return FlowiseFailure("rate_limit", text, may_be_logged=True)
    failure = of_text(text)
    return failure if failure.kind != OTHER else FlowiseFailure(f"status_{status}", failure.text)


def message(body: bytes) -> str:
    """The text of an error reply: the member `message` of a JSON object, else the whole body."""
    try:
        text = msgspec.json.decode(bytes(_MESSAGE.decode(body).message) or b"null")
    except UNREADABLE:
        return body.decode("utf-8", "replace")
    return text if isinstance(text, str) else ""


def missing_chatflow(text: str, chatflow: str) -> str:
    """The sentence by which Flowise says that it has no chatflow of this id; empty if it says something else."""
    said = _PREFIX.sub("", text, count=1)
    sentences = (f"Chatflow {chatflow} not found", "Invalid Chatflow ID")
    return next((sentence for sentence in sentences if said.startswith(sentence)), "")

"""The body of a prediction: read once, checked against the route, written again with the least change.

Everything that is not changed keeps its bytes (DESIGN.md 4, Bodies); an untouched body is the client's, byte
for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from gateway.errors import BadRequest
from gateway.flowise.body_policy import FIELDS, LEGACY, LEGACY_OVERRIDES, BodyPolicy, Kind
from gateway.flowise.checks import bound_id, check_texts, check_uploads, refuse_storage_references, unbound_id
from gateway.flowise.raw_json import JsonObject, encode, read_document, read_object, shown, text_of

__all__ = ["BodyPolicy", "Changes", "Prediction", "read_json"]

_NOTHING: Mapping[str, str] = MappingProxyType({})
_EMPTY_OBJECT = JsonObject(b"{}", MappingProxyType({}))
_OPENING = {Kind.TEXT: b'"', Kind.OBJECT: b"{", Kind.ARRAY: b"["}
_SHOWN_NAMES = 10
_UNMAPPED = (
    "sessionId"  # older agentflows take it for the session; the one that counts stands in overrideConfig
)
# What Flowise's error handler takes for "not streaming"; with any other value that does not stream it
# answers nothing when a run fails (PROTOCOL.md 1.5).
_QUIET = ({b"false", b"0"}, {"", "false"})
_STREAMS = ({b"true"}, {"true"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What the gateway sets on the way up; None leaves the client's word, or its silence, as it is."""

    chat_id: str | None = None
    streaming: bool | None = None
    session_id: str | None = None
    vars: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction that the route allows.

    Attributes:
        streaming: the client asked for a stream: exactly true or "true" (PROTOCOL.md 1.3).
        chat_id: as the client sent it, checked; None if absent or null.
        session_id: overrideConfig.sessionId, the same.
        question: its text, '' if there is none; lone surrogates are replaced, so it can be counted and
            logged.
        dropped: names of the fields that were taken out, for the log line.
    """

    streaming: bool
    chat_id: str | None
    session_id: str | None
    question: str = field(repr=False)
    dropped: tuple[str, ...]
    _body: JsonObject = field(repr=False)
    _removed: Mapping[str, None] = field(repr=False)
    _overrides: JsonObject = field(repr=False)
    _removed_overrides: Mapping[str, None] = field(repr=False)

    def encode(self, changes: Changes) -> bytes:
        """The JSON body for Flowise. Without a real change it is the client's text itself."""
        edits: dict[str, bytes | None] = {**self._removed, **self._streaming_edit(wanted=changes.streaming)}
        if changes.chat_id is not None and changes.chat_id != self.chat_id:
            edits["chatId"] = encode(changes.chat_id)
        overrides = self._override_edits(changes)
        if overrides:
            edits["overrideConfig"] = self._overrides.with_changes(overrides)
        return self._body.with_changes(edits)

    def without_body(self) -> Prediction:
        """The same without the text that was sent: a run may take long, and its body be large."""
        return replace(
            self, _body=_EMPTY_OBJECT, _removed={}, _overrides=_EMPTY_OBJECT, _removed_overrides={}
        )

    def _streaming_edit(self, *, wanted: bool | None) -> dict[str, bytes | None]:
        streaming = self.streaming if wanted is None else wanted
        if streaming != self.streaming:
            return {"streaming": encode(streaming)}
        raw = self._body.raw("streaming")
        if streaming or raw is None or _is_one_of(raw, _QUIET):
            return {}
        return {"streaming": b"false"}

    def _override_edits(self, changes: Changes) -> dict[str, bytes | None]:
        edits: dict[str, bytes | None] = dict(self._removed_overrides)
        if changes.session_id is not None and changes.session_id != self.session_id:
            edits["sessionId"] = encode(changes.session_id)
        if changes.vars:
            given = _object(self._overrides, "vars", "overrideConfig.vars")
            edits["vars"] = given.with_changes({name: encode(value) for name, value in changes.vars.items()})
        return edits


def _is_one_of(raw: bytes | None, values: tuple[set[bytes], set[str]]) -> bool:
    """Whether a raw value is one of some literals or, once unescaped, one of some texts."""
    literals, texts = values
    return raw is not None and (raw in literals or text_of(raw) in texts)


def read_json(body: bytes, policy: BodyPolicy) -> Prediction:
    """Reads and checks a JSON body, in time linear in it.

    Above some hundred KiB it is worth a thread: nothing here touches anything but its arguments.

    Raises:
        BadRequest: not a JSON object in UTF-8, or something the route does not allow; the message names it.
        TooLarge: text or a word beyond the route's limits.
    """
    document = read_document(body)
    overrides = _object(document, "overrideConfig", "overrideConfig")
    refuse_storage_references(document, ("overrideConfig.", overrides))
    removed = _removed_fields(document, policy)
    removed_overrides = _removed_overrides(overrides, policy)
    _check_fields(document, policy)
    return Prediction(
        streaming=_is_one_of(document.raw("streaming"), _STREAMS),
        chat_id=_id(document.raw("chatId"), "chatId", policy),
        session_id=_id(overrides.raw("sessionId"), "overrideConfig.sessionId", policy),
        question=_well_formed(text_of(document.raw("question") or b'""')),
        dropped=(*map(shown, removed), *(f"overrideConfig.{name}" for name in removed_overrides)),
        _body=document,
        _removed=removed,
        _overrides=overrides,
        _removed_overrides=removed_overrides,
    )


def _object(parent: JsonObject, name: str, what: str) -> JsonObject:
    raw = parent.raw(name)
    return _EMPTY_OBJECT if raw is None else read_object(raw, what)


def _removed_fields(document: JsonObject, policy: BodyPolicy) -> dict[str, None]:
    unknown = [name for name in document.members if name not in FIELDS]
    if unknown and policy.unknown == "refuse":
        raise BadRequest(
            f"unknown fields: {_listed(unknown)}; this route takes {', '.join(_passing(policy))}"
        )
    removed = dict.fromkeys(unknown) if policy.unknown == "drop" else {}
    if policy.bound and document.raw(_UNMAPPED) is not None:
        removed[_UNMAPPED] = None
    legacy = (name for name in document.members if name in LEGACY - policy.legacy_allowed)
    return removed | dict.fromkeys(name for name in legacy if not _is_nothing(document.raw(name)))


def _passing(policy: BodyPolicy) -> list[str]:
    return [name for name in FIELDS if name not in LEGACY or name in policy.legacy_allowed]


def _is_nothing(raw: bytes | None) -> bool:
    """The Python SDK sends `history: []` with every prediction; it asks for nothing and may stay."""
    return raw in {None, b"[]", b"{}", b'""', b"false"}


def _removed_overrides(overrides: JsonObject, policy: BodyPolicy) -> dict[str, None]:
    removed: dict[str, None] = {}
    forbidden: list[str] = []
    for name in overrides.members:
        if name == "vars":
            forbidden += _forbidden_vars(overrides, policy)
        elif policy.allows_override(name) or (name == "sessionId" and overrides.raw(name) is None):
            continue
        elif name in LEGACY_OVERRIDES:
            removed[name] = None
        else:
            forbidden.append(name)
    if forbidden:
        allowed = ", ".join(sorted(policy.allowed_overrides)) or "none"
        raise BadRequest(f"overrideConfig may not set {_listed(forbidden)} on this route; allowed: {allowed}")
    return removed


def _forbidden_vars(overrides: JsonObject, policy: BodyPolicy) -> list[str]:
    names = _object(overrides, "vars", "overrideConfig.vars").members
    own = policy.own_vars.intersection(names)
    if own:
        raise BadRequest(f"overrideConfig.vars: {_listed(sorted(own))} is set by the gateway; leave it out")
    return [f"vars.{name}" for name in names if not policy.allows_var(name)]


def _listed(names: Iterable[str]) -> str:
    named = [shown(name) for name in names]
    more = len(named) - _SHOWN_NAMES
    return ", ".join(named[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _check_fields(document: JsonObject, policy: BodyPolicy) -> None:
    for name, rule in FIELDS.items():
        if rule.legacy and name not in policy.legacy_allowed:
            continue
        raw = document.raw(name)
        if raw is None:
            continue
        if rule.kind in _OPENING and not raw.startswith(_OPENING[rule.kind]):
            raise BadRequest(f"{name} must be {rule.kind.value}")
        if rule.counted:
            check_texts(raw, name, policy.max_question, policy.max_word)
        if name == "uploads":
            _check_uploads(raw, policy)


def _check_uploads(raw: bytes, policy: BodyPolicy) -> None:
    if policy.uploads:
        check_uploads(raw, policy.max_word)
    elif not _is_nothing(raw):
        raise BadRequest("uploads are off on this route; send the prediction without the uploads field")


def _id(raw: bytes | None, what: str, policy: BodyPolicy) -> str | None:
    if raw is None:
        return None
    text = text_of(raw)
    if text is None:
        raise BadRequest(f"{what} must be a string")
    return (bound_id if policy.bound else unbound_id)(text, what)


def _well_formed(text: str | None) -> str:
    return (text or "").encode("utf-8", "replace").decode()

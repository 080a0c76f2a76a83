"""The body of a prediction: read once, checked against the rules of its route, written with the least change (pure).

Members that do not change keep their bytes; a body without any change is sent byte for byte.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from gateway.errors import BadRequest
from gateway.flowise.body_rules import (
    BLANK_OBJECT,
    FIELDS,
    LEGACY,
    LEGACY_OVERRIDES,
    LONGEST_BLANK,
    BodyRules,
    JsonType,
    allows_override,
    allows_var,
)
from gateway.flowise.checks import (
    BOUND_ID_CHARACTERS,
    bound_id,
    check_texts,
    check_uploads,
    refuse_storage_references,
    unbound_id,
)
from gateway.flowise.json_text import Buffer
from gateway.flowise.raw_json import (
    EMPTY_OBJECT,
    JsonObject,
    Pieces,
    encode,
    joined,
    read_document,
    shown,
    text_of,
)
from gateway.records import DiscreetRecord

_NO_EDITS: Mapping[str, bytes | None] = MappingProxyType({})
_NOTHING: Mapping[str, str] = MappingProxyType({})
_OPENING = {JsonType.TEXT: b'"', JsonType.OBJECT: b"{", JsonType.ARRAY: b"["}
_SHOWN_NAMES = 10  # in a message
_KEPT_NAMES = 20  # for the log
_MEMBER_OVERHEAD, _USUAL_QUESTION = 350, 4096  # bytes
_SHORT_VALUE = 1024  # bytes of a raw value
_LONGEST_SWITCH = 64  # bytes of a raw value of `streaming`
_LONGEST_ID = 12 * BOUND_ID_CHARACTERS  # bytes of a raw id: two escapes for each character
# At the top level older agentflows take it for the session id. It is not mapped, so a bound route removes it.
_UNMAPPED = "sessionId"
_EMPTY_TEXT = b'""'  # as chatId or sessionId: none. Flowise would give all who send it one conversation
_LITERAL = re.compile(rb"-?[0-9]|true|false")  # the beginning of a question that is a number or a boolean
# Values of `streaming`, as literals and as texts. Flowise streams for the first pair only. It answers a failed run that
# does not stream only for the second pair; for all other values not one byte comes (nostream-llm-400-asked-to-stream).
_STREAMS = ({b"true"}, {"true"})
_QUIET = ({b"false", b"0"}, {"", "false"})


class Changes(DiscreetRecord, frozen=True):
    """What the gateway sets in the body for Flowise; None leaves what the client sent."""

    chat_id: str | None = None  # the conversation id for Flowise
    streaming: bool | None = None
    session_id: str | None = None
    vars: Mapping[str, str] = _NOTHING
    late_chat_id: Callable[[str], str] | None = None  # the same for a chatId behind the files of a form


class Prediction(DiscreetRecord, frozen=True):
    """A prediction that the route allows.

    Attributes:
        streaming: whether the client asked for a stream, by exactly true or "true".
        client_chat_id: as the client sent it, checked, not mapped; None if absent, null or empty.
        session_id: overrideConfig.sessionId, likewise.
        question: its text, '' if absent; lone surrogates are replaced, so that it can be counted and logged.
        dropped: names of the removed fields, for the log.
    """

    streaming: bool
    client_chat_id: str | None
    session_id: str | None
    question: str
    dropped: tuple[str, ...]
    _body: JsonObject
    _own_edits: Mapping[str, bytes | None]  # whatever the gateway sets; None: removed
    _overrides: JsonObject
    _own_override_edits: Mapping[str, bytes | None]

    @property
    def overhead(self) -> int:
        """About how many bytes it holds beside the body itself, and beside what every prediction does."""
        members = len(self._body.members) + len(self._overrides.members) - len(FIELDS)
        question = sys.getsizeof(self.question) - _USUAL_QUESTION
        return max(0, members) * _MEMBER_OVERHEAD + max(0, question)

    def encode(self, changes: Changes) -> bytes:
        """The JSON body for Flowise; without a real change it is the client's text itself."""
        return self._body.with_changes(self._edits(changes))

    def written(self, changes: Changes) -> bytes | Pieces:
        """The same, of a long body in pieces, because its long parts are not copied."""
        pieces = joined(self._body.pieces(self._edits(changes)))
        return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else pieces

    def _edits(self, changes: Changes) -> dict[str, bytes | Pieces | None]:
        edits: dict[str, bytes | Pieces | None] = {
            **self._own_edits,
            **self._streaming_edit(wanted=changes.streaming),
        }
        if changes.chat_id is not None and changes.chat_id != self.client_chat_id:
            edits["chatId"] = encode(changes.chat_id)
        has_overrides = self._own_override_edits or changes.vars or changes.session_id is not None
        overrides = self._override_edits(changes) if has_overrides else None
        if overrides:
            edits["overrideConfig"] = self._overrides.pieces(overrides)
        return edits

    def without_body(self) -> Prediction:
        """A copy that does not hold the text, which may be large while the run is long."""
        kept = self.streaming, self.client_chat_id, self.session_id, self.question, self.dropped
        return Prediction(*kept, EMPTY_OBJECT, _NO_EDITS, EMPTY_OBJECT, _NO_EDITS)

    def _streaming_edit(self, *, wanted: bool | None) -> dict[str, bytes | None]:
        streaming = self.streaming if wanted is None else wanted
        if streaming != self.streaming:
            return {"streaming": encode(streaming)}
        if streaming or not self._body.size("streaming") or _is_one_of(self._body, "streaming", _QUIET):
            return {}
        return {"streaming": b"false"}

    def _override_edits(self, changes: Changes) -> dict[str, bytes | None]:
        edits: dict[str, bytes | None] = dict(self._own_override_edits)
        if changes.session_id is not None and changes.session_id != self.session_id:
            edits["sessionId"] = encode(changes.session_id)
        if changes.vars:
            given = _object(self._overrides, "vars", "overrideConfig.vars")
            edits["vars"] = given.with_changes({name: encode(value) for name, value in changes.vars.items()})
        return edits


def _is_one_of(body: JsonObject, name: str, values: tuple[set[bytes], set[str]]) -> bool:
    """Returns whether a member is one of the literals or, unescaped, one of the texts."""
    literals, texts = values
    raw = body.short(name, _LONGEST_SWITCH)
    return raw is not None and (raw in literals or (raw.startswith(b'"') and text_of(raw) in texts))


def read_json(body: Buffer, rules: BodyRules) -> Prediction:
    """Reads and checks a JSON body, in time linear in its length.

    Raises:
        BadRequest: it is not a JSON object in UTF-8, or holds what the route does not allow; the message names it.
        TooLarge: a text or a word is above the route's limits.
    """
    document = read_document(body)
    overrides = _object(document, "overrideConfig", "overrideConfig")
    refuse_storage_references(document, ("overrideConfig.", overrides))
    removed = _removed_fields(document, rules)
    removed_overrides = _removed_overrides(overrides, rules) if overrides.members else {}
    _check_fields(document, rules)
    question, question_edit = _question(document)
    return Prediction(
        streaming=_is_one_of(document, "streaming", _STREAMS),
        client_chat_id=_id(document, "chatId", "chatId", rules),
        session_id=_id(overrides, "sessionId", "overrideConfig.sessionId", rules)
        if overrides.members
        else None,
        question=question,
        dropped=_dropped(removed, removed_overrides) if removed or removed_overrides else (),
        _body=document,
        _own_edits=removed | question_edit | _without_empty_id(document, "chatId"),
        _overrides=overrides,
        _own_override_edits=removed_overrides | _without_empty_id(overrides, "sessionId")
        if overrides.members
        else _NO_EDITS,
    )


def _dropped(removed: Iterable[str], removed_overrides: Iterable[str]) -> tuple[str, ...]:
    return listed_for_log([*removed, *map("overrideConfig.{}".format, removed_overrides)])


def _object(body: JsonObject, name: str, what: str) -> JsonObject:
    """The object in a member, or an empty one where Flowise takes the value as none. Raises BadRequest."""
    if name not in body.members or body.short(name, LONGEST_BLANK) in BLANK_OBJECT:
        return EMPTY_OBJECT
    return body.object(name, what)


def _question(document: JsonObject) -> tuple[str, dict[str, bytes | None]]:
    """The question, and the edit that makes a number or a boolean the text that was written."""
    raw = document.short("question", sys.maxsize)
    if raw is None:
        return "", {}
    if raw.startswith(b'"'):
        return _well_formed(text_of(raw)), {}
    return raw.decode(), {"question": encode(raw.decode())}


def _without_empty_id(body: JsonObject, name: str) -> dict[str, bytes | None]:
    if name not in body.members:
        return {}
    is_empty = body.short(name, LONGEST_BLANK) == _EMPTY_TEXT
    return {name: None} if is_empty else {}


def listed_for_log(names: Sequence[str]) -> tuple[str, ...]:
    """The first of these names, and how many more there are."""
    if not names:
        return ()
    more = len(names) - _KEPT_NAMES
    kept = tuple(map(shown, names[:_KEPT_NAMES]))
    return kept if more <= 0 else (*kept, f"and {more} more")


def _removed_fields(document: JsonObject, rules: BodyRules) -> dict[str, bytes | None]:
    names = document.members.keys()
    unknown = [] if names <= FIELDS.keys() else [name for name in names if name not in FIELDS]
    if unknown and rules.body.unknown == "refuse":
        raise BadRequest(
            f"Unknown fields: {_listed(unknown)}. This route takes {', '.join(_passing(rules))}."
        )
    removed: dict[str, bytes | None] = dict.fromkeys(unknown) if rules.body.unknown == "drop" else {}
    if rules.conversations.bind and document.size(_UNMAPPED):
        removed[_UNMAPPED] = None
    if not LEGACY.isdisjoint(document.members):
        legacy = (name for name in document.members if name in LEGACY - rules.body.allow)
        removed |= dict.fromkeys(name for name in legacy if not _is_nothing(document, name))
    return removed


def _passing(rules: BodyRules) -> list[str]:
    return [name for name in FIELDS if name not in LEGACY or name in rules.body.allow]


def _is_nothing(document: JsonObject, name: str) -> bool:
    """Returns whether a legacy field may stay: the Python SDK sends `history: []` with every prediction."""
    return document.short(name, LONGEST_BLANK) in {None, b"{}", *BLANK_OBJECT}


def _removed_overrides(overrides: JsonObject, rules: BodyRules) -> dict[str, bytes | None]:
    removed: dict[str, bytes | None] = {}
    forbidden: list[str] = []
    for name in overrides.members:
        if name == "vars":
            forbidden += _forbidden_vars(overrides, rules)
        elif allows_override(rules, name) or (name == "sessionId" and _is_nothing(overrides, name)):
            continue
        elif name in LEGACY_OVERRIDES:
            removed[name] = None
        else:
            forbidden.append(name)
    if forbidden:
        allowed = ", ".join(sorted(rules.override_config.allow)) or "none"
        raise BadRequest(
            f"overrideConfig may not set {_listed(forbidden)} on this route. Allowed: {allowed}. Leave out the others,"
            " or add them to override_config.allow of the route."
        )
    return removed


def _forbidden_vars(overrides: JsonObject, rules: BodyRules) -> list[str]:
    names = _object(overrides, "vars", "overrideConfig.vars").members
    own = rules.vars.keys() & names
    if own:
        raise BadRequest(
            f"overrideConfig.vars may not set {_listed(sorted(own))}: the gateway does. Leave it out."
        )
    return [f"vars.{name}" for name in names if not allows_var(rules, name)]


def _listed(names: Iterable[str]) -> str:
    named = [shown(name) for name in names]
    more = len(named) - _SHOWN_NAMES
    return ", ".join(named[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _check_fields(document: JsonObject, rules: BodyRules) -> None:
    # no text or word of a value has more characters than the value has bytes
    short = min(_SHORT_VALUE, rules.max_question, rules.max_word)
    for name in document.members:
        known = FIELDS.get(name)
        if known is None or (known.legacy and name not in rules.body.allow):
            continue
        if (raw := document.short(name, max(short, LONGEST_BLANK))) is None or raw in known.blank:
            continue
        is_literal = name == "question" and _LITERAL.match(raw)
        if known.json_type in _OPENING and not raw.startswith(_OPENING[known.json_type]) and not is_literal:
            raise BadRequest(f"{name} must be {known.json_type.value}.")
        if known.counted and len(raw) > short:
            check_texts(document, name, rules.max_question, rules.max_word)
        if name == "uploads":
            _check_uploads(document, rules)


def _check_uploads(document: JsonObject, rules: BodyRules) -> None:
    if rules.uploads:
        check_uploads(document, rules.max_word)
    elif not _is_nothing(document, "uploads"):
        raise BadRequest(
            "Uploads are off on this route. Send the prediction without the field uploads, or write `uploads: true`"
            " into the route."
        )


def _id(body: JsonObject, name: str, what: str, rules: BodyRules) -> str | None:
    raw = body.short(name, _LONGEST_ID)
    if raw is None or raw == _EMPTY_TEXT:
        return None
    text = "" if len(raw) > _LONGEST_ID and raw.startswith(b'"') else text_of(raw)
    if text is None:
        raise BadRequest(f"{what} must be a string.")
    return (bound_id if rules.conversations.bind else unbound_id)(text, what)


def _well_formed(text: str | None) -> str:
    return (text or "").encode("utf-8", "replace").decode()

"""The endpoint table: every path that the public listener serves, and what is particular about it (pure).

A target that is not in the table is refused. Policies and handlers decide by the columns of an endpoint, never by
its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import force_setattr

from gateway.errors import BadRequest, MethodNotAllowed, UnknownRoute
from gateway.flowise.checks import bound_id, feedback_id, file_name, node_name, unbound_id
from gateway.http.target import join_target, split_query, split_target

_NO_TEXT: Mapping[str, str] = MappingProxyType({})
MOST_KNOWN = 4096  # targets for Flowise
_FILE_QUERY = ("chatflowId", "chatId", "fileName", "download")


class FlowIn(StrEnum):
    """Where a request names its flow: a route's name or a chatflow id."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"
    FEEDBACK = "feedback"  # the path has the id of a feedback, whose caller and route the gateway remembers
    ANY = "any"  # none, but Flowise answers: any of them has the same
    NOWHERE = "nowhere"


class Access(StrEnum):
    """Which callers may use an endpoint."""

    ANYONE = "anyone"  # the official clients send no key there
    ROUTE = "route"  # those that the route's `auth` lists
    ANY_ROUTE = "any route"  # those that may use at least one route; once a route is known, it decides
    API_KEY = "api key"


class BodyKind(StrEnum):
    """How a request body is read."""

    NONE = "none"
    PREDICTION = "prediction"
    FEEDBACK = "feedback"
    FEEDBACK_CHANGE = "feedback change"
    LEADS = "leads"
    ATTACHMENTS = "attachments"
    DOCUMENTS = "documents"  # for the vector store: as a prediction, with or without files
    SPEECH = "speech"
    SPEECH_ABORT = "speech abort"
    ASSISTANT_FILE = "assistant file"
    OWN = "own"  # JSON for an endpoint that Flowise does not have


class Counted(StrEnum):
    """Which limits a request counts against."""

    NOTHING = "nothing"  # it makes Flowise neither work nor store anything
    ROUTE = "route"  # the limits of its route and of its key
    TOKENS = "tokens"  # `auth.session_tokens.per_minute`
    STATUS = "status"  # the fixed limit on limit queries
    SETTINGS = "settings"  # the fixed limit on queries for the widget's settings and icons, for each address


class Purpose(StrEnum):
    """What a request does, where a policy or handler treats it apart."""

    RUN = "run"  # runs the chatflow: tokens and concurrency count, errors may come as an event stream
    ABORT = "abort"  # ends a run, so a request that waits for the same conversation is rejected
    FILE = "file"  # returns a file that a user uploaded or an assistant made
    STORE = "store"  # reads documents, so the answer begins only when they are stored
    SPEECH = "speech"  # reads an answer aloud, as an event stream
    SPEECH_ABORT = "speech abort"  # ends that; Flowise would end an answer of the same conversation with it
    OTHER = "other"


class Endpoint(Struct, frozen=True):
    """One row of the table. Each row states every column but `query` and `other_methods`.

    Attributes:
        name: label in metrics and log.
        paths: templates; `{flow}`, `{chatId}`, `{feedbackId}` and `{name}` stand for one segment. The first is the one
            sent to Flowise.
        methods: HEAD stands wherever GET does.
        query: the query parameters that may be sent.
        other_methods: those that another row has for the same paths.
        templates: `paths`, split into segments.
        is_route_late: whether the route is not known before the caller.
    """

    name: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    flow_in: FlowIn
    access: Access
    body: BodyKind
    counted: Counted
    purpose: Purpose
    query: tuple[str, ...] = ()
    other_methods: tuple[str, ...] = ()
    templates: tuple[tuple[str, ...], ...] = ()
    is_route_late: bool = False

    def __post_init__(self) -> None:
        templates = tuple(tuple(path[1:].split("/")) for path in self.paths)
        force_setattr(self, "templates", templates)
        force_setattr(self, "is_route_late", self.flow_in in (FlowIn.BODY, FlowIn.FEEDBACK))

    @property
    def allow(self) -> str:
        """The value of the `Allow` header (RFC 9110 10.2.1)."""
        return ", ".join((*self.methods, *self.other_methods, "OPTIONS"))


_GET = ("GET", "HEAD")
_POST = ("POST",)

# fmt: off
ENDPOINTS = (
    Endpoint(
        "prediction", ("/api/v1/prediction/{flow}", "/api/v1/predictions/{flow}"), _POST,
        FlowIn.PATH, Access.ROUTE, BodyKind.PREDICTION, Counted.ROUTE, Purpose.RUN,
    ),
    Endpoint(
        "chatflows_streaming", ("/api/v1/chatflows-streaming/{flow}",), _GET,
        FlowIn.PATH, Access.ANYONE, BodyKind.NONE, Counted.NOTHING, Purpose.OTHER,
    ),
    Endpoint(
        "chatflows_uploads", ("/api/v1/chatflows-uploads/{flow}",), _GET,
        FlowIn.PATH, Access.ANYONE, BodyKind.NONE, Counted.NOTHING, Purpose.OTHER,
    ),
    Endpoint(
        "chatbot_config", ("/api/v1/public-chatbotConfig/{flow}",), _GET,
        FlowIn.PATH, Access.ANYONE, BodyKind.NONE, Counted.SETTINGS, Purpose.OTHER,
    ),
    Endpoint(
        "abort", ("/api/v1/chatmessage/abort/{flow}/{chatId}",), ("PUT",),
        FlowIn.PATH, Access.ROUTE, BodyKind.NONE, Counted.NOTHING, Purpose.ABORT,
    ),
    Endpoint(
        "feedback", ("/api/v1/feedback/{flow}",), _POST,
        FlowIn.PATH, Access.ROUTE, BodyKind.FEEDBACK, Counted.ROUTE, Purpose.OTHER, other_methods=("PUT",),
    ),
    Endpoint(
        "feedback_change", ("/api/v1/feedback/{feedbackId}",), ("PUT",),
        FlowIn.FEEDBACK, Access.ANY_ROUTE, BodyKind.FEEDBACK_CHANGE, Counted.ROUTE, Purpose.OTHER,
        other_methods=_POST,
    ),
    Endpoint(  # Flowise's documentation has the first path, its widget the second
        "leads", ("/api/v1/leads", "/api/v1/leads/"), _POST,
        FlowIn.BODY, Access.ANY_ROUTE, BodyKind.LEADS, Counted.ROUTE, Purpose.OTHER,
    ),
    Endpoint(
        "attachments", ("/api/v1/attachments/{flow}/{chatId}",), _POST,
        FlowIn.PATH, Access.ROUTE, BodyKind.ATTACHMENTS, Counted.ROUTE, Purpose.OTHER,
    ),
    Endpoint(
        "upload_file", ("/api/v1/get-upload-file",), _GET,
        FlowIn.QUERY, Access.ROUTE, BodyKind.NONE, Counted.NOTHING, Purpose.FILE, _FILE_QUERY,
    ),
    Endpoint(
        "assistant_file", ("/api/v1/openai-assistants-file/download",), _POST,
        FlowIn.BODY, Access.ANY_ROUTE, BodyKind.ASSISTANT_FILE, Counted.ROUTE, Purpose.FILE,
    ),
    Endpoint(
        "vector_upsert", ("/api/v1/vector/upsert/{flow}",), _POST,
        FlowIn.PATH, Access.ROUTE, BodyKind.DOCUMENTS, Counted.ROUTE, Purpose.STORE,
    ),
    Endpoint(
        "speech", ("/api/v1/text-to-speech/generate",), _POST,
        FlowIn.BODY, Access.ANY_ROUTE, BodyKind.SPEECH, Counted.ROUTE, Purpose.SPEECH,
    ),
    Endpoint(
        "speech_abort", ("/api/v1/text-to-speech/abort",), _POST,
        FlowIn.BODY, Access.ANY_ROUTE, BodyKind.SPEECH_ABORT, Counted.NOTHING, Purpose.SPEECH_ABORT,
    ),
    Endpoint(
        "node_icon", ("/api/v1/node-icon/{name}",), _GET,
        FlowIn.ANY, Access.ANYONE, BodyKind.NONE, Counted.SETTINGS, Purpose.OTHER,
    ),
    Endpoint(
        "ping", ("/api/v1/ping",), _GET,
        FlowIn.NOWHERE, Access.ANYONE, BodyKind.NONE, Counted.NOTHING, Purpose.OTHER,
    ),
    Endpoint(
        "session_tokens", ("/gateway/v1/session-tokens",), _POST,
        FlowIn.NOWHERE, Access.API_KEY, BodyKind.OWN, Counted.TOKENS, Purpose.OTHER,
    ),
    Endpoint(
        "limits", ("/gateway/v1/limits",), _GET,
        FlowIn.NOWHERE, Access.ANY_ROUTE, BodyKind.NONE, Counted.STATUS, Purpose.OTHER,
    ),
)
# fmt: on


def find(raw_target: str, method: str = "") -> Match:
    """Finds the endpoint of a target; leaves the query unchecked. Without one for the method, any of the path.

    One slash at the end is allowed, as Flowise does.

    Raises:
        BadRequest: the target is malformed.
        UnknownRoute: the path is not served; the comparison is exact and case-sensitive.
    """
    segments, raw_query = split_target(raw_target)
    if segments and not segments[-1]:
        segments = segments[:-1]
    for endpoint in ENDPOINTS:
        if method in endpoint.other_methods:
            continue
        for template in endpoint.templates:
            params = _params(template, segments)
            if params is not None:
                return Match(endpoint, params, raw_query)
    raise UnknownRoute(
        "This path is not served here. A prediction is POST /api/v1/prediction/{route name or chatflow id}."
    )


def _params(template: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    if len(template) != len(segments):
        return None
    params = {}
    for pattern, segment in zip(template, segments, strict=True):
        if pattern.startswith("{") and segment:
            params[pattern[1:-1]] = segment
        elif pattern != segment:
            return None
    return params


class Match(Struct, frozen=True):
    """An endpoint and what the target says to it.

    Attributes:
        endpoint: the row.
        params: `flow`, `chatId`, `feedbackId` and `name` of the path, decoded once, not looked up, checked or mapped.
        raw_query: as the client wrote it.
        query: the checked parameters of the query; empty before `check`.
    """

    endpoint: Endpoint
    params: Mapping[str, str]
    raw_query: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def flow(self) -> str | None:
        """The flow that path or query names; None if it stands elsewhere, and before `check` of a query."""
        return self.params.get("flow", self.query.get("chatflowId"))

    @property
    def named_flow(self) -> str | None:
        """`flow`, taken from an unchecked query too. It decides which Origin may read an error, never about access."""
        if self.flow is not None or self.endpoint.flow_in is not FlowIn.QUERY:
            return self.flow
        named = [
            pair[len("chatflowId=") :] for pair in self.raw_query.split("&") if pair.startswith("chatflowId=")
        ]
        return named[0] if len(named) == 1 else None

    @property
    def client_chat_id(self) -> str | None:
        """The conversation id of path or query as the client wrote it, unchecked. Flowise must never see it."""
        return self.params.get("chatId", self.query.get("chatId"))

    def check(self, method: str) -> Match:
        """Returns the match with its query checked.

        Raises:
            MethodNotAllowed: the endpoint does not take this method; the error's headers carry `Allow`.
            BadRequest: the query is malformed or not allowed there, or a name in the path has a form that Flowise does
                not use.
        """
        endpoint = self.endpoint
        if method not in endpoint.methods:
            raise MethodNotAllowed(
                f"This path takes {' and '.join((*endpoint.methods, *endpoint.other_methods))} only.",
                headers={"Allow": endpoint.allow},
            )
        for name, text in self.params.items():
            if name in _CHECKS:
                _CHECKS[name](text)
        query = _checked_query(endpoint, self.raw_query)
        return Match(endpoint, self.params, self.raw_query, query)


_CHECKS = {"feedbackId": feedback_id, "name": node_name}


def _checked_query(endpoint: Endpoint, raw_query: str) -> Mapping[str, str]:
    if not endpoint.query:
        if raw_query:
            raise BadRequest("This path takes no query. Remove everything from '?' on.")
        return _NO_TEXT
    query = split_query(raw_query, endpoint.query)
    for name in ("chatflowId", "chatId", "fileName"):
        if not query.get(name):
            raise BadRequest(f"The query parameter {name} is missing.")
    bound_id(query["chatId"], "The query parameter chatId")
    file_name(query["fileName"], "The query parameter fileName")
    if query.get("download", "true") not in {"true", "false"}:
        raise BadRequest("The query parameter download must be true or false.")
    return query


def upstream_target(
    found: Match, chatflow_id: str, chat_id: str | None = None, prefix: Iterable[str] = ()
) -> bytes:
    """Builds the target of the request to Flowise, from checked parts only.

    Args:
        found: the client's target.
        chatflow_id: the route's chatflow, never the client's text.
        chat_id: the conversation id for Flowise; required where path or query has one.
        prefix: the decoded path segments of the upstream's configured URL.

    Raises:
        BadRequest: an id has a form that Flowise must not see.
        ValueError: `chat_id` is missing and required.
    """
    if found.params.keys() == _FLOW_ONLY and not found.query and not prefix:
        return _target_of_flow(found.endpoint.templates[0], chatflow_id)
    ids = {**found.params, "flow": unbound_id(chatflow_id, "The chatflow id")}
    if found.client_chat_id is not None:
        if chat_id is None:
            raise ValueError(f"the target of {found.endpoint.name} needs a chat id")
        ids["chatId"] = unbound_id(chat_id, "chatId")
    template = found.endpoint.templates[0]
    segments = [ids[part[1:-1]] if part.startswith("{") else part for part in template]
    query = dict(found.query)
    if query:
        query |= {"chatflowId": ids["flow"], "chatId": ids["chatId"]}
    return join_target((*prefix, *segments), query)


_FLOW_ONLY = {"flow"}


@lru_cache(MOST_KNOWN)
def _target_of_flow(template: tuple[str, ...], chatflow_id: str) -> bytes:
    """The target of a request that names nothing but its flow. It depends on the configuration alone."""
    flow = unbound_id(chatflow_id, "The chatflow id")
    return join_target([flow if part == "{flow}" else part for part in template], {})

"""The table of what the public listener serves, and nothing else: default deny.

Finds the endpoint of a raw target and builds the target that Flowise sees; who may call it is decided
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from gateway.errors import BadRequest, MethodNotAllowed, UnknownRoute
from gateway.flowise.checks import bound_id, file_name, unbound_id
from gateway.http.target import join_target, split_query, split_target

_NO_TEXT: Mapping[str, str] = MappingProxyType({})
_FILE_QUERY = ("chatflowId", "chatId", "fileName", "download")


class BodyKind(StrEnum):
    """Which reader a request body is for."""

    NONE = "none"
    PREDICTION = "prediction"
    FEEDBACK = "feedback"
    LEADS = "leads"
    ATTACHMENTS = "attachments"
    OWN = "own"  # of an endpoint that Flowise does not have


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the route table (DESIGN.md 4).

    Attributes:
        name: word for metrics and logs; a closed list.
        paths: templates; `{flow}` and `{chatId}` stand for a whole segment. The first is the one that Flowise
            sees.
        methods: what is served, HEAD included wherever GET is.
        needs_credentials: False where the official clients ask without a key (PROTOCOL.md 6.1).
        body: how the request body is read.
        query: the allowed query parameters; none on every other path.
        templates: `paths`, taken apart into segments.
    """

    name: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    needs_credentials: bool = True
    body: BodyKind = BodyKind.NONE
    query: tuple[str, ...] = ()
    templates: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Split the templates once for all requests."""
        templates = tuple(tuple(path[1:].split("/")) for path in self.paths)
        object.__setattr__(self, "templates", templates)  # frozen for everybody else

    @property
    def allow(self) -> str:
        """The value of the `Allow` header (RFC 9110 10.2.1)."""
        return ", ".join((*self.methods, "OPTIONS"))


_GET = ("GET", "HEAD")
_POST = ("POST",)

ENDPOINTS = (
    Endpoint(
        "prediction",
        ("/api/v1/prediction/{flow}", "/api/v1/predictions/{flow}"),
        _POST,
        body=BodyKind.PREDICTION,
    ),
    Endpoint("chatflows_streaming", ("/api/v1/chatflows-streaming/{flow}",), _GET, needs_credentials=False),
    Endpoint("chatflows_uploads", ("/api/v1/chatflows-uploads/{flow}",), _GET, needs_credentials=False),
    Endpoint("chatbot_config", ("/api/v1/public-chatbotConfig/{flow}",), _GET, needs_credentials=False),
    Endpoint("abort", ("/api/v1/chatmessage/abort/{flow}/{chatId}",), ("PUT",)),
    Endpoint("feedback", ("/api/v1/feedback/{flow}",), _POST, body=BodyKind.FEEDBACK),
    # the widget posts to /leads/, the documentation to /leads
    Endpoint("leads", ("/api/v1/leads", "/api/v1/leads/"), _POST, body=BodyKind.LEADS),
    Endpoint("attachments", ("/api/v1/attachments/{flow}/{chatId}",), _POST, body=BodyKind.ATTACHMENTS),
    Endpoint("upload_file", ("/api/v1/get-upload-file",), _GET, query=_FILE_QUERY),
    Endpoint("ping", ("/api/v1/ping",), _GET, needs_credentials=False),
    Endpoint("session_tokens", ("/gateway/v1/session-tokens",), _POST, body=BodyKind.OWN),
    Endpoint("limits", ("/gateway/v1/limits",), _GET),
)


@dataclass(frozen=True, slots=True)
class Match:
    """A request target that the table knows.

    Attributes:
        endpoint: the row.
        params: `flow` and `chatId` of the path as the client wrote them, decoded once, not yet looked up or
            mapped.
        raw_query: as the client wrote it.
        query: the checked parameters of get-upload-file; empty everywhere else, and before `check`.
    """

    endpoint: Endpoint
    params: Mapping[str, str]
    raw_query: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def flow(self) -> str | None:
        """A route's name or a chatflow id, from path or query; None where the body has it, or nobody."""
        return self.params.get("flow", self.query.get("chatflowId"))

    @property
    def named_flow(self) -> str | None:
        """`flow`, also where the query was not checked, or is wrong: for what is told to a page, not for access."""
        if self.flow is not None or not self.endpoint.query:
            return self.flow
        named = [
            pair[len("chatflowId=") :] for pair in self.raw_query.split("&") if pair.startswith("chatflowId=")
        ]
        return named[0] if len(named) == 1 else None

    @property
    def chat_id(self) -> str | None:
        """The raw conversation id of the path or the query; check it with `ids` before use."""
        return self.params.get("chatId", self.query.get("chatId"))

    def check(self, method: str) -> Match:
        """Returns it with its query, if it may be asked for so.

        Raises:
            MethodNotAllowed: the path is served, but not with this method; its headers carry `Allow`.
            BadRequest: the query is malformed, or not allowed there.
        """
        endpoint = self.endpoint
        if method not in endpoint.methods:
            raise MethodNotAllowed(
                f"this path takes {' and '.join(endpoint.methods)}", headers={"Allow": endpoint.allow}
            )
        query = _checked_query(endpoint, self.raw_query)
        return Match(endpoint, self.params, self.raw_query, query)


def match(method: str, raw_target: str) -> Match:
    """Finds what a request asks for.

    Raises:
        BadRequest: the target is malformed, or has a query that is not allowed there.
        UnknownRoute: the path is not served; the comparison is exact and case-sensitive.
        MethodNotAllowed: it is, but not with this method; its headers carry `Allow`.
    """
    return find(raw_target).check(method)


def find(raw_target: str) -> Match:
    """Finds the endpoint whatever the method, so that a preflight can be told its methods; leaves the query.

    Raises BadRequest and UnknownRoute as `match` does.
    """
    segments, raw_query = split_target(raw_target)
    for endpoint in ENDPOINTS:
        for template in endpoint.templates:
            params = _params(template, segments)
            if params is not None:
                return Match(endpoint, params, raw_query)
    if segments and not segments[-1]:
        raise BadRequest("the path must not end in '/'")
    raise UnknownRoute(
        "this path is not served here; a prediction is POST /api/v1/prediction/{route name or chatflow id}"
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


def _checked_query(endpoint: Endpoint, raw_query: str) -> Mapping[str, str]:
    if not endpoint.query:
        if raw_query:
            raise BadRequest("this path takes no query; remove everything from '?' on")
        return _NO_TEXT
    query = split_query(raw_query, endpoint.query)
    for name in ("chatflowId", "chatId", "fileName"):
        if not query.get(name):
            raise BadRequest(f"the query parameter {name} is missing")
    bound_id(query["chatId"], "the query parameter chatId")
    file_name(query["fileName"], "the query parameter fileName")
    if query.get("download", "true") not in {"true", "false"}:
        raise BadRequest("the query parameter download must be true or false")
    return query


def upstream_target(
    found: Match, chatflow_id: str, chat_id: str | None = None, prefix: Iterable[str] = ()
) -> bytes:
    """Builds the target of the request to Flowise from checked segments only.

    Args:
        found: what `match` returned.
        chatflow_id: the route's chatflow, never the client's text.
        chat_id: the mapped (or unbound, checked) conversation id; needed where path or query has one.
        prefix: the segments of the path of the server's configured URL, decoded.

    Raises BadRequest if an id is none that Flowise may see, ValueError if `chat_id` is missing where it is
    needed.
    """
    ids = {"flow": unbound_id(chatflow_id, "the chatflow id")}
    if found.chat_id is not None:
        if chat_id is None:
            raise ValueError(f"the target of {found.endpoint.name} needs a chat id")
        ids["chatId"] = unbound_id(chat_id, "chatId")
    template = found.endpoint.templates[0]
    segments = [ids[part[1:-1]] if part.startswith("{") else part for part in template]
    query = dict(found.query)
    if query:
        query |= {"chatflowId": ids["flow"], "chatId": ids["chatId"]}
    return join_target((*prefix, *segments), query)

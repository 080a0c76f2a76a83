"""Puts the document together: paths and methods from the endpoint table, errors from their classes (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from gateway import errors
from gateway.errors import GatewayError
from gateway.flowise.endpoints import ENDPOINTS, Access, BodyKind, Counted, Endpoint, FlowIn, Purpose
from gateway.openapi.operations import ANY, HTML, JSON, OPERATIONS, PLAIN
from gateway.openapi.schemas import CHAT_ID, FLOW, NODE_NAME, SCHEMAS, Schema, ref

PROBLEM = "application/problem+json"
_ALWAYS: tuple[type[GatewayError], ...] = (
    errors.BadRequest,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.UnknownRoute,
    errors.TargetTooLong,
    errors.HeaderTooLarge,
    errors.AuthUnavailable,
    errors.Draining,
    errors.Failed,
)
_OF_UPSTREAM = (
    errors.UpstreamUnreachable,
    errors.UpstreamBadReply,
    errors.UpstreamTimeout,
    errors.Overloaded,
)
_PARAMETER = re.compile(r"\{\w+\}")
_IDS = ("X-Request-ID", "X-Trace-Id")  # of every response
_PRINTED = frozenset({401, 403, 429})  # for the widget, as a sentence
_SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    Access.ANYONE: [{}],
    Access.ROUTE: [{}, {"bearer": []}, {"apiKey": []}],  # a public route needs none
    Access.ANY_ROUTE: [{}, {"bearer": []}, {"apiKey": []}],
    Access.API_KEY: [{"bearer": []}, {"apiKey": []}],
}


@cache
def document_json(version: str) -> bytes:
    """The document as JSON, made once. `version`: of the gateway."""
    return json.dumps(document(version), indent=2, ensure_ascii=False).encode()


def document(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the public port."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Flowise Gateway",
            "version": version,
            "description": "The paths of Flowise that clients may use, and those of the gateway. Any other path is"
            " 404. {flow} is the name of a route or its chatflow id.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "/"},
            {
                "url": "/t/{token}",
                "description": "With a session token in the base path, for pages that cannot set headers.",
                "variables": {"token": {"default": "fgs_TOKEN"}},
            },
        ],
        "paths": _paths(),
        "components": _components(),
    }


def _paths() -> dict[str, Any]:
    """Every path once: two templates that differ in a parameter's name alone are one (OpenAPI 3.1, Paths Object)."""
    found: dict[str, dict[str, Any]] = {}
    templates: dict[str, str] = {}
    for endpoint in ENDPOINTS:
        for path in endpoint.paths:
            template = templates.setdefault(_PARAMETER.sub("{}", path), path)
            found[template] = _path_item(endpoint, path) | found.get(template, {})
    return found


def _reaches_flowise(endpoint: Endpoint) -> bool:
    """Whether Flowise answers it; the gateway answers what names no flow."""
    return endpoint.flow_in is not FlowIn.NOWHERE


def _path_item(endpoint: Endpoint, path: str) -> dict[str, Any]:
    suffix = "" if path == endpoint.paths[0] else f"_{endpoint.paths.index(path) + 1}"
    methods = {
        method.lower(): _operation(endpoint, method, f"{endpoint.name}_{method.lower()}{suffix}")
        for method in endpoint.methods
    }
    return {
        **methods,
        "options": _preflight(endpoint, suffix),
        "parameters": list(_parameters(path)),
    }


def _parameters(path: str) -> Iterator[dict[str, Any]]:
    for name, schema in (("flow", FLOW), ("chatId", CHAT_ID), ("name", NODE_NAME)):
        if f"{{{name}}}" in path:
            yield {"name": name, "in": "path", "required": True, "schema": schema}
    yield {"$ref": "#/components/parameters/requestId"}


def _operation(endpoint: Endpoint, method: str, name: str) -> dict[str, Any]:
    about = OPERATIONS[endpoint.name]
    has_content = method != "HEAD"
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": ["Flowise" if _reaches_flowise(endpoint) else "gateway"],
        "summary": about.summary,
        "security": _SECURITY[endpoint.access],
        "responses": {
            "200": _answer(endpoint, has_content=has_content),
            **_refusals(endpoint, has_content=has_content),
        },
    }
    if about.description:
        operation["description"] = about.description
    if about.query:
        operation["parameters"] = [
            {"name": key, "in": "query", "required": key not in about.optional_query, "schema": schema}
            for key, schema in about.query.items()
        ]
    if about.body:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": schema} for kind, schema in about.body.items()},
        }
    return operation


def _answer(endpoint: Endpoint, *, has_content: bool) -> dict[str, Any]:
    response: dict[str, Any] = {"description": "The answer.", "headers": _headers(*_IDS)}
    if endpoint.purpose is Purpose.RUN:
        response["headers"] |= _headers("X-Gateway-Status", "RateLimit", "RateLimit-Policy")
    if has_content:
        response["content"] = {
            kind: {"schema": schema} for kind, schema in OPERATIONS[endpoint.name].answer.items()
        }
    return response


def _refusals(endpoint: Endpoint, *, has_content: bool) -> dict[str, Any]:
    """The errors of the gateway by status; for an endpoint of Flowise its own errors too."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for error in sorted(_errors_of(endpoint), key=lambda error: (error.status, error.code)):
        by_status.setdefault(error.status, []).append(error)
    is_relayed = _reaches_flowise(endpoint)
    found = {
        str(status): _refusal(endpoint, classes, has_content=has_content, is_relayed=is_relayed)
        for status, classes in by_status.items()
    }
    if is_relayed:
        found["default"] = {"description": "An error of Flowise."}
        if has_content:
            found["default"]["content"] = {
                JSON: {"schema": ref("FlowiseError")},
                HTML: {"schema": {"type": "string"}},
            }
    return found


def _errors_of(endpoint: Endpoint) -> Iterator[type[GatewayError]]:
    yield from _ALWAYS
    if endpoint.body is not BodyKind.NONE:
        yield errors.TooLarge
        yield errors.UnsupportedMediaType
    if endpoint.counted is not Counted.NOTHING or _reaches_flowise(endpoint):  # by address: on every route
        yield errors.RateLimited
        yield errors.StoreUnavailable
    if endpoint.purpose in (Purpose.RUN, Purpose.SPEECH_ABORT):
        yield errors.ConversationBusy
    if endpoint.purpose is Purpose.RUN:
        yield errors.EndedByOperator
    if _reaches_flowise(endpoint):
        yield from _OF_UPSTREAM
    elif endpoint.body is not BodyKind.NONE:
        yield errors.Overloaded


def _refusal(
    endpoint: Endpoint, classes: Iterable[type[GatewayError]], *, has_content: bool, is_relayed: bool
) -> dict[str, Any]:
    known = list(classes)
    status = known[0].status
    names = [*_IDS]
    names += ["WWW-Authenticate"] if status == errors.Unauthenticated.status else []
    names += ["Retry-After", "RateLimit", "RateLimit-Policy"] if status == errors.RateLimited.status else []
    response: dict[str, Any] = {
        "description": ", ".join(f"{error.code} ({error.title})" for error in known),
        "headers": _headers(*names),
    }
    if has_content:
        own: Schema = ref("Error")
        response["content"] = {
            JSON: {"schema": {"anyOf": [own, ref("FlowiseError")]} if is_relayed else own},
            PROBLEM: {"schema": ref("Problem")},
        }
        if endpoint.purpose is Purpose.RUN and status in _PRINTED:
            response["content"][PLAIN] = {"schema": {"type": "string"}}
        if is_relayed:  # Flowise has sentences in place of JSON: of its rate limit, of origins, of files
            response["content"][HTML] = {"schema": {"type": "string"}}
    return response


def _preflight(endpoint: Endpoint, suffix: str) -> dict[str, Any]:
    return {
        "operationId": f"{endpoint.name}_options{suffix}",
        "tags": ["CORS"],
        "summary": "Ask whether a page may call",
        "security": [{}],
        "responses": {
            "204": {"description": "The methods, and what a page may send.", "headers": _headers("Allow")},
            "403": {
                "description": "forbidden (the Origin is not listed)",
                "content": {JSON: {"schema": ref("Error")}, PROBLEM: {"schema": ref("Problem")}},
            },
            "default": {"description": "An error of the gateway.", "content": {ANY: {}}},
        },
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _components() -> dict[str, Any]:
    codes = sorted({error.code for error in GatewayError.__subclasses__()})
    header = {
        "X-Request-ID": "The id of the request in the log.",
        "X-Trace-Id": "The id of its trace, where the gateway has traces.",
        "X-Gateway-Status": "The status of the error in an event stream.",
        "RateLimit": "What is left of each limit (IETF draft 11).",
        "RateLimit-Policy": "The limits (IETF draft 11).",
        "Retry-After": "Seconds until the same request would pass.",
        "WWW-Authenticate": "How to authenticate.",
        "Allow": "The methods of the path.",
    }
    return {
        "schemas": {**SCHEMAS, "ErrorCode": {"type": "string", "enum": codes}},
        "headers": {
            name: {"description": said, "schema": {"type": "string"}} for name, said in header.items()
        },
        "parameters": {
            "requestId": {
                "name": "X-Request-ID",
                "in": "header",
                "description": "Used as it is if it has this form, else replaced.",
                "schema": {"type": "string"},
                "example": "a-1",
            }
        },
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key (fgw_…), a session token (fgs_…) or a JWT.",
            },
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    }

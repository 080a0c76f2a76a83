"""The admin port in OpenAPI 3.1 (pure)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

_PLAIN, _JSON, _HTML, _EVENTS = "text/plain", "application/json", "text/html", "text/event-stream"
_TEXT = {"type": "string"}
_OPEN: list[dict[str, list[str]]] = [{}]
_GUARDED: list[dict[str, list[str]]] = [{}, {"bearer": []}]  # a port on the loopback may have no token


@cache
def admin_document_json(version: str) -> bytes:
    """The document as JSON, made once. `version`: of the gateway."""
    return json.dumps(admin_document(version), indent=2).encode()


def admin_document(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the admin port."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Flowise Gateway, admin port",
            "version": version,
            "description": "The paths of the admin port. With admin.page: false the live page and all below /page/"
            " are 404.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/": _get("page", "Open the live page", _HTML, is_open=True),
            "/page/{file}": {
                **_get("page_file", "Load a file of the live page", "*/*", is_open=True),
                "parameters": [_parameter("file", "The name of a script, a style sheet or the icon.")],
            },
            "/page/events": _events(),
            "/page/runs/{run}/end": {
                "post": _end(),
                "parameters": [_parameter("run", "The key of a row of the table runs of the event stream.")],
            },
            "/metrics": _get("metrics", "Read the metrics", _PLAIN, busy=True),
            "/config": _get("config", "Read the configuration in effect, without secrets", _JSON, busy=True),
            "/openapi.json": _get("openapi", "Read the description of the public port", _JSON),
            "/openapi-admin.json": _get("openapi_admin", "Read this description", _JSON),
            "/livez": _get("livez", "See whether the process answers", _PLAIN, is_open=True),
            "/readyz": _get("readyz", "See whether it accepts requests", _PLAIN, is_open=True, busy=True),
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The value of admin.token."}
            }
        },
    }


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": _TEXT}


def _get(
    name: str, summary: str, content_type: str, *, is_open: bool = False, busy: bool = False
) -> dict[str, Any]:
    """GET and HEAD of a path. `is_open`: needs no token. `busy`: may be 503."""

    def operation(method: str) -> dict[str, Any]:
        content = {content_type: {"schema": _TEXT if content_type != _JSON else {"type": "object"}}}
        responses: dict[str, Any] = {"200": {"description": "The answer."}}
        if method == "get":
            responses["200"]["content"] = content
        if not is_open:
            responses["401"] = {"description": "The token is missing or wrong."}
        if busy:
            responses["503"] = {"description": "Not now; the body says why."}
        security = _OPEN if is_open else _GUARDED
        return {
            "operationId": f"{name}_{method}",
            "summary": summary,
            "security": security,
            "responses": responses,
        }

    return {"get": operation("get"), "head": operation("head")}


def _events() -> dict[str, Any]:
    row = {"description": "A row; its fields are those that the page shows."}
    table = {
        "type": "object",
        "required": ["set", "gone"],
        "properties": {
            "set": {"type": "object", "additionalProperties": row},
            "gone": {"type": "array", "items": _TEXT},
        },
    }
    message = {
        "type": "object",
        "description": "Each `data` of the stream, as JSON.",
        "required": ["now", "is_whole", "tables"],
        "properties": {
            "now": {"type": "number", "description": "Seconds since the epoch."},
            "is_whole": {"type": "boolean", "description": "Forget what came before."},
            "tables": {"type": "object", "additionalProperties": table},
        },
    }
    operation = {
        "operationId": "page_events",
        "summary": "Follow the state once a second",
        "description": "What the live page shows: a whole state first, then the rows that have changed. The fields may"
        " change with any version.",
        "security": _GUARDED,
        "responses": {
            "200": {"description": "The state.", "content": {_EVENTS: {"schema": _TEXT, "x-data": message}}},
            **_refusals("503", "There are as many viewers as there may be."),
        },
    }
    return {"get": operation}


def _end() -> dict[str, Any]:
    ended = {"type": "object", "properties": {"ended": {"const": True}}, "required": ["ended"]}
    return {
        "operationId": "page_end_run",
        "summary": "End a run",
        "description": "Its client gets the error ended_by_operator, Flowise is asked to stop, and a"
        " run_ended_by_operator line is logged.",
        "security": _GUARDED,
        "responses": {
            "200": {"description": "It is being ended.", "content": {_JSON: {"schema": ended}}},
            **_refusals("404", "There is no such run."),
        },
    }


def _refusals(status: str, why: str) -> dict[str, Any]:
    sentence = {_PLAIN: {"schema": _TEXT}}
    return {
        "401": {"description": "The token is missing or wrong."},
        "403": {"description": "The request comes from a page of another site.", "content": sentence},
        status: {"description": why, "content": sentence},
    }

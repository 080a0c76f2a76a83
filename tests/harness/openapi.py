"""Requests and answers, held against the OpenAPI document of the gateway."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from jsonschema import Draft202012Validator

from gateway import __version__
from gateway.openapi import document

DOCUMENT = document(__version__)
METHODS = ("get", "head", "post", "put", "options")


def operations() -> set[tuple[str, str]]:
    """Path and method of every operation."""
    return {
        (path, method) for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item
    }


def find(method: str, target: str) -> tuple[str, dict[str, Any] | None]:
    """The path template of a target and its operation; an empty template if the document has no such path."""
    path = target.partition("?")[0]
    path = re.sub(r"^/t/[^/]+(?=/)", "", path)
    for template, item in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
            return template, item.get(method.lower())
    return "", None


def mistakes_in_request(method: str, target: str, content_type: str, body: bytes) -> list[str]:
    """What in a request is not as the document says; a form is not looked into."""
    template, operation = find(method, target)
    if operation is None:
        return [f"{method} {target} is not in the document"]
    found = _parameters(template, target, operation)
    kinds = operation.get("requestBody", {}).get("content", {})
    kind = content_type.partition(";")[0]
    if not kinds:
        return [*found, *(["a body"] if body else [])]
    if kind not in kinds:
        return [*found, f"the content type {kind}"]
    if kind != "application/json":
        return found
    try:
        return [*found, *_mistakes(kinds[kind]["schema"], json.loads(body))]
    except ValueError as error:
        return [*found, f"no JSON: {error}"]


def _parameters(template: str, target: str, operation: dict[str, Any]) -> list[str]:
    path, _, query = target.partition("?")
    names = re.findall(r"\{(\w+)\}", template)
    pattern = re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(template))
    given = dict(zip(names, map(unquote, re.search(pattern + "$", path).groups()), strict=True))
    queried = dict(parse_qsl(query, keep_blank_values=True))
    item = [one for one in DOCUMENT["paths"][template]["parameters"] if one.get("in") == "path"]
    found = []
    for parameter in (*item, *operation.get("parameters", ())):
        values = given if parameter["in"] == "path" else queried
        value = values.pop(parameter["name"], None)
        if value is not None:
            found += _mistakes(parameter["schema"], value)
        elif parameter["required"]:
            found.append(f"{parameter['name']} is missing")
    return found + [f"{name} is no parameter" for name in queried]


def mistakes_in_answer(
    method: str, target: str, status: int, fields: Mapping[str, str], body: bytes
) -> list[str]:
    """What in an answer is not as the document says. `fields` have lower-case names."""
    _, operation = find(method, target)
    if operation is None:
        return _mistakes({"$ref": "#/components/schemas/Error"}, json.loads(body)) if body else []
    response = operation["responses"].get(str(status))
    if response is None and b'"requestId"' not in body:  # an error of Flowise, not of the gateway
        response = operation["responses"].get("default")
    if response is None:
        return [f"the status {status}"]
    found = [f"{name} is missing" for name in ("x-request-id",) if name not in fields]
    found += [f"{name} is missing" for name in _required(status) if name not in fields]
    return found + _content(response.get("content", {}), fields.get("content-type", ""), body)


def _required(status: int) -> tuple[str, ...]:
    return {401: ("www-authenticate",), 429: ("retry-after",)}.get(status, ())


def _content(kinds: Mapping[str, Any], content_type: str, body: bytes) -> list[str]:
    kind = content_type.partition(";")[0]
    if not body:
        return []
    if not kinds:
        return ["a body"]
    if kind not in kinds and "*/*" not in kinds:
        return [f"the content type {kind!r}"]
    schema = kinds.get(kind, kinds.get("*/*"))["schema"] if kind in kinds or "schema" in kinds["*/*"] else {}
    is_json = kind.endswith(("/json", "+json"))
    return _mistakes(schema, json.loads(body) if is_json else body.decode("utf-8", "replace"))


def _mistakes(schema: Mapping[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

"""The shapes of Flowise are those of the captures, and what the gateway refuses by its shape is refused here too."""

from __future__ import annotations

import pytest

from gateway.flowise.body_rules import FIELDS, JsonType
from gateway.openapi.schemas import SCHEMAS
from tests.harness import captures
from tests.harness.openapi import find, mistakes_in_answer, mistakes_in_request
from tests.harness.recorded_requests import WHOLE

FLOW = "3f6a9b1c-2222-4333-8444-555566667777"
JSON = "application/json"
# The gateway refuses the one request, and answers the other with an error of its own.
NEVER_PASSED = ("speech-abort-incomplete", "vector-upsert-no-key")


def recorded():
    """The captures of requests that the document has, answered by Flowise; ping is answered by the gateway."""
    for name, request in WHOLE.items():
        method, target, _ = request.partition(b"\r\n")[0].split(b" ", 2)
        operation = find(method.decode(), target.decode())[1]
        head, _, body = captures.load(name).rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
        is_meant = operation is not None and method != b"OPTIONS" and not name.startswith("ping")
        is_meant = is_meant and name not in NEVER_PASSED
        if is_meant and b"application/json" in head:
            yield pytest.param(method.decode(), target.decode(), int(head[:3]), body, id=name)


@pytest.mark.parametrize(("method", "target", "status", "body"), list(recorded()))
def test_flowise_answers_in_the_documented_shape(method, target, status, body):
    fields = {"content-type": JSON, "x-request-id": "of the gateway"}
    assert mistakes_in_answer(method, target, status, fields, body) == []


def test_most_captures_are_looked_at():
    assert len(list(recorded())) > 40


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (f"/api/v1/prediction/{FLOW}", b"[]"),
        (f"/api/v1/prediction/{FLOW}", b'{"question": 5}'),
        (f"/api/v1/prediction/{FLOW}", b'{"question": "hi", "chatId": 5}'),
        (f"/api/v1/prediction/{FLOW}", b'{"question": "hi", "overrideConfig": []}'),
        (f"/api/v1/prediction/{FLOW}", b'{"question": "hi", "uploads": {}}'),
        (f"/api/v1/feedback/{FLOW}", b'{"chatId": "c"}'),
        (f"/api/v1/feedback/{FLOW}", b'{"chatId": "c", "messageId": "m", "rating": "GOOD"}'),
        (f"/api/v1/feedback/{FLOW}", b'{"chatId": "c", "messageId": "m", "id": "x"}'),
        ("/api/v1/leads", b'{"name": "n"}'),
        ("/api/v1/leads", b'{"chatflowid": "a", "name": 5}'),
        ("/gateway/v1/session-tokens", b"{}"),
        ("/gateway/v1/session-tokens", b'{"caller": "a", "ttl": 900}'),
        ("/gateway/v1/session-tokens", b'{"caller": "a", "routes": []}'),
        ("/gateway/v1/session-tokens", b'{"caller": "a", "user": "b"}'),
    ],
)
def test_a_body_of_the_wrong_shape_is_a_mistake(target, body):
    assert mistakes_in_request("POST", target, JSON, body)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (f"/api/v1/prediction/{FLOW}", b'{"error": "x"}'),
        (f"/api/v1/feedback/{FLOW}", b"{}"),
        ("/api/v1/leads", b"[]"),
        ("/gateway/v1/session-tokens", b'{"token": "x", "expires_at": "y"}'),
    ],
)
def test_an_answer_of_the_wrong_shape_is_a_mistake(target, body):
    fields = {"content-type": JSON, "x-request-id": "r"}
    assert mistakes_in_answer("POST", target, 200, fields, body)


def test_the_fields_of_a_prediction_have_the_types_that_the_gateway_checks():
    types = {JsonType.TEXT: "string", JsonType.OBJECT: "object", JsonType.ARRAY: "array"}
    properties = SCHEMAS["PredictionRequest"]["properties"]
    assert properties.keys() <= FIELDS.keys()
    for name, schema in properties.items():
        expected = types.get(FIELDS[name].json_type)
        assert schema.get("type") == (None if expected is None else [expected, "null"]), name

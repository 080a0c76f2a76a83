from __future__ import annotations

import json
import re

import aiohttp
import openapi_spec_validator
import pytest

from gateway import __version__
from gateway.errors import GatewayError
from gateway.flowise.endpoints import ENDPOINTS, Access
from gateway.openapi import document, document_json
from tests.harness.openapi import DOCUMENT, METHODS
from tests.harness.raw_upstream import RawUpstream


def responses(name, method="post"):
    (path, *_) = next(endpoint.paths for endpoint in ENDPOINTS if endpoint.name == name)
    return DOCUMENT["paths"][path][method]["responses"]


def codes(response):
    return set(re.findall(r"(\w+) \(", response["description"]))


def test_it_is_an_openapi_3_1_document():
    openapi_spec_validator.validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == __version__


def test_it_has_the_paths_and_methods_of_the_endpoint_table_and_no_other():
    real = {
        path: {*map(str.lower, endpoint.methods + endpoint.other_methods), "options"}
        for endpoint in ENDPOINTS
        for path in endpoint.paths
        if endpoint.name != "feedback_change"  # its path is that of feedback
    }
    documented = {path: set(METHODS) & item.keys() for path, item in DOCUMENT["paths"].items()}
    assert documented == real


def test_every_operation_has_a_name_of_its_own():
    names = [
        item[method]["operationId"]
        for item in DOCUMENT["paths"].values()
        for method in METHODS
        if method in item
    ]
    assert len(names) == len(set(names))


def test_an_error_has_one_of_the_codes_of_the_gateway():
    real = {error.code for error in GatewayError.__subclasses__()}
    assert set(DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"]) == real


def test_each_error_is_in_some_operation_but_that_of_a_wrong_method():
    said = {
        code
        for item in DOCUMENT["paths"].values()
        for method in METHODS
        if method in item
        for status, response in item[method]["responses"].items()
        if status not in ("200", "204", "default")
        for code in codes(response)
    }
    assert said == {error.code for error in GatewayError.__subclasses__()} - {"method_not_allowed"}


def test_only_a_run_can_be_busy_and_only_a_body_too_large():
    assert "conversation_busy" in codes(responses("prediction")["409"])
    assert "409" not in responses("feedback")
    assert "413" in responses("feedback")
    assert "413" not in responses("chatflows_streaming", "get")


def test_what_the_gateway_answers_by_itself_has_no_error_of_flowise():
    for name, method in (("ping", "get"), ("session_tokens", "post"), ("limits", "get")):
        assert not {"502", "504", "default"} & responses(name, method).keys()
    assert {"502", "504", "default"} <= responses("leads").keys()


def test_a_credential_is_required_where_an_api_key_is():
    for endpoint in ENDPOINTS:
        for path in endpoint.paths:
            template = path.replace("{feedbackId}", "{flow}")
            security = DOCUMENT["paths"][template][endpoint.methods[0].lower()]["security"]
            assert ({} not in security) == (endpoint.access is Access.API_KEY)


def test_an_answer_to_head_has_no_content():
    for item in DOCUMENT["paths"].values():
        for response in item.get("head", {}).get("responses", {}).values():
            assert "content" not in response


@pytest.mark.parametrize("token", ["secret", ""])
async def test_the_admin_port_serves_it_with_its_token(start, token):
    async with (
        RawUpstream(None) as upstream,
        start(upstream.url, admin={"token": token}) as gateway,
        aiohttp.ClientSession(gateway.admin) as session,
    ):
        async with session.get("/openapi.json") as response:
            assert response.status == (401 if token else 200)
        async with session.get("/openapi.json", headers={"Authorization": "Bearer secret"}) as response:
            assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
            assert await response.json() == DOCUMENT


def test_its_json_is_the_document():
    assert json.loads(document_json("1.2.3")) == document("1.2.3")
    assert document("1.2.3")["info"]["version"] == "1.2.3"

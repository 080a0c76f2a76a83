from __future__ import annotations

from gateway.flowise.endpoints import ENDPOINTS, BodyKind
from gateway.openapi.operations import FORM, JSON, MULTIPART, OPERATIONS


def test_every_endpoint_is_described_and_no_other():
    assert OPERATIONS.keys() == {endpoint.name for endpoint in ENDPOINTS}


def test_an_endpoint_with_a_body_describes_it():
    kinds = {
        BodyKind.NONE: set(),
        BodyKind.PREDICTION: {JSON, FORM, MULTIPART},
        BodyKind.FEEDBACK: {JSON},
        BodyKind.FEEDBACK_CHANGE: {JSON},
        BodyKind.LEADS: {JSON},
        BodyKind.DOCUMENTS: {JSON, FORM, MULTIPART},
        BodyKind.SPEECH: {JSON},
        BodyKind.SPEECH_ABORT: {JSON},
        BodyKind.ASSISTANT_FILE: {JSON},
        BodyKind.ATTACHMENTS: {MULTIPART},
        BodyKind.OWN: {JSON},
    }
    for endpoint in ENDPOINTS:
        assert set(OPERATIONS[endpoint.name].body) == kinds[endpoint.body], endpoint.name


def test_query_parameters_are_those_of_the_table():
    for endpoint in ENDPOINTS:
        about = OPERATIONS[endpoint.name]
        assert set(about.query) == set(endpoint.query)
        assert about.optional_query <= about.query.keys()

"""What is secret, or was sent by a client, is in no `repr`, and so in no message that is made of one."""

from __future__ import annotations

import pytest

from gateway.auth.caller import Caller
from gateway.auth.credentials import SentCredentials
from gateway.auth.jwt import JwtIdentity
from gateway.auth.session_tokens import SessionGrant
from gateway.config.addresses import parse_url
from gateway.config.loader import Reading
from gateway.config.proxies import Proxy
from gateway.exchange import Document, Exchange, Timings, UpstreamBody
from gateway.flowise.feedback import Record
from gateway.flowise.prediction import Changes, read_json
from gateway.flowise.raw_json import read_document
from gateway.flowise.usage import UsageSource
from gateway.init.command import Flowise
from gateway.init.files import Plan
from gateway.records import DiscreetRecord
from gateway.upstream.headers import Addressed, UpstreamRequest
from gateway.upstream.upstream import ForwardedIdentity
from tests.harness.body_rules import body_rules

SECRET = "hush-hush"
TEXT = f'{{"question":"{SECRET}"}}'.encode()
RECORDS = (
    Caller(SECRET, "session", claims={"name": SECRET}),
    SentCredentials((SECRET,), 1, SECRET),
    Document(SECRET, lambda _flow, _chat: UpstreamBody("", TEXT), {"content": SECRET}),
    UpstreamBody("application/json", TEXT),
    Changes(chat_id=SECRET, vars={"name": SECRET}),
    read_json(TEXT, body_rules()),
    read_document(TEXT),
    read_document(TEXT).text,
    UsageSource(executed=TEXT),
    UpstreamRequest("POST", b"/", [(b"Authorization", SECRET.encode())], TEXT),
    ForwardedIdentity("r-1", SECRET, SECRET),
    Addressed(b"", ((b"authorization", SECRET.encode()),)),
    JwtIdentity(SECRET, SECRET, None, 0.0, 0.0, claims={"name": SECRET}),
    SessionGrant("Ab3dEf9h", SECRET, None, 0, 0, {"name": SECRET}),
    Record(None, SECRET, read_document(TEXT), {"content": SECRET}),
    Proxy("proxy.test", 3128, SECRET, f"http://user:{SECRET}@proxy.test:3128"),
    Reading(None, None, (), (), (), SECRET),
    Flowise(parse_url("http://flowise.test"), SECRET),
    Plan(parse_url("http://flowise.test"), None, (), {"FLOWISE_API_KEY": SECRET}),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_shows_its_class_alone(record):
    assert repr(record) == f"<{type(record).__name__}>"
    assert SECRET not in str(record)


def test_an_exchange_shows_its_id_alone():
    exchange = Exchange(
        request=object(), request_id="r-1", client=SECRET, timings=Timings(0.0), path_token=SECRET
    )
    assert repr(exchange) == "<Exchange r-1>"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_never_changes(record):
    (name, *_) = record.__struct_fields__
    with pytest.raises(AttributeError):
        setattr(record, name, None)


def test_every_record_is_tried():
    shown = {type(record).__name__ for record in RECORDS} | {"Delivery"}  # which holds nothing of a request
    assert {record.__name__ for record in DiscreetRecord.__subclasses__()} == shown

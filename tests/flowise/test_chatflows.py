"""The list of chatflows, as Flowise sends it: what is kept of each, and what is no list."""

from __future__ import annotations

import json

import pytest

from gateway.flowise.chatflows import Chatflow, NotAListError, Page, read_page
from tests.harness import captures

ID = "2c5e8d0a-1111-4222-8333-444455556666"


def body_of(name):
    return captures.load(name).partition(b"\r\n\r\n")[2]


def row(trigger="chatInput", **values):
    start = {"data": {"name": "startAgentflow", "inputs": {"startInputType": trigger}}}
    nodes = json.dumps({"nodes": [{"data": {"name": "llmAgentflow"}}, start]})
    return {"id": ID, "name": "n", "type": "AGENTFLOW", "flowData": nodes, **values}


def read_one(**values):
    (flow,) = read_page(json.dumps([row(**values)]).encode()).chatflows
    return flow


def test_a_captured_page_is_read_with_its_total():
    flow = Chatflow("868a3ac9-7658-47f5-b3c6-1b9b8e3e0620", "agentflow", "agentflow")
    assert read_page(body_of("chatflows-page")) == Page((flow,), 1)
    assert read_page(body_of("chatflows-page-end")) == Page((), 7)


def test_a_plain_list_has_no_total():
    assert read_page(json.dumps([row()]).encode()) == Page((Chatflow(ID, "n", "agentflow"),), None)


@pytest.mark.parametrize(
    ("trigger", "read", "answers"),
    [
        ("chatInput", "", True),
        ("formInput", "form", True),
        ("webhookTrigger", "webhook", False),
        ("scheduleInput", "schedule", False),
        (None, "", True),
    ],
)
def test_the_start_node_says_what_starts_an_agentflow(trigger, read, answers):
    flow = read_one(trigger=trigger)
    assert (flow.trigger, flow.answers_predictions) == (read, answers)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("CHATFLOW", "chatflow"),
        ("MULTIAGENT", "multi-agent"),
        ("ASSISTANT", "assistant"),
        (None, "chatflow"),
    ],
)
def test_every_kind_has_its_name(written, kind):
    assert read_one(type=written).kind == kind


def test_a_key_and_file_uploads_are_seen():
    config = json.dumps({"fullFileUpload": {"status": True}})
    flow = read_one(apikeyid="k-1", chatbotConfig=config, id=ID.upper())
    assert (flow.key_id, flow.takes_files, flow.id) == ("k-1", True, ID)


@pytest.mark.parametrize(
    "flow_data", [None, "", "nonsense", "[]", '{"nodes": 5}', '{"nodes": [1, {"data": 2}]}']
)
def test_unreadable_nodes_are_those_of_a_chat(flow_data):
    assert read_one(flowData=flow_data, chatbotConfig="{").trigger == ""


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"data": [], "total": null}', b"[1]", b'[{"id": 5}]', b"5"]
)
def test_anything_else_is_no_list(body):
    with pytest.raises(NotAListError):
        read_page(body)

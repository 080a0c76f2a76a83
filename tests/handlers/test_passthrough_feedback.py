"""Feedback, leads and attachments: what the widget sends reaches the right flow, and nothing else does."""

from __future__ import annotations

import json

import pytest

from tests.harness.gateway import FLOW
from tests.harness.surface import answering, ask

FEEDBACK = {"chatId": "c", "messageId": "m", "rating": "THUMBS_UP", "content": "fine"}
LEAD = {"chatId": "c", "name": "n", "email": "e@example.com"}
FORM = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--b--\r\n'
TYPE = "multipart/form-data; boundary=b"
UPLOADS = {"uploads": True, "max_body": "1MiB"}


@pytest.mark.parametrize("flow", ["chat", FLOW])
async def test_feedback(flow, start, connect):
    body = json.dumps({**FEEDBACK, "chatflowid": flow}).encode()
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "POST", f"/api/v1/feedback/{flow}", body)
    (seen,) = upstream.seen
    assert (reply.status, seen.method, seen.target) == (200, "POST", f"/api/v1/feedback/{FLOW}")
    assert seen.json() == {**FEEDBACK, "chatflowid": FLOW}


@pytest.mark.parametrize("flow", ["chat", FLOW])
@pytest.mark.parametrize("path", ["/api/v1/leads", "/api/v1/leads/"])
async def test_lead(path, flow, start, connect):
    body = json.dumps({**LEAD, "chatflowid": flow}).encode()
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "POST", path, body)
        line = await gateway.lines.request()
    (seen,) = upstream.seen
    assert (reply.status, seen.target, line["route"]) == (200, "/api/v1/leads", "chat")
    assert seen.json() == {**LEAD, "chatflowid": FLOW}
    assert "example.com" not in gateway.lines.getvalue()


async def test_attachment(start, connect):
    async with answering() as upstream, start(upstream.url, route=UPLOADS) as gateway:
        reply = await ask(connect, gateway, "POST", "/api/v1/attachments/chat/c", FORM, Content_Type=TYPE)
    (seen,) = upstream.seen
    assert (reply.status, seen.target) == (200, f"/api/v1/attachments/{FLOW}/c")
    assert b'name="files"; filename="a.txt"' in seen.body
    assert b"\r\n\r\nhello\r\n" in seen.body


REFUSED = {
    "feedback without chatId": ("/api/v1/feedback/chat", b'{"messageId":"m"}', 400),
    "feedback that is no object": ("/api/v1/feedback/chat", b"[]", 400),
    "feedback of a bad chatId": ("/api/v1/feedback/chat", b'{"chatId":"a/b","messageId":"m"}', 400),
    "feedback too long": (
        "/api/v1/feedback/chat",
        b'{"chatId":"c","messageId":"m","content":"%b"}' % (b"a" * 3000),
        413,
    ),
    "lead without flow": ("/api/v1/leads", b'{"chatId":"c"}', 400),
    "lead of an unknown flow": ("/api/v1/leads", b'{"chatId":"c","chatflowid":"other"}', 404),
    "lead too large": ("/api/v1/leads", b'{"x":"%b"}' % (b"a" * 70_000), 413),
    "lead as a form": ("/api/v1/leads", b"chatflowid=chat", 400),
    "attachment where uploads are off": ("/api/v1/attachments/chat/c", FORM, 400),
    "attachment that is no form": ("/api/v1/attachments/chat/c", b"{}", 400),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name, start, connect):
    path, body, status = REFUSED[name]
    kind = TYPE if body is FORM else "text/plain" if body.startswith(b"chatflowid") else "application/json"
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "POST", path, body, Content_Type=kind)
    assert (reply.status, reply.json()["statusCode"]) == (status, status)
    assert upstream.seen == []


async def test_a_lead_is_no_larger_than_its_route_allows(start, connect):
    body = json.dumps({**LEAD, "chatflowid": "chat", "phone": "1 " * 600}).encode()
    async with answering() as upstream, start(upstream.url, route={"max_body": "1KiB"}) as gateway:
        reply = await ask(connect, gateway, "POST", "/api/v1/leads", body)
    assert (reply.status, "larger than the 1024 bytes" in reply.json()["message"]) == (413, True)
    assert upstream.seen == []

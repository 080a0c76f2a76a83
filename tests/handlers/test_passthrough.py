"""Each endpoint, by name and by id, as Flowise sees it and as the client sees Flowise's answer."""

from __future__ import annotations

import json
import threading

import pytest

from gateway.flowise import chatbot_config, endpoints
from gateway.handlers import chatbot_config as handler
from gateway.http import target as request_target
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.surface import ANSWER, PREDICT, QUESTION, answering, answering_raw, ask

SETTINGS = b'{"chatbotConfig":{"a":1}, "flowData":"{\\"nodes\\":[{\\"data\\":{\\"inputs\\":{\\"system\\":\\"secret\\"}}}]}","b":2}'
SMALL = [
    ("GET", "/api/v1/chatflows-streaming/{}"), ("GET", "/api/v1/chatflows-uploads/{}"),
    ("PUT", "/api/v1/chatmessage/abort/{}/c@1"), ("POST", "/api/v1/prediction/{}"),
    ("POST", "/api/v1/predictions/{}"), ("GET", "/api/v1/public-chatbotConfig/{}"),
    ("GET", "/api/v1/get-upload-file?chatflowId={}&chatId=c&fileName=a%20b.png"),
]  # fmt: skip


@pytest.mark.parametrize("flow", ["chat", FLOW])
@pytest.mark.parametrize(("method", "path"), SMALL)
async def test_name_and_id_become_the_id(method, path, flow, start, connect):
    async with answering(b'{"a":1}') as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, method, path.format(flow))
        line = await gateway.lines.request()
    targets = [seen.target for seen in upstream.seen] + upstream.aborts
    assert targets == [path.format(FLOW).replace("predictions", "prediction").replace("@", "%40")]
    assert (reply.status, line["route"], line["outcome"]) == (200, "chat", "ok")


async def test_path_of_the_server_is_kept(start, connect):
    async with answering() as upstream, start(f"{upstream.url}/flowise/") as gateway:
        await ask(connect, gateway)
    assert upstream.seen[-1].target == f"/flowise{PREDICT}"


async def test_ping_is_our_own(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "GET", "/api/v1/ping")
    assert (reply.status, reply.body, reply.fields["content-type"]) == (
        200,
        b"pong",
        "text/plain; charset=utf-8",
    )
    assert upstream.seen == []


@pytest.mark.parametrize(("mode", "sent"), [
    ("public", b'{"chatbotConfig":{"a":1}, "b":2}'), ("full", SETTINGS),
])  # fmt: skip
async def test_chatbot_config(mode, sent, start, connect):
    path = f"/api/v1/public-chatbotConfig/{FLOW}"
    async with (
        answering(SETTINGS) as upstream,
        start(upstream.url, route={"chatbot_config": mode}) as gateway,
    ):
        reply = await ask(connect, gateway, "GET", path)
        line = await gateway.lines.request()
    assert (json.loads(reply.body), reply.status, line["bytes_out"]) == (
        json.loads(sent),
        200,
        len(reply.body),
    )
    assert (b"secret" in reply.body) == (mode == "full")
    if mode == "full":
        assert reply.body == SETTINGS


async def test_chatbot_config_that_is_off(start, connect):
    async with (
        answering(SETTINGS) as upstream,
        start(upstream.url, route={"chatbot_config": "off"}) as gateway,
    ):
        reply = await ask(connect, gateway, "GET", f"/api/v1/public-chatbotConfig/{FLOW}")
    assert (reply.status, reply.json()["code"]) == (404, "unknown_route")
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b'{"success":false}', "application/json; charset=utf-8"), (b"<h1>", "text/plain; charset=utf-8")],
)
async def test_chatbot_config_error_passes(body, kind, start, connect):
    async with (
        answering(body, "500 Internal Server Error", "text/html") as upstream,
        start(upstream.url) as gateway,
    ):
        reply = await ask(connect, gateway, "GET", f"/api/v1/public-chatbotConfig/{FLOW}")
    assert (reply.status, reply.body, reply.fields["content-type"]) == (500, body, kind)


@pytest.mark.parametrize(("size", "is_off_the_loop"), [(1, False), (256 * 1024, True)])
async def test_large_chatbot_config_is_trimmed_off_the_loop(
    size, is_off_the_loop, start, connect, monkeypatch
):
    threads = []

    def trim(body, route):
        threads.append(threading.get_ident())
        return chatbot_config.trim(body, route)

    monkeypatch.setattr(handler, "trim", trim)
    settings = b'{"flowData":"%b","b":2}' % (b"x" * size)
    async with answering(settings) as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "GET", f"/api/v1/public-chatbotConfig/{FLOW}")
    assert (reply.status, reply.json()) == (200, {"b": 2})
    (trimmed_in,) = threads
    assert (trimmed_in != threading.get_ident()) is is_off_the_loop


async def test_target_is_parsed_once(start, connect, monkeypatch):
    targets = []

    def split(raw_target):
        targets.append(raw_target)
        return request_target.split_target(raw_target)

    monkeypatch.setattr(endpoints, "split_target", split)
    async with answering() as upstream, start(upstream.url) as gateway:
        assert (await ask(connect, gateway)).status == 200
    assert targets == [PREDICT]


FILES = [
    ("image/png", "inline", "inline"), ("image/PNG; a=b", None, None), ("image/svg+xml", None, "attachment"),
    ("text/html", "inline; filename=x", "attachment"), ("application/pdf", 'attachment; filename="ä"', 'attachment; filename="ä"'),
    ("application/octet-stream", None, "attachment"), ("text/html", "Attachment", "Attachment"), ("image/png, text/html", None, "attachment"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "sent"), FILES)
async def test_files_cannot_become_pages(kind, given, sent, start, connect):
    lines = {"Content-Type": kind, "Content-Disposition": given, "Content-Security-Policy": "script-src *"}
    head = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    path = "/api/v1/get-upload-file?fileName=%C3%A4%26.png&chatId=c&chatflowId=chat&download=true"
    async with (
        answering_raw(f"{head}Content-Length: 1\r\n\r\nx".encode()) as upstream,
        start(upstream.url) as gateway,
    ):
        reply = await ask(connect, gateway, "GET", path)
    assert (reply.status, reply.body, reply.fields.get("content-disposition")) == (200, b"x", sent)
    assert reply.fields["x-content-type-options"] == "nosniff"
    assert reply.fields["content-security-policy"] == "default-src 'none'; sandbox"
    asked = f"/api/v1/get-upload-file?fileName=%C3%A4%26.png&chatId=c&chatflowId={FLOW}&download=true"
    assert upstream.seen[0].target == asked


@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        ("a.png", "image/png", None),
        ("A.JPG", "image/jpeg", None),
        ("a.webp", "image/webp", None),
        ("a.svg", "application/octet-stream", "attachment"),
        ("a.html", "application/octet-stream", "attachment"),
        ("png", "image/png", None),
        ("a", "application/octet-stream", "attachment"),
    ],
)
async def test_a_file_without_a_type_is_an_image_by_its_name(name, kind, sent, start, connect):
    """As Flowise 3.1.4 sends what it has stored."""
    path = f"/api/v1/get-upload-file?fileName={name}&chatId=c&chatflowId=chat"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    async with answering_raw(answer) as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "GET", path)
    assert (reply.fields["content-type"], reply.fields.get("content-disposition")) == (kind, sent)
    assert reply.fields["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("streamable", "asked"),
    [
        (b'{"isStreaming":true}', True),
        (b'{"isStreaming":false}', False),
        (b"nonsense", True),
        (b'{"isStreaming":1}', True),
    ],
)
async def test_a_flow_that_does_not_stream_is_not_asked_to(streamable, asked, start, connect):
    upstream = answering()
    upstream.streamable = streamable
    body = b'{"question":"hi","streaming":true,"chatId":"c"}'
    async with upstream, start(upstream.url) as gateway:
        await gateway.refresh_streamability()
        reply = await ask(connect, gateway, body=body)
    assert (reply.status, reply.body) == (200, ANSWER)
    assert upstream.seen[-1].json() == {**json.loads(body), "streaming": asked}


async def test_untouched_body_keeps_its_bytes(start, connect):
    body = b' {"question" : "h\\u0069",\n "chatId":"c", "x": 1.50, "question2":[ ]} '
    async with answering() as upstream, start(upstream.url) as gateway:
        await ask(connect, gateway, body=body)
    assert upstream.seen[0].body == body


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
async def test_forms_without_files_go_up_as_json(kind, start, connect):
    form = b"question=h+i&chatId=c"
    if kind.startswith("multipart"):
        form = (
            b"".join(
                b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % pair
                for pair in [(b"question", b"h i"), (b"chatId", b"c")]
            )
            + b"--b--\r\n"
        )
    async with answering() as upstream, start(upstream.url) as gateway:
        assert (await ask(connect, gateway, body=form, Content_Type=kind)).status == 200
    (seen,) = upstream.seen
    assert (seen.json(), seen.fields["content-type"]) == (
        {"question": "h i", "chatId": "c"},
        "application/json",
    )


async def test_http10_client_gets_its_answer_and_the_end(start, connect):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    data = request("POST", PREDICT, QUESTION, Connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with answering_raw(chunked) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(data)
        reply = await wire.reply()
    assert (reply.status, reply.body) == (200, b"{}")
    assert "transfer-encoding" not in reply.fields

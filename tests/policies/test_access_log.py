"""One line per request, always with the same fields and without secrets."""

from __future__ import annotations

import pytest

from tests.harness.gateway import FLOW
from tests.harness.surface import PREDICT, answering, ask

FIELDS = {
    "time",
    "level",
    "event",
    "request_id",
    "route",
    "endpoint",
    "caller",
    "auth",
    "status",
    "outcome",
    "streaming",
    "client",
    "upstream",
    "server",
    "duration_s",
    "ttft_s",
    "overhead_s",
    "waited_s",
    "events",
    "tokens_in",
    "tokens_out",
    "token_source",
    "bytes_out",
    "abort",
    "limited_by",
    "trace_id",
}
BODY = b'{"question":"zqxPROMPT","chatId":"c","leadEmail":"zqxEMAIL"}'
ANSWERED = b'{"text":"zqxANSWER"}'


async def test_fields_of_a_prediction(start, connect):
    async with answering(ANSWERED) as upstream, start(upstream.url) as gateway:
        server = upstream.url.removeprefix("http://")
        reply = await ask(connect, gateway, body=BODY)
        line = await gateway.lines.request()
    assert set(line) == FIELDS
    expected = {
        "level": "info", "event": "request", "request_id": reply.fields["x-request-id"], "route": "chat",
        "endpoint": "prediction", "caller": "anonymous", "auth": "anonymous", "status": 200, "outcome": "ok",
        "streaming": False, "client": "127.0.0.1", "upstream": "main", "server": server,
        "bytes_out": len(ANSWERED), "limited_by": None, "abort": None, "token_source": "estimated", "trace_id": None,
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    assert 0 <= line["overhead_s"] <= line["duration_s"] < 5


@pytest.mark.parametrize(
    "method_path",
    [("GET", "/api/v1/ping"), ("GET", "/api/v1/no"), ("GET", f"/api/v1/chatflows-uploads/{FLOW}")],
)
async def test_fields_of_every_other_request(method_path, start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        await ask(connect, gateway, *method_path)
        line = await gateway.lines.request()
    assert set(line) - {"error"} == FIELDS


SECRETS = [
    {"body": BODY},
    {"Authorization": "Bearer zqxKEY"},
    {"X_API_Key": "zqxKEY"},
    {"Cookie": "zqx=zqx", "User_Agent": "zqx", "Referer": "zqx", "X_Own": "zqx", "Accept": "zqx"},
    {"path": "/api/v1/zqxPATH"},
    {"path": "/t/zqxTOKEN/api/v1/ping", "method": "GET"},
    {"path": f"{PREDICT}?apikey=zqxKEY"},
    {"path": "/api/v1/prediction/zqxFLOW"},
    {"body": b"zqx"},
    {"body": b'{"question":"zqx'},
    {"body": b'{"question":"' + b"zqx" * 9000 + b'"}'},
    {"body": b"zqx", "Content_Type": "text/zqx"},
    {"body": b'{"chatId":"zqx/zqx"}'},
]


@pytest.mark.parametrize("sent", SECRETS)
async def test_no_secret_is_logged(sent, start, connect):
    settings = {"logs": {"level": "debug"}, "upstreams": {"main": {"api_key": "zqxUPSTREAM"}}}
    async with answering(ANSWERED) as upstream, start(upstream.url, **settings) as gateway:
        await ask(connect, gateway, **sent)
        await gateway.lines.request()
    assert "zqx" not in gateway.lines.getvalue()


async def test_prompts_stand_in_the_log_only_when_asked_for(start, connect):
    async with answering(ANSWERED) as upstream, start(upstream.url, logs={"prompts": True}) as gateway:
        await ask(connect, gateway, body=BODY)
        line = await gateway.lines.request()
    assert set(line) - FIELDS == {"prompt"}
    assert line["prompt"] == "zqxPROMPT"
    assert "zqxANSWER" not in str(line)
    assert "zqxEMAIL" not in str(line)


async def test_dropped_legacy_fields_are_named(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        await ask(connect, gateway, body=b'{"question":"hi","history":[{"a":"zqx"}]}')
        line = await gateway.lines.request()
    assert line["dropped"] == ["history"]
    assert upstream.seen[0].json() == {"question": "hi"}
    assert "zqx" not in gateway.lines.getvalue()

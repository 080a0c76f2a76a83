"""A client that holds each request and answer against the OpenAPI document, and one call of every operation."""

from __future__ import annotations

import json

import aiohttp

from tests.harness.openapi import find, mistakes_in_answer, mistakes_in_request, operations

JSON = {"Content-Type": "application/json"}


class Caller:
    def __init__(self, url, key, session):
        self._url = url
        self._session = session
        self.key = {"Authorization": f"Bearer {key}"}
        self.operations = set()
        self.statuses = set()

    async def __call__(self, method, target, body=None, *, is_wrong=False, **headers):
        """Returns status and body; `is_wrong`: the document does not allow the request."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        content = json.dumps(body).encode() if isinstance(body, dict | list) else body or b""
        if isinstance(body, dict | list):
            fields |= JSON
        if not isinstance(body, aiohttp.FormData):
            kind = fields.get("Content-Type", "")
            assert bool(mistakes_in_request(method, target, kind, content)) == is_wrong
        data = content or None
        async with self._session.request(method, self._url + target, data=data, headers=fields) as response:
            got = await response.read()
            lower = {name.lower(): value for name, value in response.headers.items()}
            assert mistakes_in_answer(method, target, response.status, lower, got) == []
            self.operations.add((find(method, target)[0], method.lower()))
            self.statuses.add((find(method, target)[0], response.status))
            return response.status, got


def form(**fields):
    data = aiohttp.FormData(default_to_multipart=True)
    data.add_field("files", b"hello", filename="a.txt", content_type="text/plain")
    for name, value in fields.items():
        data.add_field(name, value)
    return data


async def every_operation(called, *, chat, agent, files, spoken, library, origin):
    """Call each operation of the document once at least, and end with 200 or 204.

    Args:
        called: a `Caller` whose key is valid for all routes.
        chat: route of a chatflow.
        agent: route of an agentflow.
        files: route of a chatflow that takes files.
        spoken: route of a chatflow whose answers are read aloud.
        library: route of a chatflow that stores documents.
        origin: listed in `cors` of `chat`.
    """
    key = called.key
    ask = {"question": "hi [[tokens=2]]", "chatId": "c1"}
    for path in ("prediction", "predictions"):
        status, answer = await called("POST", f"/api/v1/{path}/{chat}", ask, **key)
        assert status == 200
    message = json.loads(answer)["chatMessageId"]
    for more in ({"streaming": True}, {"streaming": True, "overrideConfig": {"sessionId": "s"}}):
        status, answer = await called("POST", f"/api/v1/prediction/{agent}", {**ask, **more}, **key)
        assert (status, b'"event":"end"' in answer) == (200, True)
    encoded = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"question=hi&streaming=true"
    assert (await called("POST", f"/api/v1/prediction/{chat}", body, **encoded, **key))[0] == 200
    rating = {"chatId": "c1", "messageId": message, "rating": "THUMBS_UP", "content": "good"}
    assert (await called("POST", f"/api/v1/feedback/{chat}", rating, **key))[0] == 200
    status, answer = await called("POST", f"/api/v1/feedback/{chat}", rating, **key)
    change = f"/api/v1/feedback/{json.loads(answer)['id']}"
    assert (await called("PUT", change, {"content": "better"}, **key))[0] == 200
    speech = {"chatflowId": spoken, "chatId": "c1", "chatMessageId": message}
    status, answer = await called("POST", "/api/v1/text-to-speech/generate", {**speech, "text": "hi"}, **key)
    assert (status, b"event: tts_end" in answer) == (200, True)
    assert (await called("POST", "/api/v1/text-to-speech/abort", speech, **key))[0] == 200
    assert (await called("POST", f"/api/v1/vector/upsert/{library}", form(chatId="c1"), **key))[0] == 200
    for path in ("/api/v1/leads", "/api/v1/leads/"):
        lead = {"chatflowid": chat, "chatId": "c1", "name": "n", "email": "e@example.com", "phone": "1"}
        assert (await called("POST", path, lead, **key))[0] == 200
    assert (await called("POST", f"/api/v1/attachments/{files}/c1", form(), **key))[0] == 200
    assert (await called("PUT", f"/api/v1/chatmessage/abort/{chat}/c1", **key))[0] == 200
    download = {"chatflowId": files, "chatId": "c1", "fileName": "a.txt"}
    assert (await called("POST", "/api/v1/openai-assistants-file/download", download, **key))[0] == 200
    status, answer = await called(
        "POST", "/gateway/v1/session-tokens", {"caller": "user-7", "routes": [chat], "ttl": "15m"}, **key
    )
    assert status == 200
    base = f"/t/{json.loads(answer)['token']}"
    assert (await called("POST", f"{base}/api/v1/prediction/{chat}", ask))[0] == 200
    for method in ("GET", "HEAD"):
        for path in ("chatflows-streaming", "chatflows-uploads", "public-chatbotConfig"):
            assert (await called(method, f"/api/v1/{path}/{chat}"))[0] == 200
        file = f"/api/v1/get-upload-file?chatflowId={files}&chatId=c1&fileName=a.txt"
        for target in (file, f"{file}&download=true"):
            assert (await called(method, target, **key))[0] == 200
        assert (await called(method, "/api/v1/node-icon/chatOpenAI"))[0] == 200
        assert (await called(method, "/api/v1/ping"))[0] == 200
        assert (await called(method, "/gateway/v1/limits", **key))[0] == 200
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for path, method in operations():
        if method == "options":
            concrete = path.replace("{flow}", chat).replace("{chatId}", "c1").replace("{name}", "x")
            assert (await called("OPTIONS", concrete, **asked))[0] == 204

"""The requests of programs that call Flowise, from their public sources: they pass, or the refusal says what to allow.

Both SDKs and the documentation of Flowise, evolution-api (its Flowise service), the Flowise node of n8n, and the pipe
that Flowise's documentation has for Open WebUI.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.harness.gateway import FLOW
from tests.harness.surface import answering, ask

FLOWISE_KEY = "D2gFs0FQqby9n1OwT-bgqglZ9kGEV-MNIT1Vg9QUTPs"
BEARER = {"Authorization": f"Bearer {FLOWISE_KEY}"}
JID = "5511999999999@s.whatsapp.net"


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        body: as the program writes it.
        refusal: what a route with defaults says; empty: the body passes.
        allowing: keys of a route on which it passes.
        dropped: what a route with defaults leaves out, as its log says.
    """

    body: dict[str, Any]
    refusal: str = ""
    allowing: dict[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


EVOLUTION = {
    "question": "oi",
    "overrideConfig": {
        "sessionId": JID,
        "vars": {
            "remoteJid": JID,
            "pushName": "Ana",
            "instanceName": "loja",
            "serverUrl": "https://evolution.example.com",
            "apiKey": "0F1E2D",
        },
    },
}
IMAGE = {"data": "https://mmg.whatsapp.net/a.jpg", "type": "url", "name": "Flowise.png", "mime": "image/png"}
VARS = {"override_config": {"allow": ["sessionId", "vars.*"]}}
NAMED = "vars.remoteJid, vars.pushName, vars.instanceName, vars.serverUrl, vars.apiKey on this route."
CALLS = {
    "documentation, basic structure": Call(
        {
            "question": "Your message here",
            "streaming": False,
            "overrideConfig": {},
            "history": [],
            "uploads": [],
            "form": {},
        }
    ),
    "documentation, overrides": Call(
        {"question": "Hi", "overrideConfig": {"temperature": 0.2, "maxTokens": 500}},
        "may not set temperature, maxTokens on this route. Allowed: sessionId.",
        {"override_config": {"allow": ["temperature", "maxTokens"]}},
    ),
    "documentation, history": Call(
        {"question": "Hi", "history": [{"role": "userMessage", "content": "I am Ann"}]},
        "",
        {"body": {"allow": ["history"]}},
        ("history",),
    ),
    "documentation, upload": Call(
        {
            "question": "Hi",
            "uploads": [{"data": "data:image/png;base64,AAAA", "type": "file", "name": "a.png"}],
        },
        "write `uploads: true` into the route",
        {"uploads": True},
    ),
    "TypeScript SDK": Call({"chatflowId": FLOW, "question": "hello", "streaming": True}),
    "Python SDK": Call(
        {
            "chatflowId": FLOW,
            "question": "Tell me a joke!",
            "overrideConfig": None,
            "chatId": None,
            "streaming": True,
            "history": [],
            "uploads": [],
        }
    ),
    "evolution-api, text": Call(EVOLUTION, f"may not set {NAMED} Allowed: sessionId.", VARS),
    "evolution-api, audio": Call(
        {**EVOLUTION, "query": "[Audio message could not be transcribed]"}, "override_config.allow", VARS
    ),
    "evolution-api, image": Call(
        {**EVOLUTION, "uploads": [IMAGE]}, "override_config.allow", {**VARS, "uploads": True}
    ),
    "n8n, question alone": Call({"question": "hi"}),
    "n8n, a session": Call({"question": "hi", "overrideConfig": {"sessionId": "s-1"}}),
    "n8n, a question that is a number in a sheet": Call(
        {"question": "42", "overrideConfig": {"sessionId": "7"}}
    ),
    "n8n, every option": Call(
        {
            "question": "hi",
            "overrideConfig": {"sessionId": "s-1", "returnSourceDocuments": True, "vars": {"lang": "de"}},
            "history": [{"role": "apiMessage", "content": "Hello"}],
        },
        "may not set returnSourceDocuments, vars.lang on this route.",
        {
            "override_config": {"allow": ["sessionId", "returnSourceDocuments", "vars.lang"]},
            "body": {"allow": ["history"]},
        },
    ),
    "Open WebUI": Call(
        {"question": "hi", "overrideConfig": {"sessionId": "owui-session"}, "streaming": True}
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("headers", [{}, BEARER], ids=["without a key", "with Flowise's key"])
async def test_a_route_with_defaults_passes_it_or_says_what_to_allow(name, headers, start, connect):
    call = CALLS[name]
    body = json.dumps(call.body).encode()
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, body=body, **headers)
        line = await gateway.lines.request()
    if call.refusal:
        assert (reply.status, upstream.seen) == (400, [])
        assert call.refusal in reply.json()["message"]
        return
    assert reply.status == 200
    assert tuple(line.get("dropped", ())) == call.dropped
    assert call.dropped or _sent(upstream.seen[0], call.body) == call.body


@pytest.mark.parametrize("name", CALLS)
async def test_a_route_that_allows_it_passes_it(name, start, connect):
    """With Flowise's own key, which passes too."""
    call = CALLS[name]
    route = {"auth": ["upstream"], **call.allowing}
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        reply = await ask(
            connect, gateway, body=json.dumps(call.body).encode(), Accept="application/json", **BEARER
        )
        line = await gateway.lines.request()
    assert (reply.status, "dropped" in line) == (200, False)
    assert _sent(upstream.seen[0], call.body) == call.body
    assert upstream.seen[0].fields["authorization"] == BEARER["Authorization"]


@pytest.mark.parametrize("name", CALLS)
async def test_a_route_that_binds_conversations_answers_it_too(name, start, connect):
    call = CALLS[name]
    route = {"conversations": {"bind": True}, **call.allowing}
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        reply = await ask(connect, gateway, body=json.dumps(call.body).encode())
    assert reply.status == 200
    session = (upstream.seen[0].json().get("overrideConfig") or {}).get("sessionId")
    given = (call.body.get("overrideConfig") or {}).get("sessionId")
    assert (session is None) == (given is None)
    assert given is None or session != given


async def test_open_webui_also_lists_chatflows_which_is_not_served(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "GET", "/api/v1/chatflows?type=AGENTFLOW", **BEARER)
    assert (reply.status, reply.json()["code"], upstream.seen) == (404, "unknown_route", [])
    assert "A prediction is POST /api/v1/prediction/" in reply.json()["message"]


def _sent(seen, given):
    """The body for Flowise, with the client's own chatId in place of the one that a stream without any gets."""
    body = seen.json()
    if body.get("streaming") and body.get("chatId") != given.get("chatId"):
        body.pop("chatId")
        return body | {name: None for name in given if name == "chatId"}
    return body

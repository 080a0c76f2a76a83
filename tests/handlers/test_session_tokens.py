"""A backend requests tokens for browser users; tokens in the base path."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest

from gateway.auth.session_tokens import SessionTokens
from tests.harness.api_keys import key_of
from tests.harness.gateway import FLOW
from tests.harness.issuer import Issuer
from tests.harness.surface import ANSWER, JSON_KEYS, PREDICT, answering, ask

SECRET = "s" * 32
MINT = "/gateway/v1/session-tokens"
APP = "https://app.example.com"
OTHER = {"name": "other", "chatflow": "12345678-1111-4222-8333-444455556666", "upstream": "main"}


def routes(**keys):
    chat = {"name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ["api_key", "session"], **keys}
    keys_only = {"name": "keys", "chatflow": f"{FLOW[:-1]}9", "upstream": "main", "auth": ["api_key"]}
    return [chat, {**OTHER, "auth": ["session"]}, keys_only]


SECTIONS = {"auth": {"secret": SECRET}, "routes": routes()}


async def mint(connect, gateway, key, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(connect, gateway, "POST", MINT, content, Authorization=f"Bearer {key}", **headers)


@pytest.mark.parametrize(
    ("body", "allowed", "seconds"),
    [
        ({"caller": "user-7"}, {"chat", "other"}, 900),
        ({"caller": "user-7", "routes": None, "ttl": None}, {"chat", "other"}, 900),
        ({"caller": "user-7", "routes": ["chat"], "ttl": "1h"}, {"chat"}, 3600),
        ({"caller": "user-7", "routes": ["chat", FLOW, "other"], "ttl": "24h"}, {"chat", "other"}, 86400),
        ({"caller": "user-7", "routes": [OTHER["chatflow"]], "ttl": "1500ms"}, {"other"}, 1),
    ],
)
async def test_a_token_allows_what_was_requested(body, allowed, seconds, start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    async with answering() as upstream, start(upstream.url, **SECTIONS) as gateway:
        before = int(time.time())
        reply = await mint(connect, gateway, key, body)
        content = reply.json()
        assert (reply.status, reply.fields["cache-control"], set(content)) == (
            200,
            "no-store",
            {"token", "expires_at"},
        )
        expires = datetime.fromisoformat(content["expires_at"]).timestamp()
        assert before + seconds <= expires <= time.time() + seconds
        opened = set()
        for route in ("chat", "other"):
            path = f"/api/v1/prediction/{route}"
            answer = await ask(connect, gateway, path=path, Authorization=f"Bearer {content['token']}")
            opened |= {route} if answer.status == 200 else set()
        lines = await gateway.lines.until("request", 3)
    assert opened == allowed
    assert (lines[0]["endpoint"], lines[0]["status"], lines[0]["outcome"]) == ("session_tokens", 200, "ok")
    assert (lines[0]["caller"], lines[0]["route"]) == ("key:backend", None)
    assert lines[1]["caller"] == "session:backend/user-7"
    assert content["token"] not in gateway.lines.getvalue()


async def test_a_token_never_allows_more_than_its_key(start, connect, tmp_path):
    key = await key_of(tmp_path, "narrow", routes=("other",))
    async with answering() as upstream, start(upstream.url, **SECTIONS) as gateway:
        token = (await mint(connect, gateway, key, {"caller": "u"})).json()["token"]
        beyond = await mint(connect, gateway, key, {"caller": "u", "routes": ["other", "chat"]})
        refused = await ask(connect, gateway, Authorization=f"Bearer {token}")
        answered = await ask(
            connect, gateway, path="/api/v1/prediction/other", Authorization=f"Bearer {token}"
        )
    assert (beyond.status, beyond.json()["code"]) == (403, "forbidden")
    assert 'may not use the route "chat"' in beyond.json()["message"]
    assert (refused.status, answered.status) == (403, 200)


BAD = {
    "no caller": ({}, "caller must be a string"),
    "caller null": ({"caller": None}, "caller must be a string"),
    "caller a number": ({"caller": 7}, "caller must be a string"),
    "caller empty": ({"caller": ""}, "caller must be 1 to 256 characters"),
    "caller of two lines": ({"caller": "a\nb"}, "without control characters"),
    "caller with half a character": (b'{"caller":"\\ud800"}', "half surrogate pairs"),
    "caller too long": ({"caller": "a" * 241}, "at most 256 characters"),
    "routes a text": ({"caller": "u", "routes": "chat"}, "routes must be a list"),
    "routes of numbers": ({"caller": "u", "routes": [1]}, "routes must be a list"),
    "routes empty": ({"caller": "u", "routes": []}, "routes is empty"),
    "route without session": (
        {"caller": "u", "routes": ["chat", "keys"]},
        '"keys" takes no session tokens; add session to its auth.',
    ),
    "route unknown": ({"caller": "u", "routes": ["shop"]}, 'no route "shop"'),
    "ttl without unit": ({"caller": "u", "ttl": "15"}, "ttl has no unit"),
    "ttl a number": ({"caller": "u", "ttl": 900}, "ttl is not a duration"),
    "ttl nothing": ({"caller": "u", "ttl": "0s"}, "ttl must be from 1s to 1d"),
    "ttl too long": ({"caller": "u", "ttl": "25h"}, "ttl must be from 1s to 1d"),
    "another field": ({"caller": "u", "admin": True}, "admin is not a field of this request"),
    "a list": (b"[]", "must be a JSON object"),
    "no JSON": (b"caller=u", "not valid JSON"),
    "nothing": (b"", "needs one Content-Type"),
    "twice": (b'{"caller":"u","caller":"v"}', "caller twice"),
    "too large": (b'{"caller":"%b"}' % (b"a" * 70000), "larger than"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_wrong_request_is_refused(name, start, connect, tmp_path):
    body, words = BAD[name]
    key = await key_of(tmp_path, "backend")
    async with answering() as upstream, start(upstream.url, **SECTIONS) as gateway:
        reply = await mint(connect, gateway, key, body)
    assert reply.status == (413 if name == "too large" else 400)
    assert words in reply.json()["message"]
    assert list(reply.json()) == JSON_KEYS
    assert upstream.seen == []


async def test_the_longest_caller_is_accepted(start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    user = "a" * (256 - len("session:backend/"))
    async with answering() as upstream, start(upstream.url, **SECTIONS) as gateway:
        token = (await mint(connect, gateway, key, {"caller": user})).json()["token"]
        assert (await ask(connect, gateway, Authorization=f"Bearer {token}")).status == 200
        line = (await gateway.lines.until("request", 2))[1]
    assert line["caller"] == f"session:backend/{user}"


async def test_only_a_key_may_request_tokens(start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    async with Issuer() as issuer, answering() as upstream:
        auth = {"secret": SECRET, "jwt": [issuer.settings]}
        async with start(upstream.url, auth=auth, routes=routes()) as gateway:
            token = (await mint(connect, gateway, key, {"caller": "u"})).json()["token"]
            for credential in (token, issuer.token()):
                reply = await mint(connect, gateway, credential, {"caller": "v"})
                assert (reply.status, reply.json()["code"]) == (403, "forbidden")
                assert reply.json()["message"] == "Session tokens are issued only for an API key; send one."
            in_path = await ask(connect, gateway, "POST", f"/t/{token}{MINT}", b'{"caller":"v"}')
            assert in_path.status == 403
            get = await ask(connect, gateway, "GET", MINT, Authorization=f"Bearer {key}")
            assert (get.status, get.fields["allow"]) == (405, "POST, OPTIONS")


async def test_the_default_origins_may_request_tokens(start, connect, tmp_path):
    """The request names no route, so `defaults.cors` decides."""
    key = await key_of(tmp_path, "backend")
    sections = {**SECTIONS, "defaults": {"cors": {"origins": [APP]}}}
    async with answering() as upstream, start(upstream.url, **sections) as gateway:
        reply = await mint(connect, gateway, key, {"caller": "u"}, Origin=APP)
        assert (reply.status, reply.fields["access-control-allow-origin"]) == (200, APP)
        assert (
            await mint(connect, gateway, key, {"caller": "u"}, Origin="https://evil.example")
        ).status == 403


# -- in the base path ------------------------------------------------------------------------------

PLACES = {
    "prediction": ("POST", PREDICT, b'{"question":"q"}', {}),
    "settings": ("GET", "/api/v1/public-chatbotConfig/chat", b"", {}),
    "abort": ("PUT", "/api/v1/chatmessage/abort/chat/c", b"", {}),
    "file": ("GET", "/api/v1/get-upload-file?chatflowId=chat&chatId=c&fileName=a.png", b"", {}),
    "ping": ("GET", "/api/v1/ping", b"", {}),
    "refused": ("POST", PREDICT, b"[]", {}),
    "unknown": ("GET", "/api/v1/no", b"", {}),
    "nothing": ("GET", "", b"", {}),
    "forbidden origin": ("POST", PREDICT, b"{}", {"Origin": "https://evil.example"}),
    "preflight": ("OPTIONS", PREDICT, b"", {"Origin": APP}),
    "stream": ("POST", PREDICT, b'{"question":"q","streaming":true}', {"Accept": "text/event-stream"}),
    "refused stream": ("POST", PREDICT, b"[]", {"Accept": "text/event-stream"}),
}


@pytest.mark.parametrize("name", PLACES)
async def test_a_token_in_the_path_is_neither_logged_nor_forwarded(name, start, connect, tmp_path):
    method, path, body, headers = PLACES[name]
    key = await key_of(tmp_path, "backend")
    sections = {**SECTIONS, "routes": routes(cors={"origins": [APP]})}
    async with answering(ANSWER) as upstream, start(upstream.url, **sections) as gateway:
        token = (await mint(connect, gateway, key, {"caller": "u"})).json()["token"]
        reply = await ask(connect, gateway, method, f"/t/{token}{path}", body, **headers)
        metrics = await gateway.metrics()
        await gateway.lines.until("request", 2)
    assert reply.fields["referrer-policy"] == "no-referrer"
    assert reply.fields["cache-control"] == "private, no-store"
    output = gateway.lines.getvalue() + "".join(metrics) + reply.body.decode()
    assert token not in output
    assert token.partition(".")[0] not in output
    for seen in upstream.seen:
        assert token not in (seen.head + seen.body).decode()
        assert "/t/" not in seen.target
    assert not [target for target in upstream.aborts if token in target]


WRONG_PATHS = {
    "no token": ("/t/", 400, "bad_request"),
    "empty token": (f"/t//{PREDICT}", 400, "bad_request"),
    "encoded letter": ("/t/fgs_%61.b" + PREDICT, 400, "bad_request"),
    "odd letter": ("/t/fgs_a;b" + PREDICT, 400, "bad_request"),
    "malformed": ("/t/fgs_a.b" + PREDICT, 401, "unauthenticated"),
    "jwt": ("/t/a.b.c" + PREDICT, 401, "unauthenticated"),
    "upper case": ("/T/fgs_a.b" + PREDICT, 404, "unknown_route"),
    "token twice": ("/t/fgs_a.b/t/fgs_a.b" + PREDICT, 404, "unknown_route"),
    "dots for a token": ("/t/.." + PREDICT, 401, "unauthenticated"),
    "behind the path": (PREDICT + "/t/fgs_a.b", 404, "unknown_route"),
}


@pytest.mark.parametrize("name", WRONG_PATHS)
async def test_a_wrong_base_path_is_refused(name, start, connect, tmp_path):
    path, status, code = WRONG_PATHS[name]
    async with answering() as upstream, start(upstream.url, **SECTIONS) as gateway:
        reply = await ask(connect, gateway, path=path)
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert upstream.seen == []


async def test_a_key_in_the_path_is_refused(start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    async with answering() as upstream, start(upstream.url, **SECTIONS) as gateway:
        reply = await ask(connect, gateway, path=f"/t/{key}{PREDICT}")
        await gateway.lines.request()
    assert (reply.status, "Only session tokens are allowed" in reply.json()["message"]) == (401, True)
    assert key not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


async def test_the_first_secret_signs_and_all_verify(start, connect, tmp_path):
    old, new = "o" * 32, "n" * 32
    key = await key_of(tmp_path, "backend")
    async with answering() as upstream:
        async with start(upstream.url, auth={"secret": old}, routes=routes()) as gateway:
            older = (await mint(connect, gateway, key, {"caller": "u"})).json()["token"]
        async with start(upstream.url, auth={"secret": [new, old]}, routes=routes()) as gateway:
            newer = (await mint(connect, gateway, key, {"caller": "u"})).json()["token"]
            for token in (older, newer):
                assert (await ask(connect, gateway, Authorization=f"Bearer {token}")).status == 200
        async with start(upstream.url, auth={"secret": new}, routes=routes()) as gateway:
            assert (await ask(connect, gateway, Authorization=f"Bearer {older}")).status == 401
    assert SessionTokens([new.encode()]).read(newer).user == "u"

"""Credentials that are not of this gateway: refused, ignored, or a key of Flowise that passes to Flowise."""

from __future__ import annotations

import hashlib
import json

import jwt
import pytest

from tests.harness.api_keys import key_of, mistyped
from tests.harness.gateway import FLOW
from tests.harness.issuer import Issuer, private_key
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.surface import PREDICT, answering, ask

FLOWISE_KEY = "D2gFs0FQqby9n1OwT-bgqglZ9kGEV-MNIT1Vg9QUTPs"
CALLER = f"flowise:{hashlib.sha256(FLOWISE_KEY.encode()).hexdigest()[:32]}"
NOT_OURS = "This is no key of this gateway."
FOREIGN = {
    "basic authentication of nginx": {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="},
    "the key of an outer gateway": {"X_API_Key": "outer-1234"},
    "nothing behind Bearer": {"Authorization": "Bearer "},
    "an empty field": {"Authorization": ""},
    "a key of Flowise": {"Authorization": f"Bearer {FLOWISE_KEY}"},
    "a key of Flowise without Bearer": {"Authorization": FLOWISE_KEY},
    "several": {"Authorization": "Basic dTpw", "X_API_Key": "outer"},
    "a key in upper case": {"Authorization": "Bearer FGW_ABC"},
    "not ASCII": {"Authorization": "Bearer schlüssel"},
    "huge": {"Authorization": "Bearer " + "a" * 8000},
}


def of_another_issuer():
    return jwt.encode(
        {"iss": "https://other.example.com", "sub": "a"}, private_key("another"), algorithm="RS256"
    )


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize(
    "path", [PREDICT, f"/api/v1/feedback/{FLOW}", "/api/v1/leads", f"/api/v1/attachments/{FLOW}/c"]
)
async def test_an_anonymous_route_ignores_them(name, path, start, connect):
    body = {"chatId": "c", "messageId": "m"} if "feedback" in path else {"question": "q"}
    body = {"chatflowid": "chat"} if path.endswith("leads") else body
    async with (
        answering() as upstream,
        start(upstream.url, upstreams={"main": {"api_key": "ours"}}) as gateway,
    ):
        reply = await ask(connect, gateway, path=path, body=json.dumps(body).encode(), **FOREIGN[name])
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    assert (line["caller"], line["auth"], line["foreign_credential"]) == ("anonymous", "anonymous", "ignored")
    assert metrics['flowise_gateway_auth_total{method="anonymous",result="ok"}'] == 1
    if "attachments" in path:
        assert "Uploads are off" in reply.json()["message"]
        return
    assert reply.status == 200
    assert [seen.fields["authorization"] for seen in upstream.seen] == ["Bearer ours"]
    assert "x-api-key" not in upstream.seen[0].fields


@pytest.mark.parametrize(
    "route", [{"auth": ["api_key"]}, {"auth": ["anonymous"], "foreign_credentials": "refuse"}]
)
@pytest.mark.parametrize("name", sorted(FOREIGN.keys() - {"several"}))
async def test_other_routes_refuse_them_with_a_sentence_that_fits(name, route, start, connect):
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        reply = await ask(connect, gateway, **FOREIGN[name])
        line = await gateway.lines.request()
    assert (reply.status, reply.json()["code"]) == (401, "unauthenticated")
    assert reply.json()["message"].startswith(NOT_OURS)
    assert (line["auth"], line["caller"]) == ("unknown", None)
    assert "foreign_credential" not in line
    assert FLOWISE_KEY not in gateway.lines.getvalue() + reply.body.decode()
    assert upstream.seen == []


async def test_basic_authentication_and_an_api_key_go_together_where_foreign_ones_are_ignored(
    start, connect, tmp_path
):
    key = await key_of(tmp_path, "backend")
    route = {"auth": ["api_key"], "foreign_credentials": "ignore"}
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        basic = FOREIGN["basic authentication of nginx"]
        assert (await ask(connect, gateway, X_API_Key=key, **basic)).status == 200
        alone = await ask(connect, gateway, **basic)
        twice = await ask(connect, gateway, X_API_Key=key, Authorization=f"Bearer {key}")
        lines = await gateway.lines.until("request", 3)
    assert (alone.status, alone.json()["message"].split(",")[0]) == (401, "This chatflow requires an API key")
    assert (twice.status, len(upstream.seen)) == (400, 1)
    assert lines[0]["caller"] == "key:backend"


@pytest.mark.parametrize("make", [mistyped, lambda _: "fgw_", lambda _: "fgs_x.y"])
async def test_what_has_our_prefix_is_checked_where_foreign_ones_are_ignored(make, start, connect, tmp_path):
    text = make(await key_of(tmp_path, "backend"))
    async with answering() as upstream, start(upstream.url) as gateway:
        for headers in ({"Authorization": f"Bearer {text}"}, {"X_API_Key": text}, {"Authorization": text}):
            assert (await ask(connect, gateway, **headers)).status == 401
    assert upstream.seen == []


async def test_a_jwt_of_a_configured_issuer_is_checked_and_one_of_another_is_ignored(start, connect):
    async with Issuer() as issuer, answering() as upstream:
        auth = {"jwt": [issuer.settings]}
        async with start(upstream.url, auth=auth) as gateway:
            replies = [
                await ask(connect, gateway, Authorization=f"Bearer {token}")
                for token in (issuer.token(), issuer.token(exp=1_000_000_000), of_another_issuer(), "a.b.c")
            ]
            lines = await gateway.lines.until("request", 4)
    assert [reply.status for reply in replies] == [200, 401, 200, 200]
    assert "has expired" in replies[1].json()["message"]
    assert [line["caller"] for line in lines[2:]] == ["anonymous", "anonymous"]


async def test_a_lead_is_checked_again_once_its_body_names_the_route(start, connect, tmp_path):
    """Before it, everything is ignored that one route ignores."""
    other = {"name": "shop", "chatflow": FLOW.replace("3f", "4f"), "upstream": "main", "auth": ["upstream"]}
    open_route = {
        "name": "open",
        "chatflow": FLOW.replace("3f", "5f"),
        "upstream": "main",
        "auth": ["anonymous"],
    }
    closed = {"name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ["api_key"]}
    asked = {"Authorization": f"Bearer {FLOWISE_KEY}"}
    strict = {
        **open_route,
        "name": "strict",
        "chatflow": FLOW.replace("3f", "6f"),
        "foreign_credentials": "refuse",
    }
    routes = json.loads(json.dumps([closed, other, open_route, strict]))  # YAML would alias what occurs twice
    async with answering() as upstream, start(upstream.url, routes=routes) as gateway:
        replies = {
            (flow, name): await ask(
                connect,
                gateway,
                path="/api/v1/leads",
                body=json.dumps({"chatflowid": flow}).encode(),
                **headers,
            )
            for flow in ("chat", "shop", "open", "strict")
            for name, headers in {"key": asked, "basic": {"Authorization": "Basic dTpw"}}.items()
        }
    assert {key: reply.status for key, reply in replies.items()} == {
        ("chat", "key"): 401, ("chat", "basic"): 401, ("shop", "key"): 200, ("shop", "basic"): 401,
        ("open", "key"): 200, ("open", "basic"): 200, ("strict", "key"): 401, ("strict", "basic"): 401,
    }  # fmt: skip
    assert [seen.fields.get("authorization") for seen in upstream.seen] == [
        f"Bearer {FLOWISE_KEY}",
        None,
        None,
    ]


UPSTREAM = {"auth": ["upstream"], "conversations": {"bind": True}}
KEYED = {"main": {"api_key": "configured"}}


@pytest.mark.parametrize("header", [f"Bearer {FLOWISE_KEY}", f"bearer {FLOWISE_KEY}", FLOWISE_KEY])
async def test_a_key_of_flowise_passes_in_place_of_the_configured_one(header, start, connect):
    async with answering() as upstream, start(upstream.url, route=UPSTREAM, upstreams=KEYED) as gateway:
        assert (await ask(connect, gateway, Authorization=header)).status == 200
        line = await gateway.lines.request()
        metrics = await gateway.metrics()
    (seen,) = upstream.seen
    assert seen.head.lower().count(b"authorization:") == 1
    assert seen.fields["authorization"] == f"Bearer {FLOWISE_KEY}"
    assert b"configured" not in seen.head
    assert (line["caller"], line["auth"]) == (CALLER, "upstream")
    assert metrics['flowise_gateway_auth_total{method="upstream",result="ok"}'] == 1
    assert FLOWISE_KEY not in gateway.lines.getvalue()


async def test_both_kinds_of_keys_are_never_mixed(start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    route = {"auth": ["upstream", "api_key"]}
    async with answering() as upstream, start(upstream.url, route=route, upstreams=KEYED) as gateway:
        for header in (f"Bearer {key}", f"Bearer {FLOWISE_KEY}"):
            assert (await ask(connect, gateway, Authorization=header)).status == 200
        both = await ask(connect, gateway, Authorization=f"Bearer {FLOWISE_KEY}", X_API_Key=key)
        without = await ask(connect, gateway)
        in_another_field = await ask(connect, gateway, X_API_Key=FLOWISE_KEY)
        typo = await ask(connect, gateway, Authorization=f"Bearer {mistyped(key)}")
    assert [seen.fields["authorization"] for seen in upstream.seen] == [
        "Bearer configured",
        f"Bearer {FLOWISE_KEY}",
    ]
    assert [reply.status for reply in (both, without, in_another_field, typo)] == [400, 401, 401, 401]
    assert "Flowise takes its own only as `Authorization" in in_another_field.json()["message"]
    assert "an API key or a key of Flowise" in without.json()["message"]


async def test_every_endpoint_of_a_conversation_goes_by_the_key(start, connect):
    """Abort, feedback, attachments and files, each with the conversation of this key alone."""
    route = {**UPSTREAM, "uploads": True}
    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    multipart = {"Content_Type": "multipart/form-data; boundary=b"}
    calls = [
        ("POST", PREDICT, b'{"question":"q","chatId":"c"}', {}),
        ("POST", f"/api/v1/feedback/{FLOW}", b'{"chatId":"c","messageId":"m"}', {}),
        ("POST", f"/api/v1/attachments/{FLOW}/c", form, multipart),
        ("GET", f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a", b"", {}),
    ]
    chats = {}
    async with answering() as upstream, start(upstream.url, route=route, upstreams=KEYED) as gateway:
        for key in (FLOWISE_KEY, "another"):
            for method, path, body, headers in calls:
                sent = {**headers, "Authorization": f"Bearer {key}"}
                assert (await ask(connect, gateway, method, path, body, **sent)).status == 200, path
            await ask(
                connect, gateway, "PUT", f"/api/v1/chatmessage/abort/{FLOW}/c", Authorization=f"Bearer {key}"
            )
            predict, feedback, attachment, file = upstream.seen[-4:]
            chats[key] = predict.json()["chatId"]
            assert feedback.json()["chatId"] == chats[key]
            assert chats[key] in attachment.target
            assert chats[key] in file.target
            assert chats[key] in upstream.abort_calls[-1].target
            assert upstream.abort_calls[-1].fields["authorization"] == f"Bearer {key}"
            assert {seen.fields["authorization"] for seen in upstream.seen[-4:]} == {f"Bearer {key}"}
        for method, path, body, headers in calls:
            assert (await ask(connect, gateway, method, path, body, **headers)).status == 401
    assert len(set(chats.values())) == 2


async def test_limits_count_its_address_as_well_because_anybody_can_make_up_keys(start, connect):
    limits = [{"name": "burst", "requests": 2, "per": "1h", "by": "caller"}]
    route = {**UPSTREAM, "limits": limits}
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        replies = [await ask(connect, gateway, Authorization=f"Bearer made-up-{at}") for at in range(3)]
        status = await ask(connect, gateway, "GET", "/gateway/v1/limits", Authorization="Bearer made-up-0")
        lines = await gateway.lines.until("request", 4)
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert 'The limit "address:burst" is used up' in replies[2].json()["message"]
    assert replies[0].fields["ratelimit"] == '"burst";r=1;t=1800, "address:burst";r=1;t=1800'
    assert lines[2]["limited_by"] == "address:burst"
    assert [(limit["name"], limit["remaining"]) for limit in status.json()["limits"]] == [
        ("burst", 1), ("address:burst", 0),
    ]  # fmt: skip
    assert len(upstream.seen) == 2


async def test_a_wrong_key_of_a_client_says_nothing_about_the_configured_one(start, connect):
    """Else anybody could make the gateway report that the chatflow wants a key."""
    wrong = b'{"statusCode":500,"success":false,"message":"Error: predictionsServices.buildChatflow - Unauthorized"}'

    async def script(peer, seen):
        is_right = seen.fields.get("authorization") == f"Bearer {FLOWISE_KEY}"
        peer.answer(
            b'{"text":"a"}' if is_right else wrong, "200 OK" if is_right else "500 Internal Server Error"
        )

    route = {"auth": ["upstream", "anonymous"], "conversations": {"bind": False}}
    async with RawUpstream(script) as upstream, start(upstream.url, route=route) as gateway:
        assert (await ask(connect, gateway, Authorization="Bearer wrong")).status == 500
        await gateway.lines.until("request", 1)
        assert gateway.lines.of("chatflow_wants_key") == []
        assert (await ask(connect, gateway)).status == 500
        await gateway.lines.until("chatflow_wants_key")
        assert (await ask(connect, gateway, Authorization=f"Bearer {FLOWISE_KEY}")).status == 200
        await gateway.lines.until("request", 3)
        assert len(gateway.lines.of("chatflow_wants_key")) == 1
        assert len(gateway.lines.of("chatflow_found")) == 1


async def test_the_abort_for_a_client_that_left_has_its_key(start, connect):
    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(b'message:\ndata:{"event":"token","data":"a"}\n\n')
        await upstream.aborted.wait()
        peer.chunk(b"")

    async with (
        RawUpstream(script) as upstream,
        start(upstream.url, route=UPSTREAM, upstreams=KEYED) as gateway,
    ):
        async with connect(gateway) as wire:
            wire.send(request("POST", PREDICT, b'{"streaming":true}', Authorization=f"Bearer {FLOWISE_KEY}"))
            await wire.head()
            await wire.until(b'"token"')
        await upstream.aborted.wait()
    assert [call.fields["authorization"] for call in upstream.abort_calls] == [f"Bearer {FLOWISE_KEY}"]


async def test_the_shared_settings_of_the_widget_are_not_asked_with_a_key_of_a_client(start, connect):
    path = f"/api/v1/public-chatbotConfig/{FLOW}"
    async with answering(b"{}") as upstream, start(upstream.url, route=UPSTREAM, upstreams=KEYED) as gateway:
        reply = await ask(connect, gateway, "GET", path, Authorization=f"Bearer {FLOWISE_KEY}")
    assert (reply.status, upstream.seen[0].fields["authorization"]) == (200, "Bearer configured")


async def test_no_session_token_is_issued_for_a_key_of_flowise(start, connect):
    async with answering() as upstream, start(upstream.url, route=UPSTREAM) as gateway:
        reply = await ask(
            connect, gateway, path="/gateway/v1/session-tokens", body=b'{"caller":"a"}',
            Authorization=f"Bearer {FLOWISE_KEY}",
        )  # fmt: skip
    assert (reply.status, reply.json()["message"].startswith(NOT_OURS)) == (401, True)

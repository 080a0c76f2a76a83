"""`vars` from the claims of a token: `{claims.NAME}` of a JWT, `{session.NAME}` of a session token."""

from __future__ import annotations

import json

import pytest

from tests.harness.api_keys import key_of
from tests.harness.gateway import FLOW
from tests.harness.issuer import Issuer
from tests.harness.raw_client import request
from tests.harness.surface import PREDICT, QUESTION, answering, ask

SECRET = "s" * 32
JWT = {"auth": ["jwt"], "vars": {"tenant": "{claims.tenant}", "plan": "{claims.plan:-free}"}}
SESSION = {"auth": ["api_key", "session"], "vars": {"tenant": "{session.tenant}"}}


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ({"tenant": "acme"}, {"tenant": "acme", "plan": "free"}),
        ({"tenant": "Grüße 😀", "plan": 7}, {"tenant": "Grüße 😀", "plan": "7"}),
        ({"tenant": True, "plan": None}, {"tenant": "true", "plan": "free"}),
        ({"tenant": '"},"chatId":"x', "plan": "{user}"}, {"tenant": '"},"chatId":"x', "plan": "{user}"}),
    ],
)
async def test_claims_of_a_jwt_reach_flowise_as_vars(claims, wanted, start, connect):
    async with Issuer() as issuer, answering() as upstream:
        async with start(upstream.url, route=JWT, auth={"jwt": [issuer.settings]}) as gateway:
            for _ in range(2):  # the second time from the cache
                token = issuer.token(**claims)
                assert (await ask(connect, gateway, Authorization=f"Bearer {token}")).status == 200
    assert [seen.json()["overrideConfig"]["vars"] for seen in upstream.seen] == [wanted] * 2
    assert "chatId" not in upstream.seen[0].json()


HOSTILE = {
    "missing": ({}, "requires a JWT with the claim tenant"),
    "null": ({"tenant": None}, "requires a JWT with the claim tenant"),
    "empty": ({"tenant": ""}, "requires a JWT with the claim tenant"),
    "a header": ({"tenant": "a\r\nX-Evil: 1"}, "cannot be used"),
    "NUL": ({"tenant": "a\x00b"}, "cannot be used"),
    "half a surrogate pair": ({"tenant": "\ud800"}, "cannot be used"),
    "huge": ({"tenant": "a" * 257}, "cannot be used"),
    "a huge number": ({"tenant": 10**300}, "cannot be used"),
    "nested": ({"tenant": {"id": "acme"}}, "cannot be used"),
    "a list": ({"tenant": ["acme", "shop"]}, "cannot be used"),
    "nested although there is a default": (
        {"tenant": "acme", "plan": {"a": 1}},
        "The claim plan cannot be used",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_claim_that_cannot_be_used_is_403_before_the_body_is_read(name, start, connect):
    claims, words = HOSTILE[name]
    async with Issuer() as issuer, answering() as upstream:
        async with (
            start(upstream.url, route=JWT, auth={"jwt": [issuer.settings]}) as gateway,
            connect(gateway) as wire,
        ):
            headers = {"Authorization": f"Bearer {issuer.token(**claims)}", "Expect": "100-continue"}
            wire.send(request("POST", PREDICT, QUESTION, **headers)[: -len(QUESTION)])
            reply = await wire.reply()
    assert (reply.status, reply.json()["code"]) == (403, "forbidden")
    assert words in reply.json()["message"]
    assert upstream.seen == []


async def test_a_stored_file_in_a_claim_is_refused(start, connect):
    async with Issuer() as issuer, answering() as upstream:
        async with start(upstream.url, route=JWT, auth={"jwt": [issuer.settings]}) as gateway:
            token = issuer.token(tenant="FILE\\u002dSTORAGE::x")
            reply = await ask(connect, gateway, Authorization=f"Bearer {token}")
    assert (reply.status, "FILE-STORAGE::" in reply.json()["message"]) == (400, True)
    assert upstream.seen == []


async def mint(connect, gateway, key, **fields):
    body = json.dumps({"caller": "ann", **fields}).encode()
    return await ask(connect, gateway, "POST", "/gateway/v1/session-tokens", body, X_API_Key=key)


async def test_claims_of_a_session_token_reach_flowise_and_no_user_can_change_them(start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    async with (
        answering() as upstream,
        start(upstream.url, route=SESSION, auth={"secret": SECRET}) as gateway,
    ):
        token = (await mint(connect, gateway, key, claims={"tenant": "acme", "n": 1, "x": None})).json()[
            "token"
        ]
        for headers in ({"Authorization": f"Bearer {token}"}, {"path": f"/t/{token}{PREDICT}"}):
            assert (await ask(connect, gateway, **headers)).status == 200
        own = json.dumps({"overrideConfig": {"vars": {"tenant": "shop"}}}).encode()
        chosen = await ask(connect, gateway, body=own, Authorization=f"Bearer {token}")
        forged = await ask(connect, gateway, Authorization=f"Bearer {token[:60]}A{token[61:]}")
        bare = (await mint(connect, gateway, key)).json()["token"]
        without = await ask(connect, gateway, Authorization=f"Bearer {bare}")
        by_key = await ask(connect, gateway, X_API_Key=key)
    assert [seen.json()["overrideConfig"]["vars"] for seen in upstream.seen] == [{"tenant": "acme"}] * 2
    assert (chosen.status, forged.status, without.status, by_key.status) == (400, 401, 403, 403)
    assert "requires a session token with the claim tenant" in by_key.json()["message"]


BAD = {
    "a list": ([], "claims must be a JSON object"),
    "too many": ({f"c{at}": 1 for at in range(17)}, "claims has 17 members; send at most 16"),
    "a long name": ({"a" * 65: 1}, "1 to 64 of the characters"),
    "a name with a brace": ({"a}": 1}, "1 to 64 of the characters"),
    "a header": ({"a": "x\r\ny"}, "claims.a must be a number"),
    "half a surrogate pair": ({"a": "\ud800"}, "claims.a must be a number"),
    "long": ({"a": "x" * 257}, "claims.a must be a number"),
    "longer": ({"a": "x" * 5000}, "claims.a must be a number"),
    "a huge number": ({"a": 10**4000}, "claims.a must be a number"),
    "a larger number": (b'{"caller":"a","claims":{"a":%s}}' % (b"1" * 6000), "claims.a must be a number"),
    "nested": ({"a": {"b": 1}}, "claims.a must be a number"),
    "a list in it": ({"a": ["b"]}, "claims.a must be a number"),
    "too large together": (
        {f"c{at}": "x" * 250 for at in range(16)},
        "longer than 4096 characters: name fewer routes",
    ),
    "twice": (b'{"caller":"a","claims":{"a":1,"a":2}}', "the name a twice"),
}


@pytest.mark.parametrize("name", BAD)
async def test_claims_that_a_token_cannot_hold_are_refused(name, start, connect, tmp_path):
    claims, words = BAD[name]
    key = await key_of(tmp_path, "backend")
    body = claims if isinstance(claims, bytes) else json.dumps({"caller": "a", "claims": claims}).encode()
    async with (
        answering() as upstream,
        start(upstream.url, route=SESSION, auth={"secret": SECRET}) as gateway,
    ):
        reply = await ask(connect, gateway, "POST", "/gateway/v1/session-tokens", body, X_API_Key=key)
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")
    assert words in reply.json()["message"]


async def test_a_claim_is_needed_for_predictions_alone(start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    feedback = b'{"chatId":"c","messageId":"m"}'
    async with (
        answering() as upstream,
        start(upstream.url, route=SESSION, auth={"secret": SECRET}) as gateway,
    ):
        reply = await ask(connect, gateway, path=f"/api/v1/feedback/{FLOW}", body=feedback, X_API_Key=key)
    assert (reply.status, len(upstream.seen)) == (200, 1)

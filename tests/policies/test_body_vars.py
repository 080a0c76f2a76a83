"""`vars`: set by the gateway in overrideConfig, never by a client."""

from __future__ import annotations

import json

import pytest

from tests.harness.api_keys import key_of, two_keys
from tests.harness.surface import answering, ask

ROUTE = {
    "auth": ["api_key"],
    "vars": {"who": "{caller}", "user": "u-{user}", "route": "{route}", "fixed": "{user}{route}"},
    "override_config": {"allow": ["vars.own"]},
    "uploads": True,
}
WANTED = {"who": "key:ann", "user": "u-ann", "route": "chat", "fixed": "annchat"}


@pytest.mark.parametrize(
    ("body", "kind", "own"),
    [
        (b'{"question":"q"}', "application/json", {}),
        (b'{"question":"q","overrideConfig":{"vars":{"own":1}}}', "application/json", {"own": 1}),
        (b"question=q", "application/x-www-form-urlencoded", {}),
    ],
)
async def test_vars_are_set(body, kind, own, start, connect, tmp_path):
    ann, _ = await two_keys(tmp_path)
    async with answering() as upstream, start(upstream.url, route=ROUTE) as gateway:
        reply = await ask(connect, gateway, body=body, X_API_Key=ann, Content_Type=kind)
    assert reply.status == 200
    assert upstream.seen[0].json()["overrideConfig"] == {"vars": {**own, **WANTED}}


async def test_vars_are_a_field_of_a_form_with_files(start, connect, tmp_path):
    ann, _ = await two_keys(tmp_path)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\nq\r\n'
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--b--\r\n'
    )
    async with answering() as upstream, start(upstream.url, route=ROUTE) as gateway:
        form = "multipart/form-data; boundary=b"
        assert (await ask(connect, gateway, body=body, X_API_Key=ann, Content_Type=form)).status == 200
    text = upstream.seen[0].body.partition(b'name="vars"\r\n\r\n')[2].partition(b"\r\n")[0]
    assert json.loads(text) == WANTED


@pytest.mark.parametrize("name", WANTED)
async def test_a_client_may_not_set_them(name, start, connect, tmp_path):
    ann, _ = await two_keys(tmp_path)
    body = json.dumps({"question": "q", "overrideConfig": {"vars": {name: "key:bob"}}}).encode()
    route = {**ROUTE, "override_config": {"allow": ["vars.*"]}}
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        reply = await ask(connect, gateway, body=body, X_API_Key=ann)
    assert reply.status == 400
    assert f"overrideConfig.vars may not set {name}" in reply.json()["message"]
    assert upstream.seen == []


async def test_a_caller_whose_name_is_a_stored_file_is_refused(start, connect, tmp_path):
    key = await key_of(tmp_path, "ann")
    route = {**ROUTE, "auth": ["session"]}
    async with (
        answering() as upstream,
        start(upstream.url, route=route, auth={"secret": "s" * 32}) as gateway,
    ):
        body = json.dumps({"caller": 'FILE-STORAGE::["a"]'}).encode()
        token = (
            await ask(connect, gateway, "POST", "/gateway/v1/session-tokens", body, X_API_Key=key)
        ).json()["token"]
        reply = await ask(connect, gateway, Authorization=f"Bearer {token}")
    assert (reply.status, "FILE-STORAGE::" in reply.json()["message"]) == (400, True)
    assert upstream.seen == []

"""Secrets planted in every part of a request appear in no log line and no metric."""

from __future__ import annotations

import json

import pytest

from tests.harness.api_keys import key_of
from tests.harness.issuer import Issuer
from tests.harness.surface import PREDICT, answering, ask

SECRET = "zqxSIGNINGzqxSIGNINGzqxSIGNINGzqx"
SETTINGS = {
    "logs": {"level": "debug"},
    "upstreams": {"main": {"api_key": "zqxUPSTREAM"}},
    "metrics": {"per_caller": True},
    "route": {
        "auth": ["anonymous", "api_key", "session", "jwt"],
        "conversations": {"bind": True},
        "override_config": {"allow": ["sessionId", "vars.*"]},
        "uploads": True,
        "limits": [{"name": "few", "requests": 100, "per": "1h"}],
    },
}
ANSWER = b'{"text":"zqxANSWER","chatId":"zqxCHAT"}'
BODY = {
    "question": "zqxPROMPT", "chatId": "zqxCHAT", "leadEmail": "zqx@example.com", "zqxFIELD": "zqx",
    "overrideConfig": {"sessionId": "zqxSESSION", "vars": {"zqxVAR": "zqxVALUE"}},
    "uploads": [{"type": "file", "name": "zqx.png", "data": "data:image/png;base64,zqx"}],
}  # fmt: skip
FILES = b'--b\r\nContent-Disposition: form-data; name="files"; filename="zqx.txt"\r\n\r\nzqx\r\n--b--\r\n'
FORM = "multipart/form-data; boundary=b"
PLACES = {
    "prediction": {"body": json.dumps(BODY).encode()},
    "stream": {"body": json.dumps({**BODY, "streaming": True}).encode(), "Accept": "text/event-stream"},
    "broken body": {"body": json.dumps(BODY).encode()[:-2]},
    "refused body": {"body": json.dumps({**BODY, "overrideConfig": {"temperature": "zqx"}}).encode()},
    "form": {"body": b"question=zqxPROMPT&chatId=zqxCHAT", "Content_Type": "application/x-www-form-urlencoded"},
    "curl without a content type": {
        "body": b'{"question":"zqxPROMPT","x":[1]}', "Content_Type": "application/x-www-form-urlencoded",
    },
    "a key for a name": {"body": b'{"overrideConfig":{"fgw_zqx12345_zqxzqxzqxzqxzqxzqxzqxzqxzqxzqxzq123456":1}}'},
    "a key for a route": {
        "path": "/gateway/v1/session-tokens",
        "body": b'{"caller":"ann","routes":["fgw_zqx12345_zqxzqxzqxzqxzqxzqxzqxzqxzqxzqxzq123456"]}',
    },
    "a key for an id": {"X_Request_ID": "fgw_zqx12345_zqxzqxzqxzqxzqxzqxzqxzqxzqxzqxzq123456"},
    "files": {"path": "/api/v1/attachments/chat/zqxCHAT", "body": FILES, "Content_Type": FORM},
    "feedback": {
        "path": "/api/v1/feedback/chat", "body": b'{"chatId":"zqxCHAT","messageId":"zqxMESSAGE","content":"zqx"}',
    },
    "lead": {"path": "/api/v1/leads", "body": b'{"chatflowid":"chat","name":"zqx","email":"zqx","phone":"zqx"}'},
    "abort": {"method": "PUT", "path": "/api/v1/chatmessage/abort/chat/zqxCHAT"},
    "file": {"method": "GET", "path": "/api/v1/get-upload-file?chatflowId=chat&chatId=zqxCHAT&fileName=zqx.png"},
    "path": {"method": "GET", "path": "/api/v1/zqxPATH"},
    "query": {"path": f"{PREDICT}?key=zqxKEY"},
    "headers": {"Cookie": "zqx=zqx", "Referer": "zqx", "User_Agent": "zqx", "X_Own": "zqx", "Forwarded": "for=zqx"},
    "mint": {"path": "/gateway/v1/session-tokens", "body": b'{"caller":"ann","admin":"zqx"}'},
    "limits": {"method": "GET", "path": "/gateway/v1/limits"},
}  # fmt: skip


async def credentials(tmp_path, issuer, connect, gateway, key):
    """Valid and invalid credentials of each kind: headers and path prefix."""
    body = b'{"caller":"ann"}'
    token = (await ask(connect, gateway, "POST", "/gateway/v1/session-tokens", body, X_API_Key=key)).json()[
        "token"
    ]
    return [
        ({}, ""), ({"X_API_Key": key}, ""), ({"Authorization": f"Bearer {token}"}, ""), ({}, f"/t/{token}"),
        ({"Authorization": f"Bearer {issuer.token()}"}, ""), ({"Authorization": "Bearer zqxKEY"}, ""),
        ({}, "/t/zqxTOKEN"), ({"X_API_Key": f"{key}zqx"}, ""),
        ({"X_API_Key": key, "Authorization": f"Bearer {token}"}, ""),
    ], [key, token, issuer.token().rpartition(".")[0]]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
async def test_secrets_appear_in_no_output(place, start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    sent = {"path": PREDICT, "method": "POST", **PLACES[place]}
    path = sent.pop("path")
    async with Issuer() as issuer, answering(ANSWER) as upstream:
        auth = {"secret": SECRET, "jwt": [issuer.settings]}
        async with start(upstream.url, auth=auth, **SETTINGS) as gateway:
            forms, secrets = await credentials(tmp_path, issuer, connect, gateway, key)
            for headers, base in forms:
                await ask(connect, gateway, path=f"{base}{path}", **{**sent, **headers})
            lines = await gateway.lines.until("request", 1 + len(forms))
            metrics = str(await gateway.metrics())
    output = gateway.lines.getvalue() + metrics
    assert len(lines) == 1 + len(forms)
    assert "zqx" not in output.lower()
    for secret in secrets:
        assert secret not in output
        for seen in upstream.seen:
            assert secret.encode() not in seen.head + seen.body

"""What Flowise takes although it looks wrong: the gateway answers it as Flowise does."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.harness import bounds

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]

ASKED = "hi [[tokens=2 delay=0]]"
BODIES = {
    "empty chatId": {"chatId": ""},
    "empty sessionId": {"overrideConfig": {"sessionId": ""}},
    **{f"overrideConfig {value!r}": {"overrideConfig": value} for value in ("", [], False, 0, None)},
    **{f"vars {value!r}": {"overrideConfig": {"vars": value}} for value in ("", [], None)},
    **{f"uploads {value!r}": {"uploads": value} for value in ("", [], False, 0)},
    **{f"humanInput {value!r}": {"humanInput": value} for value in ("", False, 0)},
    **{f"form {value!r}": {"form": value} for value in ("", [], False)},
    **{f"history {value!r}": {"history": value} for value in ("", {}, [])},
    **{f"question {value!r}": {"question": value} for value in (42, 3.5, True, None)},
}
FORMS = ["chatId=", "overrideConfig=", "uploads=", "humanInput=", "form=", "history="]


async def answered(url, flow, slash="", **request):
    """Status, and whether there is an answer of the model."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/api/v1/prediction/{flow}{slash}", **request) as answer,
    ):
        body = await answer.text()
    return answer.status, "tok0" in body


@pytest.mark.parametrize("flow", ["chain", "agentflow"])
@pytest.mark.parametrize("streaming", [False, True])
async def test_what_flowise_takes_passes(gateway, flowise, flow, streaming):
    for name, members in BODIES.items():
        body = {"question": ASKED, "streaming": streaming, **members}
        direct = await answered(flowise["url"], flowise["flows"][flow], json=body)
        assert await answered(gateway.url, flow, json=body) == direct == (200, True), name
    for form in FORMS:
        request = {
            "data": f"question=hi&{form}",
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        }
        direct = await answered(flowise["url"], flowise["flows"][flow], **request)
        assert await answered(gateway.url, flow, **request) == direct == (200, True), form


async def test_one_slash_behind_the_id_passes(gateway, flowise):
    flow = flowise["flows"]["chain"]
    for url in (flowise["url"], gateway.url):
        assert await answered(url, flow, "/", json={"question": ASKED}) == (200, True)


@pytest.mark.parametrize("members", [{"chatId": 1}, {"overrideConfig": {"sessionId": 1}}])
async def test_a_numeric_id_is_refused(gateway, flowise, members):
    body = json.dumps({"question": ASKED, **members})
    headers = {"Content-Type": "application/json"}
    assert (await answered(flowise["url"], flowise["flows"]["chain"], data=body, headers=headers)) == (
        500,
        False,
    )
    assert (await answered(gateway.url, "chain", data=body, headers=headers)) == (400, False)

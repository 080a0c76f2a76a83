"""Keys of a route that Flowise or a browser has to agree with: foreign credentials, its own keys, CORS."""

from __future__ import annotations

import aiohttp
import pytest

from tests.e2e.conftest import routes, site
from tests.harness import bounds, processes
from tests.harness.ports import free_port
from tests.harness.predictions import bearer
from tests.harness.widget import page

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]

OTHERS = (
    {"Authorization": "Basic dXNlcjpwYXNz"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer a-key-of-flowise"},
    {"X-API-Key": "of-an-outer-gateway"},
)
# Each step waits for the one before. `show` is called with the name of a step and its status.
CALLS = """
const json = (method, path, body) => fetch(`${HOST}/api/v1/${path}`, {
    method, credentials: 'CREDENTIALS', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body)
})
const asked = await json('POST', 'prediction/pictures', { question: 'hi [[tokens=2]]', streaming: true })
const answer = await asked.text()
show('asked', `${asked.status} ${asked.headers.get('x-request-id') !== null} ${answer.includes('tok1')}`)
const [, said] = answer.match(/"event":"metadata","data":({.*})}/)
const { chatId, chatMessageId } = JSON.parse(said)
const names = { chatId, chatMessageId }
const rating = { chatId, messageId: chatMessageId, rating: 'THUMBS_UP', content: '' }
let given = await json('POST', 'feedback/pictures', rating)
show('rated', given.status)
given = await given.json()
show('commented', (await json('PUT', `feedback/${given.id}`, { content: 'good' })).status)
const spoken = await json('POST', 'text-to-speech/generate', { chatflowId: 'pictures', text: 'Hello.', ...names })
show('spoken', `${spoken.status} ${(await spoken.text()).includes('event: tts_end')}`)
show('hushed', (await json('POST', 'text-to-speech/abort', { chatflowId: 'pictures', ...names })).status)
const form = new FormData()
form.append('files', new Blob(['Feed the cat at noon.'], { type: 'text/plain' }), 'plan.txt')
form.append('chatId', names.chatId)
const stored = await fetch(`${HOST}/api/v1/vector/upsert/library`, { method: 'POST', credentials: 'CREDENTIALS', body: form })
show('stored', stored.status)
const file = { chatflowId: 'pictures', chatId: names.chatId, fileName: 'nothing.txt' }
show('no file', (await json('POST', 'openai-assistants-file/download', file)).status)
show('icon', (await fetch(`${HOST}/api/v1/node-icon/chatOpenAI`, { credentials: 'CREDENTIALS' })).status)
show('unknown', (await json('POST', 'nothing', {})).status)
"""
PAGE = """<!doctype html><meta charset="utf-8"><output></output><script type="module">
const HOST = '%s'
const show = (name, status) => { document.querySelector('output').textContent += `${name}: ${status}; ` }
%s
show('end', 'ok')
</script>"""


def serving(folder, flowise, **keys):
    """A gateway with a route for each chatflow, with these keys."""
    main = {"api_key": flowise["api_key"]}
    return processes.serving(folder, flowise["url"], routes=routes(flowise, **keys), upstreams={"main": main})


async def asked(url, flow, question="hi [[tokens=2]]", **headers):
    """Status, and whether the model has answered."""
    body = {"question": question, "streaming": False}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{url}/api/v1/prediction/{flow}", json=body) as answer,
    ):
        return answer.status, "tok1" in await answer.text()


@pytest.mark.parametrize("headers", OTHERS, ids=repr)
async def test_credentials_of_others_pass_as_with_flowise(flowise, gateway, headers):
    direct = await asked(flowise["url"], flowise["flows"]["chain"], **headers)
    assert await asked(gateway.url, "chain", **headers) == direct == (200, True)


async def test_flowise_decides_about_its_own_keys(flowise, tmp_path):
    async with serving(tmp_path, flowise, auth=["upstream"]) as child:
        url, flow = f"http://{child.host}:{child.port}", flowise["flows"]["protected"]
        right, wrong = bearer(flowise["flow_key"]), bearer("another-key-of-flowise")
        assert await asked(url, "protected", **right) == (200, True)
        direct = await asked(flowise["url"], flow, **wrong)
        assert await asked(url, "protected", **wrong) == direct == (500, False)
        assert await asked(url, "protected") == (401, False)


async def test_a_stream_says_that_it_must_not_be_transformed(flowise, tmp_path):
    async with serving(tmp_path, flowise, auth=["anonymous"], no_transform=True) as child:
        url = f"http://{child.host}:{child.port}/api/v1/prediction/chain"
        body = {"question": "hi [[tokens=2]]", "streaming": True}
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            assert answer.headers["Cache-Control"] == "no-cache, no-transform"
            assert "tok1" in await answer.text()


@pytest.mark.parametrize("kind", ["file", "site"])
async def test_a_page_of_another_origin_may_call_everything_that_the_widget_calls(kind, flowise, tmp_path):
    """Of a file, whose origin is `null`, or of a site that sends cookies. All but the form and the icon is preflighted."""
    port, file = free_port(), tmp_path / "page.html"
    of_kind = {
        "file": ({"origins": ["null"]}, file.as_uri(), "omit"),
        "site": (
            {"origins": [f"http://localhost:{port}"], "credentials": True},
            f"http://localhost:{port}",
            "include",
        ),
    }
    cors, url, credentials = of_kind[kind]
    keys = {"auth": ["anonymous"], "cors": cors, "speech": True, "uploads": True, "upsert": True}
    async with serving(tmp_path, flowise, **keys) as child, page() as shown:
        calls = CALLS.replace("CREDENTIALS", credentials)
        text = PAGE % (f"http://{child.host}:{child.port}", calls)
        file.write_text(text)
        async with site(port, index=text):
            await shown.open(url)
            await shown.shows(["output", "end: ok"])
        assert (await shown.text("output")).split("; ") == [
            *("asked: 200 true true", "rated: 200", "commented: 200", "spoken: 200 true", "hushed: 200"),
            *("stored: 200", "no file: 500", "icon: 200", "unknown: 404", "end: ok;"),
        ]
        assert await shown.complaints() == []

"""Every id that a client names is mapped, before Flowise sees it, to one that only its caller can reach."""

from __future__ import annotations

import json
import re
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.auth.conversation_ids import ConversationIds
from tests.harness.api_keys import two_keys
from tests.harness.gateway import FLOW
from tests.harness.surface import PREDICT, answering, ask

SECRET, OLDER = "s" * 32, "o" * 32
BOUND = {"conversations": {"bind": True}, "uploads": True, "auth": ["api_key"]}
FILE = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n'
END = b"--b--\r\n"
FORM = "multipart/form-data; boundary=b"
URLENCODED = "application/x-www-form-urlencoded"


def part(name, text):
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()


def fields_of(body):
    """The fields of a multipart body as Flowise got it."""
    found = re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
    return {name.decode(): value.decode() for name, value in found}


def in_json(*names):
    def read(seen):
        value = seen.json()
        for name in names:
            value = value[name]
        return value

    return read


def in_path(seen):
    return seen.target.rpartition("/")[2]


# each place where an id may occur: method, path, body, content type, and where Flowise sees it
PLACES = {
    "prediction, chatId": ("POST", PREDICT, {"question": "q", "chatId": "ID"}, None, in_json("chatId")),
    "stream, chatId": (
        "POST", PREDICT, {"question": "q", "streaming": True, "chatId": "ID"}, None, in_json("chatId"),
    ),
    "prediction, sessionId": (
        "POST", PREDICT, {"question": "q", "overrideConfig": {"sessionId": "ID"}}, None,
        in_json("overrideConfig", "sessionId"),
    ),
    "prediction, sessionId alone is the chatId": (
        "POST", PREDICT, {"question": "q", "overrideConfig": {"sessionId": "ID"}}, None, in_json("chatId"),
    ),
    "resumed run": (
        "POST", PREDICT, {"humanInput": {"type": "proceed", "startNodeId": "n"}, "chatId": "ID"}, None,
        in_json("chatId"),
    ),
    "approved action": (
        "POST", PREDICT, {"question": "yes", "action": {"id": "a"}, "chatId": "ID"}, None, in_json("chatId"),
    ),
    "urlencoded": ("POST", PREDICT, b"question=q&chatId=ID", URLENCODED, in_json("chatId")),
    "multipart": (
        "POST", PREDICT, part("question", "q") + part("chatId", "ID") + END, FORM, in_json("chatId"),
    ),
    "multipart with a file": (
        "POST", PREDICT, part("question", "q") + part("chatId", "ID") + FILE + END, FORM,
        lambda seen: fields_of(seen.body)["chatId"],
    ),
    "multipart with a file, sessionId": (
        "POST", PREDICT, part("sessionId", "ID") + FILE + END, FORM,
        lambda seen: fields_of(seen.body)["sessionId"],
    ),
    "multipart with a file, sessionId alone is the chatId": (
        "POST", PREDICT, part("sessionId", "ID") + FILE + END, FORM, lambda seen: fields_of(seen.body)["chatId"],
    ),
    "feedback": ("POST", "/api/v1/feedback/chat", {"chatId": "ID", "messageId": "m"}, None, in_json("chatId")),
    "lead": ("POST", "/api/v1/leads", {"chatflowid": "chat", "chatId": "ID"}, None, in_json("chatId")),
    "attachments, path": ("POST", "/api/v1/attachments/chat/ID", FILE + END, FORM, in_path),
    "attachments, form": (
        "POST", "/api/v1/attachments/chat/ID", part("chatId", "ID") + FILE + END, FORM,
        lambda seen: fields_of(seen.body)["chatId"],
    ),
    "uploaded file": (
        "GET", "/api/v1/get-upload-file?chatflowId=chat&chatId=ID&fileName=a.txt", b"", None,
        lambda seen: parse_qs(urlsplit(seen.target).query)["chatId"][0],
    ),
    "abort": ("PUT", "/api/v1/chatmessage/abort/chat/ID", b"", None, None),
}  # fmt: skip


async def seen_id(place, chat_id, key, connect, gateway, upstream):
    """The id that Flowise saw for the client's id."""
    method, path, body, kind, where = PLACES[place]
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    given = {} if kind is None else {"Content_Type": kind}
    reply = await ask(
        connect, gateway, method, path.replace("ID", chat_id), body.replace(b"ID", chat_id.encode()),
        Authorization=f"Bearer {key}", **given,
    )  # fmt: skip
    assert reply.status == 200, reply.body
    if where is None:
        return upstream.aborts[-1].rpartition("/")[2]
    return where(upstream.seen[-1])


@pytest.mark.parametrize("place", PLACES)
async def test_an_id_belongs_to_its_caller_wherever_it_occurs(place, start, connect, tmp_path):
    ann, bob = await two_keys(tmp_path)
    auth = {"secret": [SECRET, OLDER]}
    async with answering() as upstream, start(upstream.url, route=BOUND, auth=auth) as gateway:

        async def seen(chat_id, key):
            return await seen_id(place, chat_id, key, connect, gateway, upstream)

        mine = await seen("raw-1", ann)
        assert mine == await seen("raw-1", ann)  # the second question continues the conversation
        assert mine == await seen(mine, ann)  # also by the id in the `metadata` event
        theirs = [await seen("raw-1", bob), await seen(mine, bob), await seen("raw-2", ann)]
    assert len({mine, *theirs, "raw-1"}) == 5
    for mapped in (mine, *theirs):
        assert uuid.UUID(mapped).version == 4
        assert mapped == mapped.lower()
    ids = ConversationIds(OLDER.encode())  # of the last secret, so that rotation changes no id
    assert mine == ids.mapped("key:ann", "raw-1")


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_prediction_without_an_id_gets_one_that_the_next_may_name(
    streaming, start, connect, tmp_path
):
    ann, _ = await two_keys(tmp_path)
    body = json.dumps({"question": "q", "streaming": streaming}).encode()
    async with (
        answering() as upstream,
        start(upstream.url, route=BOUND, auth={"secret": SECRET}) as gateway,
    ):
        for _ in range(2):
            await ask(connect, gateway, body=body, X_API_Key=ann)
        first, second = (seen.json()["chatId"] for seen in upstream.seen)
        named = json.dumps({"question": "q", "streaming": streaming, "chatId": first}).encode()
        await ask(connect, gateway, body=named, X_API_Key=ann)
    assert first != second
    assert upstream.seen[2].body == named  # the caller's own id is not mapped again


async def test_a_null_id_counts_as_absent(start, connect):
    route = {"conversations": {"bind": True}}
    body = b'{"question":"q","chatId":null,"overrideConfig":{"sessionId":null}}'
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        await ask(connect, gateway, body=body)
    seen = upstream.seen[0].json()
    assert uuid.UUID(seen["chatId"]).version == 4
    assert seen["overrideConfig"] == {"sessionId": None}


async def test_both_ids_are_mapped_separately(start, connect):
    route = {"conversations": {"bind": True}}
    body = b'{"question":"q","chatId":"a","overrideConfig":{"sessionId":"b"}}'
    async with (
        answering() as upstream,
        start(upstream.url, route=route, auth={"secret": SECRET}) as gateway,
    ):
        await ask(connect, gateway, body=body)
    ids = ConversationIds(SECRET.encode())
    assert upstream.seen[0].json() == {
        "question": "q",
        "chatId": ids.mapped("anonymous", "a"),
        "overrideConfig": {"sessionId": ids.mapped("anonymous", "b")},
    }


async def test_a_bound_id_may_be_any_text(start, connect):
    route = {"conversations": {"bind": True}}
    text = "Grüße/.. 😀" + "x" * 240
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        body = json.dumps({"question": "q", "chatId": text}).encode()
        reply = await ask(connect, gateway, body=body)
    assert reply.status == 200
    assert uuid.UUID(upstream.seen[0].json()["chatId"]).version == 4


@pytest.mark.parametrize("text", ["x" * 257, "a\nb", "\ud800"])
async def test_an_invalid_bound_id_is_refused(text, start, connect):
    route = {"conversations": {"bind": True}}
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        reply = await ask(connect, gateway, body=json.dumps({"question": "q", "chatId": text}).encode())
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")
    assert "chatId must be 1 to 256 characters" in reply.json()["message"]
    assert upstream.seen == []


async def test_without_a_secret_ids_live_as_long_as_the_process(start, connect):
    route = {"conversations": {"bind": True}}
    body = b'{"question":"q","chatId":"a"}'
    async with answering() as upstream:
        for _ in range(2):
            async with start(upstream.url, route=route) as gateway:
                await ask(connect, gateway, body=body)
                (line,) = gateway.lines.of("no_secret")
                assert line["level"] == "warning"
                assert "auth.secret" in line["message"]
    first, second = (seen.json()["chatId"] for seen in upstream.seen)
    assert first != second


async def test_with_a_secret_ids_outlive_the_process_without_a_warning(start, connect):
    route = {"conversations": {"bind": True}}
    body = b'{"question":"q","chatId":"a"}'
    async with answering() as upstream:
        for secret in (SECRET, [OLDER, SECRET]):
            async with start(upstream.url, route=route, auth={"secret": secret}) as gateway:
                await ask(connect, gateway, body=body)
                assert gateway.lines.of("no_secret") == []
    first, second = (seen.json()["chatId"] for seen in upstream.seen)
    assert first == second
    assert FLOW in upstream.seen[0].target


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"question":"q","sessionId":"foreign"}', "application/json"),
        (b"question=q&sessionId=foreign", URLENCODED),
        (part("question", "q") + part("sessionId", "foreign") + END, FORM),
    ],
)
@pytest.mark.parametrize("bind", [True, False])
async def test_a_session_id_beside_the_question_reaches_no_foreign_session(bind, body, kind, start, connect):
    """Older agentflows use it; where ids are bound it is removed, and its name is logged."""
    route = {"conversations": {"bind": bind}}
    async with answering() as upstream, start(upstream.url, route=route) as gateway:
        assert (await ask(connect, gateway, body=body, Content_Type=kind)).status == 200
        line = await gateway.lines.request()
    assert upstream.seen[0].json().get("sessionId") == (None if bind else "foreign")
    assert line.get("dropped") == (["sessionId"] if bind else None)

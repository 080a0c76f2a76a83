"""What the widget calls beside predictions: a changed feedback, documents, icons, files of assistants."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.admission import owners
from gateway.handlers import node_icon
from gateway.policies import limits
from gateway.policies.feedback import NOT_GIVEN
from gateway.simulator import Flow, Simulator
from tests.harness.api_keys import key_of
from tests.harness.gateway import FLOW, running
from tests.harness.predictions import bearer
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import answering, ask

MADE = "9b2c5e8d-1111-4222-8333-444455556666"
RATING = b'{"chatId":"c","messageId":"m","rating":"THUMBS_DOWN","content":""}'
COMMENT = b'{"content":"it was wrong"}'
CHANGE = f"/api/v1/feedback/{MADE}"
FILE = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n'
CHAT = b'--b\r\nContent-Disposition: form-data; name="chatId"\r\n\r\n%b\r\n'
END, FORM = b"--b--\r\n", "multipart/form-data; boundary=b"
SECRET = "a secret of thirty-two bytes or more"
BOUND = {"auth": ["api_key", "anonymous"], "conversations": {"bind": True}}


def flowise(made=MADE, status="200 OK"):
    """Answers a new feedback with this id, anything else with OK."""

    async def script(peer, seen):
        answer = {"id": made} if seen.method == "POST" else {"status": "OK"}
        peer.answer(json.dumps(answer).encode(), status)

    return RawUpstream(script)


# -- the comment behind a thumb ------------------------------------------------------------------------


async def test_the_caller_that_gave_a_feedback_may_change_it(start, connect):
    async with flowise() as upstream, start(upstream.url) as gateway:
        given = await ask(connect, gateway, "POST", "/api/v1/feedback/chat", RATING)
        changed = await ask(connect, gateway, "PUT", CHANGE, COMMENT)
        lines = await gateway.lines.until("request", 2)
    assert (given.status, given.json()) == (200, {"id": MADE})
    assert (changed.status, changed.json()) == (200, {"status": "OK"})
    assert (upstream.seen[1].method, upstream.seen[1].target, upstream.seen[1].body) == (
        "PUT",
        CHANGE,
        COMMENT,
    )
    assert [(line["endpoint"], line["route"], line["outcome"]) for line in lines] == [
        ("feedback", "chat", "ok"),
        ("feedback_change", "chat", "ok"),
    ]


async def test_no_other_caller_may_and_the_answer_is_that_for_an_unknown_id(start, connect, tmp_path):
    ann, bob = await key_of(tmp_path, "ann"), await key_of(tmp_path, "bob")
    async with flowise() as upstream, start(upstream.url, route=BOUND, auth={"secret": SECRET}) as gateway:
        await ask(connect, gateway, "POST", "/api/v1/feedback/chat", RATING, **bearer(ann))
        foreign = await ask(connect, gateway, "PUT", CHANGE, COMMENT, **bearer(bob))
        anonymous = await ask(connect, gateway, "PUT", CHANGE, COMMENT)
        unknown = await ask(connect, gateway, "PUT", CHANGE.replace("9", "8"), COMMENT, **bearer(ann))
        assert len(upstream.seen) == 1
        own = await ask(connect, gateway, "PUT", CHANGE, COMMENT, **bearer(ann))
    for reply in (foreign, anonymous, unknown):
        assert (reply.status, reply.json()["code"], reply.json()["message"]) == (
            404,
            "unknown_route",
            NOT_GIVEN,
        )
    assert own.status == 200


async def test_an_id_that_flowise_refused_to_give_is_not_remembered(start, connect):
    for made, status in ((MADE, "404 Not Found"), ("not an id", "200 OK"), (7, "200 OK")):
        async with flowise(made, status) as upstream, start(upstream.url) as gateway:
            await ask(connect, gateway, "POST", "/api/v1/feedback/chat", RATING)
            assert (await ask(connect, gateway, "PUT", CHANGE, COMMENT)).status == 404


async def test_the_id_is_remembered_before_the_client_has_it(start, connect, monkeypatch):
    """Or its next request, on another connection, could come first."""
    may_remember = asyncio.Event()
    remember = owners.Owners.remember

    async def late(self, *given):
        await may_remember.wait()
        await remember(self, *given)

    monkeypatch.setattr(owners.Owners, "remember", late)
    async with flowise() as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        wire.send(request("POST", "/api/v1/feedback/chat", RATING))
        reading = asyncio.ensure_future(wire.reply())
        await asyncio.wait([reading], timeout=0.05)
        assert not reading.done()
        may_remember.set()
        assert (await reading).status == 200


async def test_the_route_of_a_change_is_counted_and_its_origins_hold(start, connect):
    page = "https://app.example.com"
    keys = {
        "cors": {"origins": [page]},
        "limits": [{"name": "few", "requests": 3, "per": "1h", "by": "route"}],
    }
    asked = {"Origin": page, "Access_Control_Request_Method": "PUT"}
    async with flowise() as upstream, start(upstream.url, route=keys) as gateway:
        preflight = await ask(connect, gateway, "OPTIONS", CHANGE, **asked)
        await ask(connect, gateway, "POST", "/api/v1/feedback/chat", RATING)
        right = await ask(connect, gateway, "PUT", CHANGE, COMMENT, Origin=page)
        wrong = await ask(connect, gateway, "PUT", CHANGE, COMMENT, Origin="https://evil.example")
        await ask(connect, gateway, "PUT", CHANGE, COMMENT)
        limited = await ask(connect, gateway, "PUT", CHANGE, COMMENT)
    assert (preflight.status, preflight.fields["access-control-allow-methods"]) == (204, "PUT, POST")
    assert (right.status, right.fields["access-control-allow-origin"]) == (200, page)
    assert (wrong.status, limited.status) == (403, 429)


async def test_every_process_of_a_store_knows_whose_a_feedback_is(valkey, connect, tmp_path):
    shared = {"limits": {"store": valkey.url}, "auth": {"secret": SECRET}, "route": BOUND}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    keys = [await key_of(tmp_path / "one", name) for name in ("ann", "bob")]
    (tmp_path / "two" / "keys.yaml").write_bytes((tmp_path / "one" / "keys.yaml").read_bytes())
    async with (
        flowise() as upstream,
        running(tmp_path / "one", upstream.url, **shared) as one,
        running(tmp_path / "two", upstream.url, **shared) as two,
    ):
        await ask(connect, one, "POST", "/api/v1/feedback/chat", RATING, **bearer(keys[0]))
        assert (await ask(connect, two, "PUT", CHANGE, COMMENT, **bearer(keys[1]))).status == 404
        assert (await ask(connect, two, "PUT", CHANGE, COMMENT, **bearer(keys[0]))).status == 200
        with valkey.client() as client:
            (key,) = client.keys("fgw:{feedback}:*")
            assert 86_000_000 < client.pttl(key) <= 86_400_000
            assert b"ann" not in key + client.get(key)


async def test_without_the_store_a_change_is_refused_for_now_but_in_the_process_that_knows(
    own_valkey, connect, tmp_path
):
    shared = {"limits": {"store": own_valkey.url}, "auth": {"secret": SECRET}}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with (
        flowise() as upstream,
        running(tmp_path / "one", upstream.url, **shared) as one,
        running(tmp_path / "two", upstream.url, **shared) as two,
    ):
        await ask(connect, one, "POST", "/api/v1/feedback/chat", RATING)
        own_valkey.kill()
        away = await ask(connect, two, "PUT", CHANGE, COMMENT)
        assert (away.status, away.json()["code"], away.fields["retry-after"]) == (
            503,
            "store_unavailable",
            "1",
        )
        assert (await ask(connect, one, "PUT", CHANGE, COMMENT)).status == 200


# -- documents for the vector store ----------------------------------------------------------------------


@pytest.mark.parametrize("form", [FILE + CHAT % b"mine" + END, CHAT % b"mine" + FILE + END])
@pytest.mark.parametrize("bind", [True, False])
async def test_a_document_belongs_to_the_conversation_of_its_caller(form, bind, start, connect):
    """The widget sends the conversation behind the file."""
    route = {"upsert": True, "conversations": {"bind": bind}}
    async with answering() as upstream, start(upstream.url, route=route, auth={"secret": SECRET}) as gateway:
        reply = await ask(connect, gateway, "POST", "/api/v1/vector/upsert/chat", form, Content_Type=FORM)
        await ask(connect, gateway, body=b'{"question":"q","chatId":"mine"}')
    stored, asked = upstream.seen
    chat = asked.json()["chatId"]
    assert (reply.status, stored.target) == (200, f"/api/v1/vector/upsert/{FLOW}")
    assert b'filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n' in stored.body
    assert stored.body.count(b'name="chatId"') == 1
    assert b'name="chatId"\r\n\r\n' + chat.encode() in stored.body
    assert (chat == "mine") is not bind


async def test_documents_as_json_are_stored_without_streaming(start, connect):
    body = b'{"chatId":"c","streaming":true,"overrideConfig":{"sessionId":"s"}}'
    async with answering() as upstream, start(upstream.url, route={"upsert": True}) as gateway:
        reply = await ask(connect, gateway, "POST", "/api/v1/vector/upsert/chat", body)
    assert reply.status == 200
    assert upstream.seen[0].json() == {
        "chatId": "c",
        "streaming": False,
        "overrideConfig": {"sessionId": "s"},
    }


async def test_storing_waits_for_no_answer_and_no_answer_for_it(start, connect):
    """As the widget does it: a file while nothing runs, but also from two tabs."""
    may_end = asyncio.Event()

    async def script(peer, seen):
        if "prediction" in seen.target:
            await may_end.wait()
        peer.answer(b"{}")

    async with RawUpstream(script) as upstream, start(upstream.url, route={"upsert": True}) as gateway:
        running_one = asyncio.ensure_future(ask(connect, gateway, body=b'{"question":"q","chatId":"c"}'))
        reply = await ask(
            connect,
            gateway,
            "POST",
            "/api/v1/vector/upsert/chat",
            CHAT % b"c" + FILE + END,
            Content_Type=FORM,
        )
        may_end.set()
        assert (reply.status, (await running_one).status) == (200, 200)


async def test_a_workspace_key_that_flowise_wants_is_no_fault_of_the_client(start, connect):
    async with (
        answering(b'{"error":"Unauthorized Access"}', "401 Unauthorized") as upstream,
        start(upstream.url, route={"upsert": True}) as gateway,
    ):
        reply = await ask(connect, gateway, "POST", "/api/v1/vector/upsert/chat", b'{"chatId":"c"}')
    assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert "API key of its workspace" in reply.json()["message"]


# -- icons ---------------------------------------------------------------------------------------------------

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
ICON = "/api/v1/node-icon/chatOpenAI"
NO_ICON = b'{"statusCode":500,"message":"Error: nodesService.getSingleNodeIcon - Node x not found"}'


async def test_an_icon_is_an_image_that_runs_nothing_and_is_kept(start, connect):
    async with answering(SVG, content_type="text/html") as upstream, start(upstream.url) as gateway:
        replies = [await ask(connect, gateway, "GET", ICON) for _ in range(3)]
        head = await ask(connect, gateway, "HEAD", ICON)
    assert {reply.body for reply in replies} == {SVG}
    assert (head.status, head.body) == (200, b"")
    assert [seen.target for seen in upstream.seen] == [ICON]
    fields = replies[0].fields
    assert (fields["content-type"], fields["x-content-type-options"]) == ("image/svg+xml", "nosniff")
    assert fields["content-security-policy"].endswith("sandbox")
    assert fields["cache-control"] == "public, max-age=3600"


async def test_a_name_without_an_icon_is_404_and_not_asked_again(start, connect):
    async with answering(NO_ICON, "500 Internal Server Error") as upstream, start(upstream.url) as gateway:
        for _ in range(2):
            reply = await ask(connect, gateway, "GET", ICON)
            assert (reply.status, reply.json()["code"]) == (404, "unknown_route")
    assert len(upstream.seen) == 1


async def test_what_is_no_icon_is_a_bad_reply_and_not_kept(start, connect):
    async with answering(b"<html>", content_type="image/png") as upstream, start(upstream.url) as gateway:
        for _ in range(2):
            reply = await ask(connect, gateway, "GET", ICON)
            assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert len(upstream.seen) == 2


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many"])
async def test_a_flowise_that_cannot_say_is_asked_again(status, start, connect):
    """It starts, or its database is away: in a moment it has the icon."""
    async with answering(b'{"message":"try later"}', status) as upstream, start(upstream.url) as gateway:
        for _ in range(2):
            reply = await ask(connect, gateway, "GET", ICON)
            assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
    assert len(upstream.seen) == 2


async def test_the_number_of_icons_that_are_kept_is_bounded(start, connect, monkeypatch):
    monkeypatch.setattr(node_icon, "MOST_KEPT", 2)
    async with answering(SVG) as upstream, start(upstream.url) as gateway:
        for name in ("a", "b", "c", "c", "a"):
            assert (await ask(connect, gateway, "GET", f"/api/v1/node-icon/{name}")).status == 200
    assert [seen.target[-1] for seen in upstream.seen] == ["a", "b", "c", "a"]


async def test_an_address_may_ask_for_so_many_icons_in_a_minute(start, connect, monkeypatch):
    monkeypatch.setattr(limits, "SETTINGS_PER_MINUTE", 2)
    async with answering(SVG) as upstream, start(upstream.url) as gateway:
        statuses = [(await ask(connect, gateway, "GET", ICON)).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_the_first_flowise_that_has_the_icon_answers(start, connect):
    async with (
        answering(NO_ICON, "500 Internal Server Error") as first,
        answering(SVG) as second,
        start(first.url, upstreams={"other": {"servers": [{"url": second.url}]}}) as gateway,
    ):
        assert (await ask(connect, gateway, "GET", ICON)).body == SVG
        line = await gateway.lines.request()
    assert (len(first.seen), len(second.seen), line["upstream"]) == (1, 1, "other")


# -- files of assistants ---------------------------------------------------------------------------------------

DOWNLOAD = "/api/v1/openai-assistants-file/download"


@pytest.mark.parametrize(
    "disposition",
    ["", 'Content-Disposition: attachment; filename="a.html"\r\n', "Content-Disposition: inline\r\n"],
)
@pytest.mark.parametrize("kind", ["text/html", "image/png"])
async def test_a_file_of_an_assistant_is_saved_not_shown(kind, disposition, start, connect):
    async def script(peer, _):
        peer.send(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{disposition}Content-Length: 2\r\n\r\nhi".encode()
        )

    wanted = b'{"fileName":"a.html","chatflowId":"chat","chatId":"c"}'
    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        reply = await ask(connect, gateway, "POST", DOWNLOAD, wanted)
    assert upstream.seen[0].json() == {"fileName": "a.html", "chatflowId": FLOW, "chatId": "c"}
    assert (reply.status, reply.body) == (200, b"hi")
    assert reply.fields["content-disposition"].startswith("attachment")
    assert reply.fields["x-content-type-options"] == "nosniff"
    assert reply.fields["content-security-policy"] == "default-src 'none'; sandbox"


async def test_two_users_have_two_conversations_in_all_of_it(start, connect, tmp_path):
    """The same chatId of two callers is never the same for Flowise."""
    keys = [await key_of(tmp_path, name) for name in ("ann", "bob")]
    route = {**BOUND, "upsert": True, "speech": True}
    calls = [
        (DOWNLOAD, {"fileName": "a", "chatflowId": "chat", "chatId": "same"}),
        (
            "/api/v1/text-to-speech/generate",
            {"chatflowId": "chat", "chatId": "same", "chatMessageId": "m", "text": "t"},
        ),
        ("/api/v1/text-to-speech/abort", {"chatflowId": "chat", "chatId": "same", "chatMessageId": "m"}),
        ("/api/v1/vector/upsert/chat", {"chatId": "same"}),
    ]
    async with answering() as upstream, start(upstream.url, route=route, auth={"secret": SECRET}) as gateway:
        for path, body in calls:
            for key in keys:
                reply = await ask(connect, gateway, "POST", path, json.dumps(body).encode(), **bearer(key))
                assert reply.status == 200
    chats = [seen.json()["chatId"] for seen in upstream.seen]
    assert len(set(chats)) == 2
    assert chats == chats[:2] * len(calls)
    assert "same" not in chats


async def test_the_simulated_flowise_has_all_of_it(start, connect):
    flows = [Flow(id=FLOW, name="chain", speaks=True, stores=True)]
    route, key = {"upsert": True, "speech": True, "uploads": True}, {"main": {"api_key": "key"}}
    async with (
        Simulator(flows, api_key="key") as simulator,
        start(simulator.url, route=route, upstreams=key) as gateway,
    ):
        asked = (await ask(connect, gateway, body=b'{"question":"hi [[tokens=1]]","chatId":"c"}')).json()
        rating = {"chatId": "c", "messageId": asked["chatMessageId"], "rating": "THUMBS_DOWN"}
        given = await ask(connect, gateway, "POST", "/api/v1/feedback/chat", json.dumps(rating).encode())
        changed = await ask(connect, gateway, "PUT", f"/api/v1/feedback/{given.json()['id']}", COMMENT)
        stored = await ask(
            connect,
            gateway,
            "POST",
            "/api/v1/vector/upsert/chat",
            FILE + CHAT % b"c" + END,
            Content_Type=FORM,
        )
    assert (changed.status, stored.json()["numAdded"]) == (200, 1)
    assert [entry["content"] for entry in simulator.feedback.values()] == ["it was wrong"]

"""Two callers that send the same chatId: Flowise mixes their conversations, the gateway keeps them apart.

Each test runs for two API keys, and for two users of one site that have session tokens of one key.
"""

from __future__ import annotations

import asyncio
import uuid

import aiohttp
import pytest

from tests.harness import bounds
from tests.harness.predictions import answer_of, ask, asked, bearer, events, saw, unique

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]


@pytest.fixture(params=["two keys", "two users of one key"])
def callers(request):
    """`ann, bob = await callers(gateway, route)`: the bearer token of each."""

    async def two(gateway, route="chain"):
        if request.param == "two keys":
            return gateway.key, gateway.partner
        return await gateway.token("ann", route), await gateway.token("bob", route)

    return two


async def together(url, flow, keys, chat):
    """Two streams with one chatId; the second is requested after the first has begun.

    Returns both bodies, and whether the first was still running when the second had ended. None stands for a stream
    that does not end within six seconds.
    """
    first = unique("word=ann tokens=30 delay=0.05")
    async with asked(url, flow, first, key=keys[0], chatId=chat) as answer:
        await saw(answer, b"ann2")
        _, _, second = await ask(url, flow, unique("word=bob tokens=6 delay=0.05"), key=keys[1], chatId=chat)
        overlapped = not answer.content.at_eof()
        try:
            async with asyncio.timeout(6):
                return await answer.read(), second, overlapped
        except TimeoutError:
            return None, second, overlapped


@pytest.mark.parametrize("flow", ["chain", "agentflow"])
async def test_concurrent_callers_each_get_their_own_answer(guard, callers, flow):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        keys = await callers(gateway, flow)
        first, second, overlapped = await together(gateway.url, flow, keys, chat)
        assert overlapped  # neither waited for the other
        assert b"bob" not in first
        assert b"ann29" in first
        assert answer_of(second) == "".join(f"bob{at} " for at in range(6))
        assert b"ann" not in second
        for answer in (first, second):
            assert events(answer, "end") == ["[DONE]"]
            assert events(answer, "error") == []
        (ann,), (bob,) = (events(answer, "metadata") for answer in (first, second))
        assert len({ann["chatId"], bob["chatId"], chat}) == 3


async def test_flowise_itself_sends_both_answers_to_the_newer_caller(flowise):
    """How the test above would fail without the gateway (captures same-chatid-*)."""
    first, second, _ = await together(flowise["url"], flowise["flows"]["chain"], ("", ""), str(uuid.uuid4()))
    assert first is None
    assert "ann" in answer_of(second)


async def test_each_caller_has_its_own_memory(guard, callers, model):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway)
        await ask(gateway.url, "chain", unique("tokens=2", "my cat is Minka"), key=ann, chatId=chat)
        for session in ({"chatId": chat}, {"overrideConfig": {"sessionId": chat}}):
            for streaming in (True, False):
                question = unique("recall=1", "who is my cat?")
                _, _, body = await ask(
                    gateway.url, "chain", question, key=bob, streaming=streaming, **session
                )
                assert b"Minka" not in body
                assert not any("Minka" in text for _, text in model.asked(question)["messages"])
        _, _, body = await ask(gateway.url, "chain", unique("recall=1"), key=ann, chatId=chat)
        assert "my cat is Minka" in answer_of(body)
        assert "who is my cat" not in answer_of(body)


@pytest.mark.parametrize("kind", ["urlencoded", "multipart", "multipart with a file"])
async def test_forms_stay_in_the_conversations_of_their_caller(guard, callers, kind):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway)
        assert "tok1" in await posted(gateway, kind, ann, unique("tokens=2", "my cat is Minka"), chatId=chat)
        for known in ({"chatId": chat}, {"sessionId": chat}):
            assert "Minka" not in await posted(gateway, kind, bob, unique("recall=1"), **known)
        assert "Minka" in await posted(gateway, kind, ann, unique("recall=1"), chatId=chat)


async def posted(gateway, kind, key, question, **fields) -> str:
    """The answer to a prediction sent as a form."""
    form = aiohttp.FormData(default_to_multipart=kind != "urlencoded")
    for name, text in {"question": question, "streaming": "true", **fields}.items():
        form.add_field(name, text)
    if kind == "multipart with a file":
        form.add_field("files", b"The plan.", filename="plan.txt", content_type="text/plain")
    url = f"{gateway.url}/api/v1/prediction/chain"
    async with aiohttp.ClientSession(headers=bearer(key)) as session, session.post(url, data=form) as answer:
        assert answer.status == 200, await answer.text()
        return answer_of(await answer.read())


async def test_an_id_from_an_answer_resumes_the_conversation_only_for_its_caller(guard, callers):
    async with guard() as gateway:
        ann, bob = await callers(gateway)
        _, _, body = await ask(gateway.url, "chain", unique("tokens=2", "my cat is Minka"), key=ann)
        (metadata,) = events(body, "metadata")
        mapped = metadata["chatId"]
        _, _, body = await ask(gateway.url, "chain", unique("recall=1"), key=bob, chatId=mapped)
        assert "Minka" not in answer_of(body)
        assert events(body, "metadata")[0]["chatId"] != mapped
        _, _, body = await ask(gateway.url, "chain", unique("recall=1"), key=ann, chatId=mapped)
        assert "my cat is Minka" in answer_of(body)
        assert events(body, "metadata")[0]["chatId"] == mapped


async def abort(gateway, chat, key):
    url = f"{gateway.url}/api/v1/chatmessage/abort/agentflow/{chat}"
    async with aiohttp.ClientSession(headers=bearer(key)) as session, session.put(url) as answer:
        assert answer.status == 200, await answer.text()


async def test_a_caller_cannot_stop_the_run_of_another(guard, callers, model):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway, "agentflow")
        _, _, body = await ask(gateway.url, "agentflow", unique("tokens=1"), key=ann, chatId=chat)
        (metadata,) = events(body, "metadata")
        question = unique("tokens=40 delay=0.05")
        async with asked(gateway.url, "agentflow", question, key=ann, chatId=chat) as answer:
            await saw(answer, b"tok2")
            await abort(gateway, chat, bob)
            await abort(gateway, metadata["chatId"], bob)  # the id that Flowise uses
            assert b"tok39" in await answer.read()
        assert [end["reason"] for end in model.ends(question)] == ["complete"]


async def test_a_caller_can_stop_its_own_run(guard, callers, model):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, _ = await callers(gateway, "agentflow")
        question = unique("tokens=400 delay=0.05")
        async with asked(gateway.url, "agentflow", question, key=ann, chatId=chat) as answer:
            await saw(answer, b"tok2")
            await abort(gateway, chat, ann)
            assert b"aborted" in await answer.read()
        (end,) = await model.ended(question)
        assert end["reason"] == "client_gone"
        assert end["sent"] < 200


async def test_a_caller_cannot_answer_a_human_input_request_of_another(guard, callers, model):
    chat = str(uuid.uuid4())
    proceed = {"type": "proceed", "startNodeId": "humanInputAgentflow_0", "feedback": ""}
    async with guard() as gateway:
        ann, bob = await callers(gateway, "approval")
        form = {"subject": "Order", "body": "two cats", "from": "ann"}
        _, _, body = await ask(gateway.url, "approval", None, key=ann, chatId=chat, form=form)
        assert len(events(body, "action")) == 1
        mapped = events(body, "metadata")[0]["chatId"]
        for known in ({"chatId": chat}, {"chatId": mapped}, {"overrideConfig": {"sessionId": mapped}}):
            question = unique("tokens=2", "Proceed")
            _, _, body = await ask(gateway.url, "approval", question, key=bob, humanInput=proceed, **known)
            assert "No previous execution found" in events(body, "error")[0]
            assert model.lines(question) == []
        question = unique("tokens=2", "Proceed")
        _, _, body = await ask(gateway.url, "approval", question, key=ann, humanInput=proceed, chatId=chat)
        assert answer_of(body) == "tok0 tok1 "


async def upload(gateway, chat, key):
    form = aiohttp.FormData()
    form.add_field("files", b"The plan.", filename="plan.txt", content_type="text/plain")
    url = f"{gateway.url}/api/v1/attachments/assistant/{chat}"
    async with aiohttp.ClientSession(headers=bearer(key)) as session, session.post(url, data=form) as answer:
        return answer.status


async def download(gateway, chat, key):
    query = {"chatflowId": "assistant", "chatId": chat, "fileName": "plan.txt"}
    url = f"{gateway.url}/api/v1/get-upload-file"
    async with (
        aiohttp.ClientSession(headers=bearer(key)) as session,
        session.get(url, params=query) as answer,
    ):
        return answer.status, await answer.read()


async def test_a_caller_cannot_read_the_files_of_another(guard, callers):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway, "assistant")
        assert await upload(gateway, chat, ann) == 200
        assert await download(gateway, chat, ann) == (200, b"The plan.")
        assert (await download(gateway, chat, bob))[0] >= 400
        _, _, body = await ask(gateway.url, "assistant", unique("tokens=1"), key=ann, chatId=chat)
        (metadata,) = events(body, "metadata")
        assert await download(gateway, metadata["chatId"], ann) == (200, b"The plan.")
        assert (await download(gateway, metadata["chatId"], bob))[0] >= 400


async def test_a_caller_cannot_rate_the_answers_of_another(guard, callers):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway, "pictures")
        _, _, body = await ask(gateway.url, "pictures", unique("tokens=1"), key=ann, chatId=chat)
        (metadata,) = events(body, "metadata")
        url = f"{gateway.url}/api/v1/feedback/pictures"
        for key, accepted in ((bob, False), (ann, True)):
            rating = {
                "chatId": chat,
                "messageId": metadata["chatMessageId"],
                "rating": "THUMBS_DOWN",
                "content": "",
            }
            async with (
                aiohttp.ClientSession(headers=bearer(key)) as session,
                session.post(url, json=rating) as answer,
            ):
                assert (answer.status == 200) is accepted, await answer.text()


async def test_histories_are_not_served(guard, callers):
    """Flowise serves these to every holder of a Flowise API key, and the gateway may hold one."""
    async with guard() as gateway:
        ann, _ = await callers(gateway)
        async with aiohttp.ClientSession(gateway.url, headers=bearer(ann)) as session:
            for path in ("chatmessage/chain", "internal-chatmessage/chain", "feedback/chain", "leads/chain"):
                async with session.get(f"/api/v1/{path}") as answer:
                    assert answer.status in {404, 405}

"""Two callers who say the same chatId: what a raw Flowise tells the one about the other, and the gateway does not.

Each test runs for two API keys, and for two users of one site, who have session tokens of one key.
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
    """`ann, bob = await callers(gateway, route)`: what each of them sends as a bearer token."""

    async def two(gateway, route="chain"):
        if request.param == "two keys":
            return gateway.key, gateway.partner
        return await gateway.token("ann", route), await gateway.token("bob", route)

    return two


async def together(url, flow, keys, chat):
    """Two streams with one chatId, the second asked for when the first has begun to answer.

    Returns both, and whether the first was still running when the second had ended; None for a stream that does not
    end in six seconds.
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
async def test_at_the_same_time_each_hears_its_own_answer(guard, callers, flow):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        keys = await callers(gateway, flow)
        first, second, overlapped = await together(gateway.url, flow, keys, chat)
        assert overlapped  # neither waited for the other's turn
        assert b"bob" not in first
        assert b"ann29" in first
        assert answer_of(second) == "".join(f"bob{at} " for at in range(6))
        assert b"ann" not in second
        for answer in (first, second):
            assert events(answer, "end") == ["[DONE]"]
            assert events(answer, "error") == []
        (ann,), (bob,) = (events(answer, "metadata") for answer in (first, second))
        assert len({ann["chatId"], bob["chatId"], chat}) == 3


async def test_flowise_itself_tells_the_newer_one_both_answers(flowise):
    """Why all this: captures same-chatid-*. It is how the test above would fail."""
    first, second, _ = await together(flowise["url"], flowise["flows"]["chain"], ("", ""), str(uuid.uuid4()))
    assert first is None
    assert "ann" in answer_of(second)


async def test_one_after_the_other_each_remembers_its_own(guard, callers, model):
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
async def test_forms_lead_nobody_elsewhere(guard, callers, kind):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway)
        assert "tok1" in await posted(gateway, kind, ann, unique("tokens=2", "my cat is Minka"), chatId=chat)
        for known in ({"chatId": chat}, {"sessionId": chat}):
            assert "Minka" not in await posted(gateway, kind, bob, unique("recall=1"), **known)
        assert "Minka" in await posted(gateway, kind, ann, unique("recall=1"), chatId=chat)


async def posted(gateway, kind, key, question, **fields) -> str:
    """The answer to a prediction that came as a form."""
    form = aiohttp.FormData(default_to_multipart=kind != "urlencoded")
    for name, text in {"question": question, "streaming": "true", **fields}.items():
        form.add_field(name, text)
    if kind == "multipart with a file":
        form.add_field("files", b"The plan.", filename="plan.txt", content_type="text/plain")
    url = f"{gateway.url}/api/v1/prediction/chain"
    async with aiohttp.ClientSession(headers=bearer(key)) as session, session.post(url, data=form) as answer:
        assert answer.status == 200, await answer.text()
        return answer_of(await answer.read())


async def test_the_id_that_one_was_told_leads_only_this_one_back(guard, callers):
    async with guard() as gateway:
        ann, bob = await callers(gateway)
        _, _, body = await ask(gateway.url, "chain", unique("tokens=2", "my cat is Minka"), key=ann)
        (metadata,) = events(body, "metadata")
        told = metadata["chatId"]
        _, _, body = await ask(gateway.url, "chain", unique("recall=1"), key=bob, chatId=told)
        assert "Minka" not in answer_of(body)
        assert events(body, "metadata")[0]["chatId"] != told
        _, _, body = await ask(gateway.url, "chain", unique("recall=1"), key=ann, chatId=told)
        assert "my cat is Minka" in answer_of(body)
        assert events(body, "metadata")[0]["chatId"] == told


async def abort(gateway, chat, key):
    url = f"{gateway.url}/api/v1/chatmessage/abort/agentflow/{chat}"
    async with aiohttp.ClientSession(headers=bearer(key)) as session, session.put(url) as answer:
        assert answer.status == 200, await answer.text()


async def test_neither_can_stop_the_others_run(guard, callers, model):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway, "agentflow")
        _, _, body = await ask(gateway.url, "agentflow", unique("tokens=1"), key=ann, chatId=chat)
        (metadata,) = events(body, "metadata")
        question = unique("tokens=40 delay=0.05")
        async with asked(gateway.url, "agentflow", question, key=ann, chatId=chat) as answer:
            await saw(answer, b"tok2")
            await abort(gateway, chat, bob)
            await abort(gateway, metadata["chatId"], bob)  # the very id that Flowise knows it by
            assert b"tok39" in await answer.read()
        assert [end["reason"] for end in model.ends(question)] == ["complete"]


async def test_each_can_stop_its_own_run(guard, callers, model):
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


async def test_neither_can_answer_for_the_other_what_a_flow_waits_for(guard, callers, model):
    chat = str(uuid.uuid4())
    proceed = {"type": "proceed", "startNodeId": "humanInputAgentflow_0", "feedback": ""}
    async with guard() as gateway:
        ann, bob = await callers(gateway, "approval")
        form = {"subject": "Order", "body": "two cats", "from": "ann"}
        _, _, body = await ask(gateway.url, "approval", None, key=ann, chatId=chat, form=form)
        assert len(events(body, "action")) == 1
        told = events(body, "metadata")[0]["chatId"]
        for known in ({"chatId": chat}, {"chatId": told}, {"overrideConfig": {"sessionId": told}}):
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


async def test_neither_can_read_the_others_files(guard, callers):
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


async def test_neither_can_judge_the_others_answers(guard, callers):
    chat = str(uuid.uuid4())
    async with guard() as gateway:
        ann, bob = await callers(gateway, "pictures")
        _, _, body = await ask(gateway.url, "pictures", unique("tokens=1"), key=ann, chatId=chat)
        (metadata,) = events(body, "metadata")
        url = f"{gateway.url}/api/v1/feedback/pictures"
        for key, accepted in ((bob, False), (ann, True)):
            judged = {
                "chatId": chat,
                "messageId": metadata["chatMessageId"],
                "rating": "THUMBS_DOWN",
                "content": "",
            }
            async with (
                aiohttp.ClientSession(headers=bearer(key)) as session,
                session.post(url, json=judged) as answer,
            ):
                assert (answer.status == 200) is accepted, await answer.text()


async def test_nobody_reads_histories(guard, callers):
    """Flowise answers these to whoever has a key of its own, which the gateway may hold."""
    async with guard() as gateway:
        ann, _ = await callers(gateway)
        async with aiohttp.ClientSession(gateway.url, headers=bearer(ann)) as session:
            for path in ("chatmessage/chain", "internal-chatmessage/chain", "feedback/chain", "leads/chain"):
                async with session.get(f"/api/v1/{path}") as answer:
                    assert answer.status in {404, 405}

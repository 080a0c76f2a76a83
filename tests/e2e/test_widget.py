"""The official widget in a browser, in a page of another site, on a guarded route, with a session token in its URL.

Each page belongs to one user: the backend of the site has created a token for them and put it into `apiHost`.
"""

from __future__ import annotations

import json
import time

import aiohttp
import pytest

from tests.harness import bounds
from tests.harness.predictions import bearer, unique

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(6 * bounds.TEST)]

PICTURE = bytes.fromhex(  # two red pixels
    "89504e470d0a1a0a0000000d49484452000000020000000108020000007b40e8dd0000000d"
    "49444154789c63f8cfc000440008fe01ffc69e79f70000000049454e44ae426082"
)
SETTINGS = ["GET chatflows-streaming 200", "GET public-chatbotConfig 200"]


async def test_a_conversation_goes_on_after_a_reload_and_belongs_to_its_user(guard, page, model):
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "chain"), "chain")
        first = unique("tokens=3", "my cat is Minka")
        assert (await page.answer_to(first, "tok2")).split() == ["tok0", "tok1", "tok2"]
        second = unique("recall=1", "who is my cat?")
        assert "my cat is Minka" in await page.answer_to(second, "that is all")
        before = await page.bubbles()

        # later, with a new token for the same user
        await page.open(await gateway.host("ann", "chain"), "chain")
        assert await page.bubbles() == before
        assert len(before) == 5
        third = unique("recall=1", "and still?")
        assert "my cat is Minka" in await page.answer_to(third, "that is all")
        roles = [role for role, _ in model.asked(third)["messages"]]
        assert roles == ["system", *["user", "assistant"] * 2, "user"]
        asked = "POST prediction 200"
        assert await page.called() == [*SETTINGS, asked, asked, *SETTINGS, asked]

        # another user in the same browser, where the page still has the conversation's id
        await page.open(await gateway.host("bob", "chain"), "chain")
        assert "Minka" not in await page.answer_to(unique("recall=1", "who is my cat?"), "that is all")
        assert await page.complaints() == []
        requests, output = await gateway.ended()
        assert {line["outcome"] for line in requests} == {"ok"}
        answers = [line for line in requests if line["endpoint"] == "prediction" and line["status"] == 200]
        assert [line["caller"] for line in answers] == ["session:backend/ann"] * 3 + ["session:backend/bob"]
        assert "fgs_" not in output


async def test_the_stop_button_stops_the_model(guard, page, model):
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "assistant"), "assistant")
        for message in ("first", "second"):  # first with the page's own id, then with the mapped one
            question = unique("tokens=400 delay=0.05", message)
            await page.ask(question)
            await page.shows("tok3")
            await page.stop()
            await page.idle()
            (end,) = await model.ended(question)
            assert end["reason"] == "client_gone"
            assert end["sent"] < 200
            await page.answer_to(unique("tokens=2"), "tok1")
        stopped = ["POST prediction 200", "PUT chatmessage 200", "POST prediction 200"]
        assert await page.called() == [*SETTINGS, *stopped, *stopped]
        assert await page.complaints() == []


async def test_thumbs_reach_flowise(flowise, guard, page):
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "pictures"), "pictures")
        await page.answer_to(unique("tokens=2"), "tok1")
        await page.rate("Thumbs Down")
        assert (await page.called())[-1] == "POST feedback 200"
        kept = json.loads((await page.stored())["pictures_EXTERNAL"])["chatHistory"][-1]
        (rating,) = await feedback_on(flowise, "pictures", kept["messageId"])
        assert rating["rating"] == "THUMBS_DOWN"
        assert await page.complaints() == []


async def feedback_on(flowise, flow: str, message: str) -> list[dict]:
    """What Flowise itself has stored."""
    url = f"{flowise['url']}/api/v1/feedback/{flowise['flows'][flow]}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return [entry for entry in await answer.json() if entry["messageId"] == message]


async def test_a_document_reaches_the_model(guard, page, model, tmp_path):
    document = tmp_path / "Größe & Maß (50%).txt"
    document.write_text("The plan: feed the cat at noon.\n")
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "assistant"), "assistant")
        await page.attach({"documents": [str(document)]})
        question = unique("tokens=2", "what is the plan?")
        await page.answer_to(question, "tok1")
        assert "feed the cat at noon" in model.asked(question)["last"]

        again = unique("tokens=3", "and now?")
        await page.answer_to(again, "tok2")
        assert any("feed the cat at noon" in text for _, text in model.asked(again)["messages"])
        await page.open(await gateway.host("ann", "assistant"), "assistant")
        assert document.name in (await page.bubbles())[1]["text"]
        uploaded = ["POST attachments 200", "POST prediction 200", "POST prediction 200"]
        assert await page.called() == [*SETTINGS, *uploaded, *SETTINGS]
        assert await page.complaints() == []


@pytest.mark.parametrize("flow", ["pictures", "assistant"])
async def test_an_image_reaches_the_model_and_is_shown_again_after_a_reload(
    guard, page, model, tmp_path, flow
):
    picture = tmp_path / "Bild, ä (1).png"
    picture.write_bytes(PICTURE)
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", flow), flow)
        await page.attach({"images": [str(picture)]})
        question = unique("tokens=2", "what is this?")
        await page.answer_to(question, "tok1")
        assert model.asked(question)["images"] == [len(PICTURE)]
        (shown,) = images(await page.bubbles())
        assert (shown["width"], shown["from"][:10]) == (2, "data:image")

        host = await gateway.host("ann", flow)
        await page.open(host, flow)
        (shown,) = images(await page.bubbles())
        assert shown["width"] == 2
        assert shown["from"].startswith(f"{host}/api/v1/get-upload-file?")
        assert "GET get-upload-file 200" in await page.called()
        assert await page.complaints() == []

        # with another user's token the same URL names a file of another conversation, which does not exist
        link = shown["from"].removeprefix(host)
        other = await gateway.host("bob", flow)
        async with aiohttp.ClientSession() as session:
            async with session.get(host + link) as own, session.get(other + link) as foreign:
                assert (own.status, await own.read()) == (200, PICTURE)
                assert foreign.status >= 400
            async with session.get(gateway.url + link, headers=bearer(gateway.key)) as backend:
                assert backend.status >= 400


def images(bubbles: list[dict]) -> list[dict]:
    return [image for bubble in bubbles for image in bubble["images"]]


async def test_a_flow_with_a_form_and_a_human_input_node_completes(guard, page, model):
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "approval"), "approval")
        await page.fill({"subject": "Order", "body": "two cats", "from": "ann"})
        await page.press("Submit")
        await page.offers("Proceed")
        await page.open(
            await gateway.host("ann", "approval"), "approval"
        )  # reload while the question is open
        reason = unique("tokens=3", "we need them")
        await page.press("Proceed")
        await page.reason(reason)
        await page.press("Submit")
        await page.shows("tok2")
        await page.idle()
        assert any("two cats" in text for _, text in model.asked(reason)["messages"])
        asked = "POST prediction 200"
        assert await page.called() == [*SETTINGS, asked, *SETTINGS, asked]
        assert await page.complaints() == []


async def test_a_comment_behind_a_thumb_reaches_flowise(flowise, guard, page):
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "pictures"), "pictures")
        await page.answer_to(unique("tokens=2"), "tok1")
        await page.rate("Thumbs Down")
        await page.comment("The answer is wrong.")
        assert (await page.called())[-2:] == ["POST feedback 200", "PUT feedback 200"]
        kept = json.loads((await page.stored())["pictures_EXTERNAL"])["chatHistory"][-1]
        (rating,) = await feedback_on(flowise, "pictures", kept["messageId"])
        assert (rating["rating"], rating["content"]) == ("THUMBS_DOWN", "The answer is wrong.")
        assert await page.complaints() == []

        # another user, who knows the id
        headers = bearer(await gateway.token("bob", "pictures"))
        async with aiohttp.ClientSession(headers=headers) as session:
            url = f"{gateway.url}/api/v1/feedback/{rating['id']}"
            async with session.put(url, json={"content": "mine"}) as foreign:
                assert foreign.status == 404
        assert (await feedback_on(flowise, "pictures", kept["messageId"]))[0]["content"] == rating["content"]


async def test_an_answer_is_read_aloud_and_stopped(guard, page):
    async with guard(page.origin, speech=True) as gateway:
        await page.open(await gateway.host("ann", "pictures"), "pictures")
        await page.answer_to(unique("tokens=80 delay=0.01"), "tok79")
        await page.called()
        await page.speak()
        await page.hush()
        assert sorted(await page.called()) == ["POST text-to-speech 200"] * 2
        assert await page.complaints() == []
        requests, _ = await gateway.ended()
        (speech,) = [line for line in requests if "tts_seconds" in line]
        assert speech["outcome"] in ("error_event", "client_closed")  # of Flowise, or the page is faster
        assert speech["tts_seconds"] < 10


async def test_no_user_stops_what_another_one_hears(flowise, guard):
    """Both say the same chatId and the same message."""
    names = {"chatflowId": "pictures", "chatId": "same", "chatMessageId": "m"}
    async with guard(speech=True) as gateway, aiohttp.ClientSession() as session:
        ann, bob = [bearer(await gateway.token(user, "pictures")) for user in ("ann", "bob")]
        generate, abort = (f"{gateway.url}/api/v1/text-to-speech/{verb}" for verb in ("generate", "abort"))
        async with session.post(generate, json={**names, "text": "hi [[seconds=1]]"}, headers=ann) as heard:
            await heard.content.readline()
            async with session.post(abort, json=names, headers=bob) as stopped:
                assert stopped.status == 200
            rest = await heard.read()
        assert b"event: tts_end" in rest
        assert b"tts_error" not in rest


async def test_a_document_reaches_the_vector_store(guard, page, tmp_path):
    document = tmp_path / "plan.txt"
    document.write_text("Feed the cat at noon.\n")
    async with guard(page.origin, upsert=True) as gateway:
        await page.open(await gateway.host("ann", "library"), "library")
        await page.attach({"documents": [str(document)]})
        await page.answer_to(unique("tokens=2", "what is the plan?"), "tok1")
        assert (await page.called())[-2:] == ["POST vector 200", "POST prediction 200"]
        assert await page.complaints() == []


async def test_a_trace_opens_and_a_page_shows_the_icons_of_nodes(guard, page):
    """The widget has the icons of agentflow nodes in it, and loads those of tools and models so."""
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "assistant"), "assistant", showAgentMessages=True)
        await page.answer_to(unique("tokens=2"), "tok1")
        await page.trace("General Agent")
        assert await page.complaints() == []
        assert await page.image("/api/v1/node-icon/chatOpenAI") > 0
        assert await page.image("/api/v1/node-icon/nothing") == 0
        assert "GET node-icon 200" in await page.called()


@pytest.mark.parametrize("flow", ["pictures", "assistant", "library"])
async def test_the_widget_offers_nothing_that_the_route_refuses(guard, page, flow):
    offered = {}
    for is_on in (True, False):
        async with guard(page.origin, uploads=is_on, upsert=is_on, speech=is_on) as gateway:
            await page.open(await gateway.host("ann", flow), flow)
            await page.answer_to(unique("tokens=2"), "tok1")
            offered[is_on] = await page.offered()
            assert await page.complaints() == []
    assert offered[True]["files"]
    assert offered[False]["files"] == []
    assert ("Play audio" in offered[True]["buttons"]) == (flow == "pictures")
    assert "Play audio" not in offered[False]["buttons"]
    assert ("Thumbs Up" in offered[False]["buttons"]) == (flow != "library")  # no route refuses a rating


async def test_the_page_shows_that_its_session_has_expired(guard, page):
    async with guard(page.origin) as gateway:
        began = time.time()
        await page.open(await gateway.host("ann", "chain", ttl="4s"), "chain")
        await page.answer_to(unique("tokens=2", "my cat is Minka"), "tok1")
        await gateway.passed(began + 4.5)
        await page.ask(unique("tokens=2"))
        await page.idle()
        assert (await page.called())[-1] == "POST prediction 401"
        assert (await page.bubbles())[-1]["who"] == "bot"
        assert "expired" in (await page.bubbles())[-1]["text"]

        await page.open(await gateway.host("ann", "chain"), "chain")
        assert "my cat is Minka" in await page.answer_to(unique("recall=1"), "that is all")


async def test_a_revoked_key_ends_the_streams_of_its_pages(guard, page, model):
    async with guard(page.origin) as gateway:
        await page.open(await gateway.host("ann", "assistant"), "assistant")
        question = unique("tokens=400 delay=0.05")
        await page.ask(question)
        await page.shows("tok3")
        await gateway.revoke(gateway.key)
        await page.shows("revoked")
        await page.idle()
        (end,) = await model.ended(question)
        assert end["reason"] == "client_gone"
        await page.ask(unique("tokens=2"))
        await page.idle()
        assert (await page.called())[-1] == "POST prediction 401"


async def test_a_page_of_an_unlisted_origin_gets_nothing(guard, page):
    async with guard("https://app.example.com") as gateway:
        await page.open(await gateway.host("ann", "chain"), "chain")
        assert all(call.endswith("net::ERR_FAILED") for call in await page.called())
        assert any("CORS" in complaint for complaint in await page.complaints())

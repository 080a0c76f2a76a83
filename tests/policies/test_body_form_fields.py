"""Fields of multipart forms: they count in the budget, may arrive slowly, and may follow files."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.flowise.prediction import Changes, Prediction
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ANSWER, PREDICT, answering, ask
from tests.policies.test_body_uploads import FIELD, FILE, TYPE

CLOSING = b"--b--\r\n"
UPLOADS = {"uploads": True}


def field(name, text):
    return b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name, text)


def post(body):
    return request("POST", PREDICT, body, Content_Type=TYPE)


async def stays_silent(wire, seconds):
    """Asserts that no reply comes for some seconds."""
    try:
        async with asyncio.timeout(seconds):
            await wire.reader.readexactly(1)
    except TimeoutError:
        return
    raise AssertionError("there is a reply already")


async def test_fields_count_as_held_bodies_and_files_do_not(start, connect):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer, _):
        reached.set()
        await go_on.wait()
        peer.answer(ANSWER)

    large = field(b"question", b"a b " * 150) + CLOSING
    with_file = field(b"question", b"hi") + FILE + b"a" * 5000 + b"\r\n" + field(b"history", b"h") + CLOSING
    upstream = RawUpstream(script)
    settings = {"route": UPLOADS, "server": {"buffered_bodies": "1000B"}}
    async with upstream, start(upstream.url, **settings) as gateway:
        async with connect(gateway) as first:
            first.send(post(large))
            await reached.wait()
            refused = await ask(connect, gateway, body=large, Content_Type=TYPE)
            go_on.set()
            assert (await first.reply()).status == 200
        later = [await ask(connect, gateway, body=body, Content_Type=TYPE) for body in (large, with_file) * 2]
    assert (refused.status, refused.json()["code"]) == (503, "overloaded")
    assert [reply.status for reply in later] == [200] * 4


@pytest.mark.parametrize("file", [b"", FILE + b"a\r\n"])
async def test_slow_fields_are_accepted_while_bytes_arrive_and_their_time_is_a_wait(file, start, connect):
    form = post(FIELD + file + CLOSING)
    cut = form.index(b"--b\r\n") + 1
    server = {"timeouts": {"body_idle": "200ms"}}
    settings = {"route": UPLOADS, "server": server}
    async with (
        answering() as upstream,
        start(upstream.url, **settings) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(form[:cut])
        for at in range(cut, cut + 4):
            await stays_silent(wire, 0.08)
            wire.send(form[at : at + 1])
        wire.send(form[cut + 4 :])
        reply = await wire.reply()
        line = await gateway.lines.request()
    assert reply.status == 200
    assert line["waited_s"] > 0.25


async def test_fields_that_pause_are_refused(start, connect):
    server = {"timeouts": {"body_idle": "100ms"}}
    async with (
        answering() as upstream,
        start(upstream.url, route=UPLOADS, server=server) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(post(FIELD + CLOSING)[:-10])
        reply = await wire.reply()
    assert reply.status == 400
    assert "No byte of the body arrived for 0.1 s" in reply.json()["message"]


async def test_form_that_does_not_begin_with_its_boundary_is_refused_at_its_first_line(start, connect):
    head = request("POST", PREDICT, b"", Content_Type=TYPE, Transfer_Encoding="chunked")
    async with (
        answering() as upstream,
        start(upstream.url) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(head + b"2\r\n\r\n\r\n")
        reply = await wire.reply()
    assert (reply.status, reply.json()["code"]) == (400, "bad_request")


async def test_late_fields_are_known_when_the_answer_comes(start, connect):
    late = field(b"question", b"one two three four") + field(b"history", b"x")
    body = FILE + b"a" * 1000 + b"\r\n" + late + CLOSING
    async with answering() as upstream, start(upstream.url, route=UPLOADS, logs={"prompts": True}) as gateway:
        reply = await ask(connect, gateway, body=body, Content_Type=TYPE)
        line = await gateway.lines.request()
    assert reply.status == 200
    assert (line["prompt"], line["dropped"]) == ("one two three four", ["history"])


@pytest.mark.parametrize("kind", ["json", "form", "upload"])
async def test_body_is_not_held_beside_what_is_sent(kind, start, connect):
    held = []

    async def script(peer, _):
        predictions = (thing for thing in gc.get_objects() if isinstance(thing, Prediction))
        held.extend(one for one in predictions if b"rare words" in one.encode(Changes()))
        peer.answer(ANSWER)

    fields = field(b"question", b"rare words")
    body, media = {
        "json": (b'{"question":"rare words","history":[1]}', "application/json"),
        "form": (fields + CLOSING, TYPE),
        "upload": (fields + FILE + b"a\r\n" + CLOSING, TYPE),
    }[kind]
    gc.collect()
    async with RawUpstream(script) as upstream, start(upstream.url, route=UPLOADS) as gateway:
        reply = await ask(connect, gateway, body=body, Content_Type=media)
    assert reply.status == 200
    assert held == []

"""The widget's settings: Flowise is asked once for all that wait, and an answer that has not changed is not read again."""

from __future__ import annotations

import asyncio

import pytest

from gateway.handlers import chatbot_config as handler
from gateway.policies import limits
from tests.harness.clock import until
from tests.harness.gateway import FLOW
from tests.harness.raw_client import request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ask

PATH = f"/api/v1/public-chatbotConfig/{FLOW}"
SETTINGS = b'{"a":1,"flowData":"{\\"nodes\\":[]}"}'
TRIMMED = b'{"a":1}'
ETAG = 'W/"24df-mGkw+GEmen"'


class Flowise:
    """Answers with settings and an ETag, and 304 if the ETag is known."""

    def __init__(self, settings=SETTINGS, etag=ETAG):
        self.settings, self.etag = settings, etag
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.statuses = []

    async def __call__(self, peer, seen):
        await self.may_answer.wait()
        is_known = self.etag and seen.fields.get("if-none-match") == self.etag
        self.statuses.append(304 if is_known else 200)
        etag = f"ETag: {self.etag}\r\n" if self.etag else ""
        if is_known:
            peer.send(f"HTTP/1.1 304 Not Modified\r\n{etag}\r\n".encode())
        else:
            length = f"Content-Length: {len(self.settings)}\r\n\r\n"
            peer.send(f"HTTP/1.1 200 OK\r\n{etag}{length}".encode() + self.settings)


async def test_an_answer_that_has_not_changed_is_not_read_again(start, connect, monkeypatch):
    read = []
    trim = handler.trim
    monkeypatch.setattr(handler, "trim", lambda body, route: read.append(body) or trim(body, route))
    flowise = Flowise()
    async with RawUpstream(flowise) as upstream, start(upstream.url) as gateway:
        replies = [await ask(connect, gateway, "GET", PATH) for _ in range(3)]
        flowise.settings, flowise.etag = b'{"a":2,"flowData":"x"}', '"other"'
        replies.append(await ask(connect, gateway, "GET", PATH))
    assert [reply.body for reply in replies] == [TRIMMED] * 3 + [b'{"a":2}']
    assert flowise.statuses == [200, 304, 304, 200]
    assert len(read) == 2
    assert replies[0].fields["etag"] == 'W/"24df-mGkw+GEmen-public"'
    assert replies[3].fields["etag"] == '"other-public"'


async def test_a_client_that_has_the_settings_gets_no_body(start, connect):
    async with RawUpstream(Flowise()) as upstream, start(upstream.url) as gateway:
        etag = (await ask(connect, gateway, "GET", PATH)).fields["etag"]
        async with connect(gateway) as wire:
            for known, status in ((etag, 304), (f'"x", {etag}', 304), (ETAG, 200), ("*", 200)):
                wire.send(request("GET", PATH, If_None_Match=known))
                reply = await wire.reply()
                assert (reply.status, reply.fields["etag"]) == (status, etag)
                assert reply.body == (b"" if status == 304 else TRIMMED)


@pytest.mark.parametrize("etag", ["", "no quotes", '"' + "x" * 200 + '"', '"\xe9"', '""'])
async def test_without_a_valid_etag_flowise_is_asked_for_all_each_time(etag, start, connect):
    flowise = Flowise(etag=etag)
    async with RawUpstream(flowise) as upstream, start(upstream.url) as gateway:
        for _ in range(2):
            reply = await ask(connect, gateway, "GET", PATH)
            assert (reply.body, reply.fields.get("etag")) == (TRIMMED, None)
    assert flowise.statuses == [200, 200]


async def test_large_settings_are_not_kept(start, connect):
    flowise = Flowise(b'{"a":"%b","flowData":1}' % (b"x" * handler.LARGEST_KEPT))
    async with RawUpstream(flowise) as upstream, start(upstream.url) as gateway:
        for _ in range(2):
            assert len((await ask(connect, gateway, "GET", PATH)).body) > handler.LARGEST_KEPT
    assert flowise.statuses == [200, 200]


async def test_requests_that_come_meanwhile_share_one_question(start, connect):
    flowise = Flowise()
    flowise.may_answer.clear()
    async with RawUpstream(flowise) as upstream, start(upstream.url) as gateway:
        asking = [asyncio.ensure_future(ask(connect, gateway, "GET", PATH)) for _ in range(10)]
        await until(lambda: len(gateway.exchanges()) == 10)
        flowise.may_answer.set()
        replies = await asyncio.gather(*asking)
        scrape = await gateway.metrics()
    assert [reply.body for reply in replies] == [TRIMMED] * 10
    assert flowise.statuses == [200]
    results = [value for name, value in scrape.items() if "upstream_requests_total" in name]
    assert results == [1]


async def test_a_client_that_leaves_takes_the_answer_from_no_other(start, connect):
    flowise = Flowise()
    flowise.may_answer.clear()
    async with RawUpstream(flowise) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as first:
            first.send(request("GET", PATH))
            await until(lambda: upstream.seen)
            second = asyncio.ensure_future(ask(connect, gateway, "GET", PATH))
            await until(lambda: len(gateway.exchanges()) == 2)
        await until(lambda: len(gateway.exchanges()) == 1)
        flowise.may_answer.set()
        assert (await second).body == TRIMMED


async def test_an_error_is_that_of_all_that_wait_and_the_next_is_asked_anew(start, connect):
    flowise = Flowise(b"nonsense")
    flowise.may_answer.clear()
    async with RawUpstream(flowise) as upstream, start(upstream.url) as gateway:
        asking = [asyncio.ensure_future(ask(connect, gateway, "GET", PATH)) for _ in range(3)]
        await until(lambda: len(gateway.exchanges()) == 3)
        flowise.may_answer.set()
        for reply in await asyncio.gather(*asking):
            assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
            assert reply.json()["message"].startswith(
                "Flowise's chatbot settings cannot be read: it is not a JSON"
            )
        flowise.settings = SETTINGS
        assert (await ask(connect, gateway, "GET", PATH)).body == TRIMMED


@pytest.mark.parametrize("mode", ["public", "full"])
async def test_an_address_may_ask_so_often_in_a_minute(mode, start, connect, monkeypatch):
    monkeypatch.setattr(limits, "SETTINGS_PER_MINUTE", 3)
    async with (
        RawUpstream(Flowise()) as upstream,
        start(upstream.url, route={"chatbot_config": mode}) as gateway,
    ):
        replies = [await ask(connect, gateway, "GET", PATH) for _ in range(4)]
        scrape = await gateway.metrics()
        other = await ask(connect, gateway, "GET", "/api/v1/chatflows-streaming/chat")
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert replies[0].fields["ratelimit-policy"] == '"settings";q=3;w=60'
    assert replies[3].json()["code"] == "rate_limited"
    assert scrape['flowise_gateway_limited_total{limit="settings",route="chat"}'] == 1
    assert other.status == 200
    assert len(upstream.seen) == 4


OFFERED = b'{"isTTSEnabled":true,"uploads":{"isImageUploadAllowed":true,"isRAGFileUploadAllowed":true}}'
UPLOADS = b'{"isImageUploadAllowed":true,"isRAGFileUploadAllowed":true}'
SWITCHES = [
    (
        {},
        b'{"isTTSEnabled":false,"uploads":{"isImageUploadAllowed":false,"isRAGFileUploadAllowed":false}}',
        "",
    ),
    (
        {"uploads": True},
        b'{"isTTSEnabled":false,"uploads":{"isImageUploadAllowed":true,"isRAGFileUploadAllowed":false}}',
        "f",
    ),
    ({"uploads": True, "upsert": True, "speech": True}, OFFERED, "fvs"),
    ({"chatbot_config": "full"}, OFFERED, None),
]


@pytest.mark.parametrize(("keys", "settings", "letters"), SWITCHES)
async def test_the_widget_offers_what_the_route_allows(keys, settings, letters, start, connect):
    tag = ETAG if letters is None else f'W/"24df-mGkw+GEmen-public{letters}"'
    for path, answer, expected in (
        (PATH, OFFERED, settings),
        (
            f"/api/v1/chatflows-uploads/{FLOW}",
            UPLOADS,
            b'{"isImageU' + settings.partition(b'{"isImageU')[2][:-1],
        ),
    ):
        async with RawUpstream(Flowise(answer)) as upstream, start(upstream.url, route=keys) as gateway:
            reply = await ask(connect, gateway, "GET", path)
        assert (reply.body, reply.fields["etag"]) == (expected, tag)


async def test_uploads_are_known_where_the_settings_are_off(start, connect):
    async with (
        RawUpstream(Flowise(UPLOADS)) as upstream,
        start(upstream.url, route={"chatbot_config": "off"}) as gateway,
    ):
        reply = await ask(connect, gateway, "GET", f"/api/v1/chatflows-uploads/{FLOW}")
    assert reply.json() == {"isImageUploadAllowed": False, "isRAGFileUploadAllowed": False}

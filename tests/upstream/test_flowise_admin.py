"""What can be wrong with a Flowise that a command asks: each is one sentence, and the API key is in none."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiohttp import web

from gateway.config.addresses import parse_url
from gateway.upstream import flowise_admin
from gateway.upstream.flowise_admin import Advice, FlowiseAdmin, FlowiseQueryError, without_api
from tests.harness import captures
from tests.harness.unreachable import unreachable

ADVICE = Advice(authority="Name it.", key="write it down")
FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
UNKNOWN = "00000000-0000-4000-8000-000000000001"  # in the captures


def admin(url, key="secret-key"):
    return FlowiseAdmin(parse_url(str(url).rstrip("/")), key, None, ADVICE)


async def refusal(url, ask, key="secret-key"):
    """Kind and sentence of the error, the URL replaced."""
    async with admin(url, key) as open_admin:
        with pytest.raises(FlowiseQueryError) as refused:
            await ask(open_admin)
    assert "secret-key" not in str(refused.value)
    return refused.value.kind, str(refused.value).replace(str(url).rstrip("/"), "URL")


@pytest.fixture
def serving(aiohttp_server):
    """A server whose every answer comes from this function of the request."""

    async def begin(answer):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        return (await aiohttp_server(app)).make_url("/")

    return begin


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            web.Response(status=302, headers={"Location": "/x"}),
            "URL redirects (status 302). Write the URL to which it leads.",
        ),
        (
            web.Response(text="<html>", content_type="text/html"),
            "URL answers, but not as Flowise does (status 200).",
        ),
        (web.json_response({"version": 5}), "URL answers, but not as Flowise does (status 200)."),
        (web.Response(status=404), "URL answers, but not as Flowise does (status 404)."),
    ],
)
async def test_another_server_is_no_flowise(serving, answer, sentence):
    async def handler(_):
        return answer

    kind, text = await refusal(await serving(handler), FlowiseAdmin.greet)
    assert (kind, text.startswith(sentence)) == ("not_flowise", True)


@pytest.mark.parametrize(
    ("situation", "sentence"),
    [
        (
            "another name",
            "is for another host name. Write the name that it has, or renew it with this one.",
        ),
        ("expired", "has expired. Renew it, and check this machine's clock."),
        ("not valid yet", "is not valid yet. Check this machine's clock."),
        ("another authority", "is not from a known authority. Name it."),
        ("self-signed", "is not from a known authority. Name it."),
        (
            "another purpose",
            "is refused (certificate: unsuitable certificate purpose). Issue one without that fault.",
        ),
    ],
)
async def test_each_fault_of_a_certificate_is_named(tmp_path, situation, sentence):
    async with unreachable(situation, tmp_path) as place:
        tls = ssl.create_default_context(cafile=str(place.ca))
        async with FlowiseAdmin(parse_url(place.url), "", tls, ADVICE) as asking:
            with pytest.raises(FlowiseQueryError) as refused:
                await asking.greet()
    assert (refused.value.kind, str(refused.value)) == ("tls", f"The certificate of {place.url} {sentence}")


@pytest.mark.parametrize(
    ("status", "key", "kind", "end"),
    [
        (401, "secret-key", "key", "Copy one from Flowise, under API Keys, and write it down."),
        (401, "", "no_key", "Create one in Flowise, under API Keys, and write it down."),
        (
            403,
            "secret-key",
            "no_permission",
            "Give it chatflows:view and agentflows:view in Flowise, under API Keys.",
        ),
    ],
)
async def test_a_key_is_refused_for_its_reason(serving, status, key, kind, end):
    async def handler(_):
        return web.json_response({"error": "Unauthorized Access"}, status=status)

    found, text = await refusal(await serving(handler), FlowiseAdmin.chatflows, key)
    assert (found, text.endswith(end)) == (kind, True)


async def test_an_older_flowise_sends_the_whole_list_whatever_page_is_asked_for(serving):
    asked = []

    async def handler(request):
        asked.append(request.query["page"])
        return web.json_response([{"id": FLOW, "name": "n"}])

    async with admin(await serving(handler)) as flowise:
        assert [flow.id for flow in await flowise.chatflows()] == [FLOW]
    assert asked == ["1"]


async def test_a_list_that_grows_while_it_is_read_ends(serving):
    async def handler(_):
        return web.json_response({"data": [], "total": 9})

    async with admin(await serving(handler)) as flowise:
        assert await flowise.chatflows() == ()


@pytest.mark.parametrize("status", [500, 503])
async def test_a_flowise_that_fails_does_not_mean_that_the_chatflow_is_missing(serving, status):
    async def handler(_):
        return web.json_response({"message": "SQLITE_BUSY: database is locked"}, status=status)

    url = await serving(handler)
    what = f"Flowise at URL fails to look up chatflow {FLOW} (status {status})."
    for ask in (FlowiseAdmin.is_streaming, FlowiseAdmin.uploads):
        assert await refusal(url, lambda flowise, ask=ask: ask(flowise, FLOW)) == (
            *("broken", f"{what} Read its log, and see whether its database answers."),
        )


async def test_an_unknown_chatflow_is_missing_as_captured(serving):
    async def handler(request):
        kind = "streaming" if "streaming" in request.path else "uploads"
        body = captures.load(f"chatflows-{kind}-unknown").partition(b"\r\n\r\n")[2]
        return web.Response(status=500, body=body, content_type="application/json")

    url = await serving(handler)
    for ask in (FlowiseAdmin.is_streaming, FlowiseAdmin.uploads):
        assert await refusal(url, lambda flowise, ask=ask: ask(flowise, UNKNOWN)) == (
            *("missing", "Flowise at URL has no such chatflow."),
        )


async def test_an_unknown_host_a_lost_connection_and_silence_are_told_apart(monkeypatch):
    kind, text = await refusal("http://flowise.invalid", FlowiseAdmin.greet)
    assert (kind, text) == (
        "unreachable",
        "The host name of URL is not known. Write one that this machine can resolve.",
    )

    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    for serve, expected in ((hang_up, "unreachable"), (say_nothing, "timeout")):
        monkeypatch.setattr(flowise_admin, "TIMEOUT", 0.3 if serve is say_nothing else 10.0)
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert (await refusal(f"http://127.0.0.1:{port}", FlowiseAdmin.greet))[0] == expected


async def test_a_response_is_bounded(serving, monkeypatch):
    monkeypatch.setattr(flowise_admin, "LARGEST", 1000)

    async def handler(_):
        return web.Response(body=b" " * 2000)

    kind, _ = await refusal(await serving(handler), FlowiseAdmin.chatflows)
    assert kind == "not_flowise"


@pytest.mark.parametrize(
    ("given", "shorter"),
    [
        ("http://h/api/v1", "http://h"),
        ("http://h/flowise/api/v1/prediction/x", "http://h/flowise"),
        ("http://h/API", "http://h"),
        ("http://h/apis", ""),
        ("http://h/flowise", ""),
    ],
)
def test_the_path_of_the_api_is_cut_off(given, shorter):
    assert without_api(parse_url(given)) == shorter

"""`no_transform`: event streams that no proxy in front may compress."""

from __future__ import annotations

import pytest

from tests.harness.api_keys import key_of
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import PREDICT, answering, ask

STREAM = b'message:\ndata:{"event":"end","data":"[DONE]"}\n\n'
ASKED = b'{"streaming":true}'


def streaming(cache_control):
    async def script(peer, _):
        field = f"Cache-Control: {cache_control}\r\n" if cache_control else ""
        peer.send(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{field}Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        peer.chunk(STREAM)
        peer.chunk(b"")

    return RawUpstream(script)


@pytest.mark.parametrize(
    ("of_flowise", "switch", "sent"),
    [
        ("no-cache", True, "no-cache, no-transform"),
        ("", True, "no-cache, no-transform"),
        ("no-cache, No-Transform", True, "no-cache, No-Transform"),
        ("no-cache", False, "no-cache"),
    ],
)
async def test_a_stream_says_so(of_flowise, switch, sent, start, connect):
    async with (
        streaming(of_flowise) as upstream,
        start(upstream.url, route={"no_transform": switch}) as gateway,
    ):
        reply = await ask(connect, gateway, body=ASKED)
    assert (reply.status, reply.body, reply.fields["cache-control"]) == (200, STREAM, sent)


async def test_a_stream_below_a_session_token_stays_private(start, connect, tmp_path):
    key = await key_of(tmp_path, "backend")
    route = {"auth": ["session"], "no_transform": True}
    async with (
        streaming("no-cache") as upstream,
        start(upstream.url, route=route, auth={"secret": "s" * 32}) as gateway,
    ):
        path = "/gateway/v1/session-tokens"
        token = (await ask(connect, gateway, path=path, body=b'{"caller":"a"}', X_API_Key=key)).json()[
            "token"
        ]
        reply = await ask(connect, gateway, path=f"/t/{token}{PREDICT}", body=ASKED)
    assert (reply.status, reply.fields["cache-control"]) == (200, "private, no-store, no-transform")


async def test_an_answer_that_is_no_stream_is_as_before(start, connect):
    async with answering() as upstream, start(upstream.url, route={"no_transform": True}) as gateway:
        reply = await ask(connect, gateway)
    assert (reply.status, reply.fields.get("cache-control")) == (200, None)

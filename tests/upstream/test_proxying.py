"""Servers behind a proxy of the environment, through a whole gateway."""

from __future__ import annotations

from base64 import b64encode

import aiohttp
import pytest

from gateway.auth.jwks import JwksFetch
from gateway.auth.key_set import JwksError
from gateway.config.proxies import read_proxies
from tests.harness.http_proxy import HttpProxy
from tests.harness.jwt_tokens import http_answer, web_server
from tests.harness.ports import closed_port
from tests.harness.surface import ANSWER, PREDICT, QUESTION, answering, ask
from tests.harness.tls_upstream import CERTS, tls_flowise

THROUGH = {"main": {"use_proxy": True}}
CREDENTIALS = b64encode(b"user:pass word").decode()


def environment(port, **more):
    url = f"http://user:pass%20word@127.0.0.1:{port}"
    return {"http_proxy": url, "HTTPS_PROXY": url, **more}


@pytest.fixture
def closed():
    with closed_port() as port:
        yield port


async def test_plain_http_goes_through_it_in_absolute_form(start, connect):
    async with answering() as upstream, HttpProxy() as proxy:
        url = upstream.url.replace("127.0.0.1", "flowise.invalid") + "/prefix"
        async with start(url, upstreams=THROUGH, environ=environment(proxy.port)) as gateway:
            reply = await ask(connect, gateway)
            assert (reply.status, reply.body) == (200, ANSWER)
            await gateway.lines.until("upstream_reachable")
        assert {head.split(b"?")[0].split(b"/api")[0].split(b" ")[1] for head in proxy.heads} == {
            url.encode()
        }
        assert all(f"Proxy-Authorization: Basic {CREDENTIALS}\r\n".encode() in head for head in proxy.heads)
        assert {head.split(b" ")[0] for head in proxy.heads} == {b"POST", b"GET"}  # its own question, too
        assert CREDENTIALS not in gateway.lines.getvalue()
        assert "pass" not in gateway.lines.getvalue()


async def test_https_goes_through_a_tunnel(start, connect):
    main = {"use_proxy": True, "tls": {"ca": str(CERTS / "ca.pem")}}
    async with HttpProxy() as proxy, tls_flowise() as port:
        url = f"https://localhost:{port}"
        async with start(url, upstreams={"main": main}, environ=environment(proxy.port)) as gateway:
            for _ in range(2):
                assert (await ask(connect, gateway)).body == ANSWER
    place = f"localhost:{port}"
    wanted = f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nProxy-Authorization: Basic {CREDENTIALS}\r\n\r\n"
    assert set(proxy.heads) == {wanted.encode()}


@pytest.mark.parametrize(
    ("upstreams", "more"),
    [({}, {}), (THROUGH, {"no_proxy": "example.com, 127.0.0.0/8"})],
    ids=["not asked for", "no_proxy"],
)
async def test_others_are_connected_to_directly(upstreams, more, start, connect):
    async with answering() as upstream, HttpProxy() as proxy:
        environ = environment(proxy.port, **more)
        async with start(upstream.url, upstreams=upstreams, environ=environ) as gateway:
            assert (await ask(connect, gateway)).body == ANSWER
    assert proxy.heads == []


ANSWERS = [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "proxy: status 407"),
    (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "proxy: status 503"),
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\n<h1>No!</h1>\n", "proxy: status 403"),
    (b"HTTP/1.1 502\r\n\r\n", "proxy: status 502"),
    (b"HTTP/1.1 200 OK\r\n\r\nmore", "proxy: its answer is not valid"),
    (b"nonsense\r\n\r\n", "proxy: its answer is not valid"),
    (b"HTTP/1.1 200", "proxy: connection closed"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 17000, "proxy: its answer is not valid"),
    (None, "proxy: connection refused"),
]


@pytest.mark.parametrize(("answer", "words"), ANSWERS, ids=[words for _, words in ANSWERS])
async def test_why_there_is_no_tunnel_is_in_the_log(answer, words, start, connect, closed):
    async with HttpProxy(answer or b"") as proxy:
        environ = environment(closed if answer is None else proxy.port)
        async with start("https://flowise.invalid", upstreams=THROUGH, environ=environ) as gateway:
            reply = await ask(connect, gateway)
            assert (reply.status, reply.json()["message"]) == (502, "Flowise cannot be reached.")
            line = await gateway.lines.request()
            assert line["error"] == f"upstream_unreachable: Flowise cannot be reached. ({words})"
            result = 'upstream="main",server="flowise.invalid:443",result="proxy"'
            metrics = await gateway.metrics()
            assert metrics[next(name for name in metrics if 'result="proxy"' in name)] == 1, result


async def test_a_proxy_of_http_that_wants_other_credentials_is_named(start, connect):
    async with HttpProxy(ANSWERS[0][0]) as proxy:
        url = "http://flowise.invalid"
        async with start(url, upstreams=THROUGH, environ=environment(proxy.port)) as gateway:
            reply = await ask(connect, gateway)
            assert (reply.status, reply.json()["code"]) == (502, "upstream_bad_reply")
            line = await gateway.lines.request()
            assert "(proxy: status 407)" in line["error"]
            assert line["outcome"] == "upstream_error"


async def test_a_stream_through_a_proxy_keeps_its_bytes(start, connect):
    events = b"".join(b'message:\ndata:{"event":"token","data":"%d"}\n\n' % at for at in range(50))
    async with (
        answering(events, content_type="text/event-stream") as upstream,
        HttpProxy() as proxy,
        start(upstream.url, upstreams=THROUGH, environ=environment(proxy.port)) as gateway,
    ):
        reply = await ask(connect, gateway, body=QUESTION[:-1] + b',"streaming":true}', path=PREDICT)
        assert reply.body.startswith(events)


async def test_keys_of_an_issuer_are_fetched_through_it():
    document = b'{"keys":[]}'

    async def speak(_, writer):
        writer.write(http_answer(document))

    async with web_server(speak) as (url, heads), HttpProxy() as proxy:
        for environ, count in (
            (environment(proxy.port), 1),
            (environment(proxy.port, no_proxy="127.0.0.1"), 1),
        ):
            fetch = JwksFetch(read_proxies(environ))
            await fetch.start()
            assert await fetch(f"{url}/jwks.json") == document
            await fetch.close()
            assert len(proxy.heads) == count
        assert b"Proxy-Authorization: Basic" in proxy.heads[0]
        assert len(heads) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [(ANSWERS[0][0], "no response (proxy: status 407)"), (None, "no response (proxy: connection refused)")],
)
async def test_why_a_proxy_gives_no_keys_is_named(answer, words, closed):
    async with HttpProxy(answer or b"") as proxy:
        environ = environment(closed if answer is None else proxy.port)
        fetch = JwksFetch(read_proxies(environ))
        await fetch.start()
        with pytest.raises(JwksError) as failed:
            await fetch("https://id.invalid/jwks.json")
        await fetch.close()
    assert str(failed.value) == words
    assert isinstance(failed.value.__cause__, aiohttp.ClientError)

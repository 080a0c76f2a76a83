"""Several servers of an upstream, through a whole gateway: where requests go, and where they go when one is lost."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from time import monotonic

import pytest

from gateway import aio
from tests.harness.clock import until
from tests.harness.frames import END, METADATA, START, token
from tests.harness.gateway import FLOW
from tests.harness.ports import free_port
from tests.harness.raw_client import request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.servers import chat_on, named, servers, swallowing
from tests.harness.unreachable import no_descriptors, unreachable

PATH = f"/api/v1/prediction/{FLOW}"
FORM = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nx\r\n--b--\r\n'


def sample(samples, name, **labels):
    """The sum of all samples with these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    prefix = f"flowise_gateway_{name}{{"
    return sum(
        value
        for key, value in samples.items()
        if key.startswith(prefix) and all(one in key for one in wanted)
    )


def label(url):
    return url.partition("//")[2]


async def ask(gateway, connect, chat_id=None, **fields):
    """The reply to a prediction in this conversation."""
    async with connect(gateway) as wire:
        body = {"question": "hi", **fields} | ({} if chat_id is None else {"chatId": chat_id})
        wire.post(PATH, body)
        return await wire.reply()


async def test_everything_of_a_conversation_goes_to_one_server(start, connect):
    async with named("a") as a, named("b") as b, named("c") as c:
        every = [a, b, c]
        sections = servers(*(one.url for one in every))
        async with start(a.url, route={"uploads": True}, **sections) as gateway, connect(gateway) as wire:
            for upstream in every:
                for _ in range(3):
                    chat = chat_on(gateway, upstream.url)
                    before = len(upstream.seen), len(upstream.aborts)
                    for method, path, body, fields in (
                        ("POST", PATH, b'{"question":"hi","chatId":"%b"}' % chat.encode(), {}),
                        (
                            "POST",
                            PATH,
                            b'{"question":"hi","overrideConfig":{"sessionId":"%b"}}' % chat.encode(),
                            {},
                        ),
                        ("PUT", f"/api/v1/chatmessage/abort/{FLOW}/{chat}", b"", {}),
                        (
                            "GET",
                            f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId={chat}&fileName=a",
                            b"",
                            {},
                        ),
                        (
                            "POST",
                            f"/api/v1/attachments/{FLOW}/{chat}",
                            FORM,
                            {"Content_Type": "multipart/form-data; boundary=b"},
                        ),
                        (
                            "POST",
                            "/api/v1/leads",
                            b'{"chatflowid":"%b","chatId":"%b"}' % (FLOW.encode(), chat.encode()),
                            {},
                        ),
                    ):
                        wire.send(request(method, path, body, **fields))
                        assert (await wire.reply()).status == 200, path
                    assert (len(upstream.seen), len(upstream.aborts)) == (before[0] + 5, before[1] + 1)
            lines = await gateway.lines.until("request", 54)
            assert {line["server"] for line in lines} == {label(one.url) for one in every}


@pytest.mark.parametrize("balance", ["conversation", "least_busy"])
async def test_without_a_conversation_the_least_busy_server_is_asked(start, connect, balance):
    """With least_busy also requests of a conversation."""
    held, may_end = asyncio.Event(), asyncio.Event()

    async def script(peer, seen):
        held.set()
        await may_end.wait()
        peer.answer(b"{}")

    chats = {"chat_id": "same"} if balance == "least_busy" else {}
    async with RawUpstream(script) as a, RawUpstream(script) as b:
        sections = servers(a.url, b.url, balance=balance)
        async with start(
            a.url, route={"conversations": {"bind": False, "when_busy": "wait"}}, **sections
        ) as gateway:
            asking = []
            for number in range(6):
                held.clear()
                chat = {"chat_id": f"chat-{number}"} if chats else {}
                asking.append(asyncio.create_task(ask(gateway, connect, **chat)))
                await held.wait()
            assert (len(a.seen), len(b.seen)) == (3, 3)
            may_end.set()
            assert {(await one).status for one in asking} == {200}


async def test_weights_share_out_runs(start, connect):
    async with named("a") as a, named("b") as b:
        listed = [{"url": a.url}, {"url": b.url, "weight": 3}]
        async with start(a.url, upstreams={"main": {"servers": listed}}) as gateway:
            for _ in range(12):
                assert (await ask(gateway, connect)).status == 200
        assert (len(a.seen), len(b.seen)) == (3, 9)


# -- a server is lost before a byte was written -----------------------------------------------------


def hanging_up():
    """A server that takes a connection and closes it, in the same moment."""

    async def serve(reader, writer):
        writer.transport.abort()

    return asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize("situation", ["refused", "another authority", "expired", "no tls", "hangs up"])
@pytest.mark.parametrize("is_upload", [False, True], ids=["json", "upload"])
async def test_without_a_connection_the_next_server_gets_the_request_once(
    start, connect, tmp_path, situation, is_upload
):
    async with unreachable(situation, tmp_path) as lost, named("b") as b, named("c") as c:
        ca = {} if lost.ca is None else {"tls": {"ca": str(lost.ca)}}
        sections = servers(lost.url, b.url, c.url, **ca)
        async with start(b.url, route={"uploads": True}, **sections) as gateway, connect(gateway) as wire:
            chat = chat_on(gateway, lost.url)
            if is_upload:
                path = f"/api/v1/attachments/{FLOW}/{chat}"
                wire.send(request("POST", path, FORM, Content_Type="multipart/form-data; boundary=b"))
            else:
                wire.post(PATH, {"question": "hi", "chatId": chat})
            reply = await wire.reply()
            line = await gateway.lines.request()
            samples = await gateway.metrics()
        assert reply.status == 200
        assert len(b.seen) + len(c.seen) == 1
        answered = b if b.seen else c
        assert line["server"] == label(answered.url)
        assert "error" not in line
        assert answered.seen[0].fields["host"] == label(answered.url)
        assert (
            sample(samples, "upstream_failovers_total", upstream="main") >= 1
        )  # the gateway's own question too
        assert sample(samples, "upstream_requests_total", server=label(answered.url), result="ok") == 1


async def test_a_server_that_does_not_accept_leaves_time_for_the_next_one(start, connect):
    with swallowing() as port:
        async with named("b") as b:
            lost = f"http://127.0.0.1:{port}"
            sections = servers(lost, b.url, timeouts={"connect": "400ms"})
            async with start(b.url, **sections) as gateway:
                reply = await ask(gateway, connect, chat_on(gateway, lost))
                samples = await gateway.metrics()
    assert (reply.status, len(b.seen)) == (200, 1)
    assert sample(samples, "upstream_failovers_total", reason="timeout") >= 1


async def test_servers_may_have_different_paths(start, connect):
    async with named("a") as a, named("b") as b:
        async with start(a.url, **servers(f"{a.url}/one", f"{b.url}/two-x", api_key="k")) as gateway:
            for upstream, prefix in ((a, "/one"), (b, "/two-x")):
                await ask(gateway, connect, chat_on(gateway, upstream.url))
                seen = upstream.seen[0]
                assert (seen.target, seen.fields["authorization"]) == (prefix + PATH, "Bearer k")
                assert seen.fields["host"] == label(upstream.url)


async def test_no_descriptor_for_a_connection_is_no_fault_of_a_server(start, connect):
    async with named("a") as a, named("b") as b, start(a.url, **servers(a.url, b.url)) as gateway:
        async with connect(gateway) as wire:
            wire.send(request("GET", "/api/v1/ping"))
            assert (await wire.reply()).status == 200
            with no_descriptors():
                for _ in range(6):
                    wire.post(PATH, {"question": "hi", "chatId": "c"})
                    assert (await wire.reply()).status == 502
            samples = await gateway.metrics()
            assert sample(samples, "upstream_failovers_total") == 0
            assert sample(samples, "upstream_server_up") == 2


# -- a server is lost after a byte was written ------------------------------------------------------


def lost_after(seen_first):
    """A Flowise that closes the connection once it has read a request."""

    async def script(peer, seen):
        seen_first.append(seen.method)
        peer.fin()

    return RawUpstream(script)


async def test_what_was_written_is_not_written_elsewhere(start, connect):
    sent = []
    async with lost_after(sent) as a, named("b") as b, start(a.url, **servers(a.url, b.url)) as gateway:
        reply = await ask(gateway, connect, chat_on(gateway, a.url))
        line = await gateway.lines.request()
        assert (reply.status, sent, b.seen) == (502, ["POST"], [])
        assert line["server"] == label(a.url)


async def test_a_get_goes_to_another_server_once(start, connect):
    sent = []
    async with lost_after(sent) as a, lost_after(sent) as b, named("c") as c:
        async with (
            start(a.url, **servers(a.url, b.url, c.url, eject={"most": 0})) as gateway,
            connect(gateway) as wire,
        ):
            for _ in range(6):
                chat = chat_on(gateway, a.url)
                path = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId={chat}&fileName=a"
                wire.send(request("GET", path))
                reply = await wire.reply()
                assert reply.status == (502 if len(sent) % 2 == 0 and not c.seen else 200)
                assert len(sent) + len(c.seen) == 2
                sent.clear()
                c.seen.clear()


# -- ejection ---------------------------------------------------------------------------------------


async def test_a_server_that_fails_is_ejected_and_tried_by_one_request(start, connect, monkeypatch):
    async def script(peer, _):
        if flaw:
            await flaw[0](peer)
        else:
            peer.answer(b"{}")

    async def drops(peer):
        peer.rst()

    flaw = [drops]
    eject = {"failures": 3, "within": "30s", "for": "200ms", "most": 0.5}
    async with RawUpstream(script) as a, named("b") as b:
        async with start(a.url, **servers(a.url, b.url, eject=eject, health={"every": "0s"})) as gateway:
            chats = [chat_on(gateway, a.url) for _ in range(20)]
            assert [(await ask(gateway, connect, chat)).status for chat in chats[:4]] == [502, 502, 502, 200]
            (line,) = gateway.lines.of("server_down")
            assert (line["upstream"], line["server"], line["by"]) == ("main", label(a.url), "requests")
            assert (line["level"], line["reason"]) == ("warning", "connection reset")
            samples = await gateway.metrics()
            assert sample(samples, "upstream_server_up", server=label(a.url)) == 0
            assert sample(samples, "upstream_server_up", server=label(b.url)) == 1
            assert sample(samples, "upstream_ejections_total", server=label(a.url), reason="reset") == 1

            # its time is over: one request tries it, while others go elsewhere
            trying, may_answer = asyncio.Event(), asyncio.Event()

            async def waits(peer):
                trying.set()
                await may_answer.wait()
                peer.answer(b"{}")

            flaw[0] = waits
            standing = next(one for one in gateway.servers() if one.label == label(a.url)).standing
            await until(lambda: standing.may_be_used(asyncio.get_running_loop().time()))
            one = asyncio.create_task(ask(gateway, connect, chats[4]))
            await trying.wait()
            tried = len(a.seen)
            assert [(await ask(gateway, connect, chat)).status for chat in chats[5:10]] == [200] * 5
            assert (len(a.seen), gateway.lines.of("server_up")) == (tried, [])
            may_answer.set()
            assert (await one).status == 200
            (line,) = await gateway.lines.until("server_up")
            assert (line["server"], line["by"]) == (label(a.url), "requests")
            seen = len(b.seen)
            assert [(await ask(gateway, connect, chat)).status for chat in chats[10:]] == [200] * 10
            assert len(b.seen) == seen  # its conversations are back


@pytest.mark.parametrize("status", [502, 503, 504, 500, 429])
async def test_which_statuses_count(start, connect, status):
    async def script(peer, _):
        peer.answer(b"{}", f"{status} x")

    eject = {"failures": 2, "for": "1m"}
    async with RawUpstream(script) as a, named("b") as b:
        async with start(a.url, **servers(a.url, b.url, eject=eject)) as gateway:
            for _ in range(3):
                await ask(gateway, connect, chat_on(gateway, a.url))
            lines = gateway.lines.of("server_down")
    assert [line["reason"] for line in lines] == ([f"status {status}"] if status in (502, 503, 504) else [])
    assert len(a.seen) == (2 if lines else 3)


async def test_a_head_that_does_not_come_counts(start, connect, hurried):
    async def script(peer, _):
        await peer.closed_by_gateway()

    eject = {"failures": 2, "for": "1m"}
    hurried(0.01)
    async with RawUpstream(script) as a, named("b") as b:
        sections = servers(a.url, b.url, eject=eject, timeouts={"head": "50ms"})
        async with start(a.url, **sections) as gateway:
            statuses = [
                (await ask(gateway, connect, chat_on(gateway, a.url), streaming=True)).status
                for _ in range(3)
            ]
            (line,) = gateway.lines.of("server_down")
    assert statuses == [504, 504, 200]
    assert line["reason"] == "no response head in time"


async def test_while_all_are_down_one_request_at_a_time_tries(start, connect, tmp_path):
    """The others get a 502 at once, whose log line has the reason."""
    may_answer, tried = asyncio.Event(), asyncio.Event()
    behaviour = "resets"

    async def script(peer, _):
        if behaviour == "resets":
            peer.rst()
            return
        tried.set()
        await may_answer.wait()
        peer.answer(b"{}")

    eject = {"failures": 1, "for": "1m", "most": 1.0}
    async with RawUpstream(script) as a, RawUpstream(script) as b:
        async with start(a.url, **servers(a.url, b.url, eject=eject)) as gateway:
            for upstream in (a, b):
                assert (await ask(gateway, connect, chat_on(gateway, upstream.url))).status == 502
            assert len(gateway.lines.of("server_down")) == 2
            behaviour = "waits"
            chat = chat_on(gateway, a.url)
            one = asyncio.create_task(ask(gateway, connect, chat))
            await tried.wait()
            replies = [await ask(gateway, connect, f"other-{number}") for number in range(5)]
            assert {(reply.status, reply.json()["message"]) for reply in replies} == {
                (502, "Flowise cannot be reached.")
            }
            assert len(a.seen) + len(b.seen) == 3
            line = (await gateway.lines.until("request", 7))[-1]
            assert line["error"].endswith("(every server is down: connection reset)")
            may_answer.set()
            assert (await one).status == 200
            await gateway.lines.until("server_up")
            assert (await ask(gateway, connect, f"{chat}-2")).status == 200


async def test_a_request_that_tries_a_server_and_leaves_lets_the_next_one_try(start, connect):
    is_broken, begun = True, asyncio.Event()

    async def script(peer, _):
        if is_broken:
            peer.rst()
            return
        begun.set()
        if len(a.seen) == 2:
            await peer.closed_by_gateway()
        else:
            peer.answer(b"{}")

    eject = {"failures": 1, "for": "10ms", "most": 1.0}
    route = {"on_disconnect": "abort"}
    async with RawUpstream(script) as a, start(a.url, route=route, **servers(a.url, eject=eject)) as gateway:
        assert (await ask(gateway, connect)).status == 502
        is_broken = False
        (server,) = gateway.servers()
        async with connect(gateway) as wire:
            path = f"/api/v1/get-upload-file?chatflowId={FLOW}&chatId=c&fileName=a"
            wire.send(request("GET", path))
            await begun.wait()
            assert server.standing.is_tried
        await until(lambda: not server.standing.is_tried)
        assert (await ask(gateway, connect)).status == 200
        assert server.standing.is_up


# -- checks -----------------------------------------------------------------------------------------


async def test_checks_take_a_server_out_and_bring_it_back(start, connect, monkeypatch):
    monkeypatch.setattr(aio, "INTERVAL", 0.01)
    answers = {"status": "200 OK"}
    asked = []

    async def serve(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                asked.append(head)
                if answers["status"]:
                    writer.write(f"HTTP/1.1 {answers['status']}\r\nContent-Length: 4\r\n\r\npong".encode())
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, named("b") as b:
        url = "http://127.0.0.1:{}".format(server.sockets[0].getsockname()[1])
        health = {"every": "30ms", "timeout": "20ms", "fall": 2, "rise": 2, "path": "/api/v1/ping?x=1"}
        async with start(b.url, **servers(f"{url}/base", b.url, health=health, api_key="k")) as gateway:
            for number, (status, reason) in enumerate((("503 x", "status 503"), ("", "timed out")), 1):
                answers["status"] = status
                line = (await gateway.lines.until("server_down", number))[-1]
                assert (line["server"], line["by"], line["reason"]) == (label(url), "checks", reason)
                assert sample(await gateway.metrics(), "upstream_server_up", server=label(url)) == 0
                chat = chat_on(gateway, url)
                assert (await ask(gateway, connect, chat)).json() == {"text": "b"}
                answers["status"] = "404 Not Found"  # a Flowise that works
                line = (await gateway.lines.until("server_up", number))[-1]
                assert (line["server"], line["by"]) == (label(url), "checks")
        checks = [head for head in asked if b"X-Request-ID: health\r\n" in head]
        assert checks[0].startswith(b"GET /base/api/v1/ping?x=1 HTTP/1.1\r\n")
        assert b.checks


async def test_no_checks_where_none_are_wanted(start, connect, hurried):
    async with named("a") as a, named("b") as b:
        async with start(a.url, **servers(a.url, b.url, health={"every": "0s"})) as gateway:
            for _ in range(20):
                assert (await ask(gateway, connect)).status == 200
        assert (a.checks, b.checks) == (0, 0)


# -- runs, aborts and locks -------------------------------------------------------------------------


class Held:
    """Streams that begin, and end when they are aborted or let go."""

    def __init__(self):
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START + token("a"))
        self.begun.set()
        await self.may_end.wait()
        peer.chunk(METADATA + END)
        peer.chunk(b"")


@pytest.mark.parametrize("by", ["hang up", "request"])
async def test_an_abort_goes_to_the_server_that_has_the_run(start, connect, by):
    """Also where its conversation has another server again, that was down when the run began."""
    port = free_port()
    held = Held()
    async with RawUpstream(held) as b:
        url = f"http://127.0.0.1:{port}"
        async with start(b.url, **servers(url, b.url)) as gateway, connect(gateway) as other:
            chat = chat_on(gateway, url)
            async with connect(gateway) as wire:
                wire.post(PATH, {"question": "hi", "streaming": True, "chatId": chat})
                await wire.head()
                await wire.until(b'"a"')
                a = named("a")
                a._server = await asyncio.start_server(a._serve, "127.0.0.1", port)
                try:
                    if by == "request":
                        other.send(request("PUT", f"/api/v1/chatmessage/abort/{FLOW}/{chat}"))
                        assert (await other.reply()).status == 200
                        held.may_end.set()
                        await wire.until(b"[DONE]")
                    else:
                        wire.reset()
                        await b.aborted.wait()
                        held.may_end.set()
                    await gateway.lines.until("request")
                    assert (len(b.aborts), a.aborts) == (1, [])
                finally:
                    await a.__aexit__()


async def test_an_abort_of_a_run_of_another_process_reaches_every_server(start, connect):
    async with named("a") as a, named("b") as b, start(a.url, **servers(a.url, b.url)) as gateway:
        async with connect(gateway) as wire:
            wire.send(request("PUT", f"/api/v1/chatmessage/abort/{FLOW}/chat-1"))
            assert (await wire.reply()).status == 200
        await until(lambda: len(a.aborts) == len(b.aborts) == 1)


async def test_an_abort_reaches_every_server_although_its_client_has_left(start, connect):
    """Or the one that it was sent to does not answer: the run may be another one's."""
    async with named("a") as a, named("b") as b, start(a.url, **servers(a.url, b.url)) as gateway:
        for upstream in (a, b):
            upstream.may_answer_abort.clear()
        async with connect(gateway) as wire:
            wire.send(request("PUT", f"/api/v1/chatmessage/abort/{FLOW}/chat-1"))
            await until(lambda: a.aborts or b.aborts)
        await until(lambda: len(a.aborts) == len(b.aborts) == 1)
        for upstream in (a, b):
            upstream.may_answer_abort.set()


async def test_an_abort_does_not_wait_for_a_connection_that_a_run_has(start, connect):
    held = Held()
    async with RawUpstream(held) as a:
        async with (
            start(a.url, **servers(a.url, max_connections=1)) as gateway,
            connect(gateway) as wire,
        ):
            wire.post(PATH, {"question": "hi", "streaming": True, "chatId": "chat-1"})
            await wire.head()
            async with connect(gateway) as other:
                other.send(request("PUT", f"/api/v1/chatmessage/abort/{FLOW}/chat-1"))
                assert (await other.reply()).status == 200
            held.may_end.set()
            await wire.until(b"[DONE]")


async def test_upstreams_that_share_a_server_share_the_lock_of_a_conversation(start, connect):
    held = Held()
    async with RawUpstream(held) as a, RawUpstream(held) as b, RawUpstream(held) as c:
        upstreams = {
            "main": {"servers": [{"url": a.url}, {"url": b.url}]},
            "other": {"servers": [{"url": b.url}, {"url": c.url}]},
        }
        defaults = {"conversations": {"bind": False, "when_busy": "refuse"}}
        routes = [
            {"name": "one", "chatflow": FLOW, "upstream": "main", "auth": ["anonymous"]},
            {
                "name": "two",
                "chatflow": FLOW.replace("3", "4", 1),
                "upstream": "other",
                "auth": ["anonymous"],
            },
        ]
        async with (
            start(a.url, upstreams=upstreams, routes=routes, defaults=defaults) as gateway,
            connect(gateway) as wire,
        ):
            body = {"question": "hi", "streaming": True, "chatId": "same"}
            wire.post("/api/v1/prediction/one", body)
            await wire.head()
            async with connect(gateway) as second:
                second.post("/api/v1/prediction/two", body)
                reply = await second.reply()
            assert (reply.status, reply.json()["code"]) == (409, "conversation_busy")
            held.may_end.set()
            await wire.until(b"[DONE]")


# -- connections ------------------------------------------------------------------------------------


async def test_an_old_connection_gets_no_further_request(start, connect):
    async with named("a") as a, start(a.url, **servers(a.url, max_age="1ms")) as gateway:
        for _ in range(3):
            assert (await ask(gateway, connect)).status == 200
            (connection,) = gateway.pool()._open
            await until(lambda connection=connection: monotonic() >= connection.usable_until)
        assert a.connections == 3


@pytest.mark.parametrize(("keepalive", "expected"), [("60s", (1, 60, 15)), ("2s", (1, 2, 1)), ("0s", (0,))])
async def test_tcp_probes_a_silent_connection(start, connect, keepalive, expected):
    async with named("a") as a, start(a.url, **servers(a.url, keepalive=keepalive)) as gateway:
        assert (await ask(gateway, connect)).status == 200
        (connection,) = gateway.pool()._open
        used = connection._transport.get_extra_info("socket")
        found = [used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        if found[0]:
            found += [
                used.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
            ]
    assert tuple(found) == expected


async def test_a_server_that_drains_finishes_what_it_has_and_gets_nothing_more(start, connect):
    held = Held()
    async with RawUpstream(held) as a, named("b") as b, start(a.url, **servers(a.url, b.url)) as gateway:
        chat = chat_on(gateway, a.url)
        upstream = gateway.upstream()
        leaving, staying = (
            next(one for one in gateway.servers() if one.label == label(each.url)) for each in (a, b)
        )
        async with connect(gateway) as wire:
            wire.post(PATH, {"question": "hi", "streaming": True, "chatId": chat})
            await wire.head()
            upstream.servers.replace([staying])
            assert not upstream.is_drained
            assert (await ask(gateway, connect, f"{chat}-2")).json() == {"text": "b"}
            held.may_end.set()
            await wire.until(b"[DONE]")
        await until(lambda: leaving.is_drained)
        assert upstream.is_drained


async def test_a_successor_takes_over_the_servers_that_are_the_same(start, connect):
    async with named("a") as a, named("b") as b, named("c") as c:
        async with start(a.url, **servers(a.url, b.url)) as gateway:
            for upstream in (a, b):
                assert (await ask(gateway, connect, chat_on(gateway, upstream.url))).status == 200
            first, second = gateway.servers()
            heavier, other = gateway.upstream().settings.servers
            other = other.model_copy(update={"url": replace(other.url, port=int(c.url.rpartition(":")[2]))})
            listed = (heavier.model_copy(update={"weight": 3}), other)
            before, after = gateway.succeed(
                gateway.upstream().settings.model_copy(update={"servers": listed})
            )
            assert [server is first for server in after.servers] == [True, False]
            assert (first.lot.weight, before.is_drained, second.is_drained) == (3, True, True)
            assert (await ask(gateway, connect, chat_on(gateway, a.url))).status == 200
            assert a.connections == 1

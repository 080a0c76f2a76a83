"""A Flowise that takes nothing of a request: the client gets 504, and nothing is held any longer."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.harness.clock import until
from tests.harness.raw_client import request
from tests.harness.surface import PREDICT
from tests.policies.test_body_uploads import FIELD, FILE, TYPE

MIB = 1024 * 1024
DEADLINE = {"upstreams": {"main": {"timeouts": {"send": "300ms"}}}}
JSON = b'{"question":"hi","x":"%b"}' % (b"a" * 16 * MIB)
FORM = FIELD + FILE + b"a" * 16 * MIB + b"\r\n--b--\r\n"


class Deaf:
    """A Flowise that accepts connections and reads only what it is told to."""

    async def __aenter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._socket.setblocking(False)
        self.url = "http://127.0.0.1:{}".format(self._socket.getsockname()[1])
        self.taken = []
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._socket)
            self.taken.append(connection)

    async def __aexit__(self, *_):
        self._accepting.cancel()
        for connection in (*self.taken, self._socket):
            connection.close()


@pytest.mark.parametrize(("body", "kind"), [(JSON, "application/json"), (FORM, TYPE)], ids=["json", "form"])
async def test_a_request_that_flowise_does_not_take_ends_with_504(body, kind, start, connect, hurried):
    hurried(0.1)
    route = {"uploads": True, "max_body": "50MiB"}
    async with (
        Deaf() as upstream,
        start(upstream.url, route=route, **DEADLINE) as gateway,
        connect(gateway) as wire,
    ):
        wire.send(request("POST", PREDICT, body, Content_Type=kind))
        reply = await wire.reply()
        line = await gateway.lines.request()
        await until(lambda: not gateway.open_calls())
        assert gateway.held_body_bytes() == 0
        await until(lambda: "0 open" in repr(gateway.pool()))
    assert (reply.status, reply.json()["code"]) == (504, "upstream_timeout")
    assert "took no byte of the request" in reply.json()["message"]
    assert (line["outcome"], line["error"].partition(";")[0]) == ("timeout", "deadline: send")


async def test_a_form_whose_client_is_slow_is_not_the_fault_of_flowise(start, connect, hurried):
    """Nothing waits to be taken while the client sends nothing."""
    route = {"uploads": True}
    async with (
        Deaf() as upstream,
        start(upstream.url, route=route, **DEADLINE) as gateway,
        connect(gateway) as wire,
    ):
        form = FIELD + FILE + b"a" * 100_000
        wire.send(request("POST", PREDICT, form, Content_Type=TYPE, Content_Length=str(len(form) + 1000)))
        await until(lambda: len(upstream.taken) > 1)  # the first asks whether the chatflow streams
        answer = asyncio.create_task(wire.reply())
        await asyncio.wait([answer], timeout=1.0)
        assert not answer.done()
        answer.cancel()

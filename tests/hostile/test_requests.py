"""Every hostile request by itself: the loop goes on, the answer is right, nothing stays behind."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest

from tests.harness.blunt_upstream import blunt_upstream
from tests.harness.gateway import running
from tests.harness.loop_lag import MOST, loop_lag
from tests.hostile.corpus import bodies, fields, forms

LONGEST_LINE = 16 * 1024
REQUESTS = {**bodies.TABLE, **forms.TABLE, **fields.TABLE}


@pytest.fixture(scope="module")
def upstream():
    with blunt_upstream() as url:
        yield url


def exchange(host: str, port: int, data: bytes) -> tuple[int | None, bytes]:
    """Send a request from a thread and read to the end of the connection; status and body."""
    with socket.create_connection((host, port)) as client:
        with suppress(ConnectionError):  # it may answer before it has everything
            client.sendall(data)
        answer = b""
        with suppress(ConnectionError):
            while b"\r\n\r\n" not in answer and (piece := client.recv(65536)):
                answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")  # an answer of the gateway's own leaves in one piece
    return (int(head.split(b" ", 2)[1]) if head else None), body


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_hostile_request_stalls_nobody_and_leaves_nothing(name, upstream, tmp_path):
    case = REQUESTS[name]
    data = case.make()
    async with running(tmp_path, upstream, route=dict(case.route), server=dict(case.server)) as gateway:
        with loop_lag() as lag:
            status, body = await asyncio.to_thread(exchange, gateway.host, gateway.port, data)
        assert (status, case.says in body.decode()) == (case.status, True), body[:300]
        assert lag.worst < MOST
        assert max(map(len, gateway.lines.getvalue().splitlines())) <= LONGEST_LINE

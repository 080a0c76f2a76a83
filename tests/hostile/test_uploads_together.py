"""Many bodies at once do not add up: what is done for them in one iteration of the loop is counted, not timed."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp.streams import StreamReader

from gateway.policies import body
from gateway.policies.body_form import FormReader
from gateway.policies.body_reader import STEPS
from tests.harness.gateway import running
from tests.harness.raw_client import Wire, request
from tests.harness.surface import PREDICT, answering
from tests.hostile.corpus.forms import CLOSING, FILE, MULTIPART
from tests.hostile.corpus.requests import in_chunks

AT_ONCE = 50
UPLOAD = {"uploads": True, "max_body": "16MiB"}


class Steps:
    """Counts the calls of some methods in each iteration of the loop."""

    def __init__(self, monkeypatch):
        self.most = self.all = 0
        self._now = 0
        self._monkeypatch = monkeypatch
        self._next = asyncio.get_running_loop().call_soon(self._turn)

    def count(self, owner, name):
        counted = getattr(owner, name)

        def call(*args, **kwargs):
            self._now += 1
            self.all += 1
            return counted(*args, **kwargs)

        self._monkeypatch.setattr(owner, name, call)

    def stop(self):
        self._next.cancel()

    def _turn(self):
        self.most, self._now = max(self.most, self._now), 0
        self._next = asyncio.get_running_loop().call_soon(self._turn)


def form(parts, size):
    return b"".join(FILE + b"x" * size + b"\r\n" for _ in range(parts)) + CLOSING[2:]


def members(count):
    return b"{%b}" % b",".join(b'"%d":"%b"' % (number, b"x" * 10) for number in range(count))


BODIES = {
    "forms of many parts": (MULTIPART, form(20, 1), 2 * 20),
    "large files": (MULTIPART, form(1, 256 * 1024), 5),
    "JSON that is read on the loop": ("application/json", members(200), 1),
}


@pytest.mark.parametrize("name", BODIES)
async def test_the_work_for_many_bodies_is_shared_out_among_iterations(name, tmp_path, monkeypatch):
    kind, content, least = BODIES[name]
    data = request("POST", PREDICT, content, Content_Type=kind)
    async with answering() as upstream, running(tmp_path, upstream.url, route=UPLOAD) as gateway:
        wires = [await Wire.to(gateway.host, gateway.port) for _ in range(AT_ONCE)]
        steps = Steps(monkeypatch)
        steps.count(FormReader, "fetch_next_part")
        steps.count(aiohttp.BodyPartReader, "read_chunk")
        steps.count(body, "read_json")
        for wire in wires:
            wire.send(data)
        statuses = [(await wire.reply()).status for wire in wires]
        steps.stop()
        for wire in wires:
            await wire.close()
    assert statuses == [200] * AT_ONCE
    assert steps.all >= AT_ONCE * least
    assert steps.most <= 2 * STEPS  # between two looks lies a part of each of two iterations


async def test_chunks_of_one_byte_from_many_clients_are_parsed_in_slices(tmp_path, monkeypatch):
    """A slice has 2,730 chunks, and in one iteration there are two and those of 5 ms."""
    data = in_chunks(members(400), 1)
    async with answering() as upstream, running(tmp_path, upstream.url) as gateway:
        wires = [await Wire.to(gateway.host, gateway.port) for _ in range(AT_ONCE // 2)]
        steps = Steps(monkeypatch)
        steps.count(StreamReader, "feed_data")
        for wire in wires:
            wire.send(data)
        statuses = {(await wire.reply()).status for wire in wires}
        steps.stop()
        for wire in wires:
            await wire.close()
    assert statuses == {413}  # more than 256 members
    assert steps.most < steps.all / 5

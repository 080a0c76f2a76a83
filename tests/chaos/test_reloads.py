"""Reloads under load, over several workers: no error, no lost or doubled event, exact limits, flat memory."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest
import yaml

from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.fleet import SECRET, status_of
from tests.harness.frames import END, METADATA, PATH, START, token
from tests.harness.gateway import configuration
from tests.harness.processes import serving
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

EVERY = 0.5  # seconds between two events of a stream
LIMIT = 300
GROWTH = 1.25  # of the memory from the end of the first third of the reloads to the end of all


class Numbered:
    """Each open stream has its events numbered, until the test lets all end; a question without a stream has an answer."""

    def __init__(self):
        self.may_end = asyncio.Event()

    async def __call__(self, peer, seen):
        if not seen.json().get("streaming"):
            peer.answer(b'{"text":"hello"}')
            return
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        number = 0
        while not self.may_end.is_set():
            peer.chunk(token(str(number)))
            number += 1
            try:
                async with asyncio.timeout(EVERY):
                    await self.may_end.wait()
            except TimeoutError:
                continue
        peer.chunk(METADATA + END)
        peer.chunk(b"")


def expected(count):
    return START + b"".join(token(str(number)) for number in range(count)) + METADATA + END


async def streaming(gateway, begun):
    """One stream from its first event to its last; returns its bytes."""
    async with await Wire.to(gateway.host, gateway.port) as wire:
        wire.post(PATH, {"question": "hi", "streaming": True})
        status, _ = await wire.head()
        assert status == 200
        body = await wire.chunk()
        begun.release()
        while chunk := await wire.chunk():
            body += chunk
        return body


def variants(upstream, url, watched):
    """Configurations that differ in what a reload replaces; `counted` keeps its limit in all of them."""
    counted = {
        "name": "counted",
        "chatflow": "4a7b0c2d-2222-4333-8444-555566667777",
        "upstream": "main",
        "auth": ["anonymous"],
        "limits": [{"name": "exact", "requests": LIMIT, "per": "3650d", "by": "route"}],
    }
    for number in range(6):
        sections = configuration(
            upstream,
            server={"workers": watched, "max_connections_per_address": 5000, "max_body": f"{number + 1}MiB"},
            auth={"secret": [SECRET, f"{number} further secret of thirty-two bytes"][: 1 + number % 2]},
            limits={"store": url, "when_store_fails": "closed"},
            upstreams={"main": {"api_key": f"key-{number % 3}"}},
            route={"max_question": 100 + number},
        )
        sections["upstreams"][f"other{number}"] = {"servers": [{"url": f"http://127.0.0.1:{number + 1}"}]}
        sections["routes"].append(counted)
        yield yaml.safe_dump(json.loads(json.dumps(sections)))


def memory(gateway):
    """Resident KiB of the parent and its workers."""
    started = {line["worker"]: line["pid"] for line in gateway.lines if line["event"] == "worker_started"}
    total = 0
    for pid in (gateway.pid, *started.values()):
        status = Path(f"/proc/{pid}/status").read_text()
        total += int(status.split("VmRSS:")[1].split()[0])
    return total


class Load:
    """Questions at a fixed rate, on connections of their own."""

    def __init__(self, gateway, rate):
        self.gateway = gateway
        self.rate = rate
        self.statuses = Counter()
        self.slowest = 0.0
        self._open = set()

    async def run(self):
        """What is due, also after a pause of this process."""
        began, sent = monotonic(), 0
        while True:
            for _ in range(int((monotonic() - began) * self.rate) - sent):
                task = asyncio.ensure_future(self._one())
                self._open.add(task)
                task.add_done_callback(self._open.discard)
                sent += 1
            await time_passes(1 / self.rate)

    async def _one(self):
        began = monotonic()
        self.statuses[await status_of(self.gateway, "/api/v1/prediction/chat")] += 1
        self.slowest = max(self.slowest, monotonic() - began)

    async def rest(self):
        await asyncio.gather(*self._open)


async def charge(gateway):
    """One request of the limit that is counted. On a busy machine a call to the store may time out: it is repeated."""
    while (status := await status_of(gateway, "/api/v1/prediction/counted")) == 503:
        pass
    return status


async def reload_all(gateway, path, texts, count, load):
    """`count` reloads, each in force before the next; charges the exact limit meanwhile."""
    sizes, charged = [], Counter()
    for number in range(count):
        await asyncio.to_thread(path.write_text, texts[number % len(texts)])
        gateway.send_signal(signal.SIGHUP)
        charged[await charge(gateway)] += 1
        await gateway.until("config_reloaded", number + 1)
        sizes.append(memory(gateway))
    return sizes, charged


@pytest.mark.chaos
@pytest.mark.timeout(60 * bounds.TEST)
@pytest.mark.parametrize(("reloads", "streams", "rate", "workers"), [(200, 200, 50, 4)])
async def test_reloads_lose_nothing(reloads, streams, rate, workers, valkey, tmp_path, record_property):
    upstream_script = Numbered()
    async with RawUpstream(upstream_script) as upstream:
        texts = list(variants(upstream.url, valkey.url, workers))
        first = yaml.safe_load(texts[0])
        sections = {key: first[key] for key in ("server", "auth", "limits", "upstreams", "routes")}
        async with serving(tmp_path, upstream.url, **sections) as gateway:
            begun = asyncio.Semaphore(0)
            open_streams = [asyncio.ensure_future(streaming(gateway, begun)) for _ in range(streams)]
            for _ in range(streams):
                await begun.acquire()
            load = Load(gateway, rate)
            asking = asyncio.ensure_future(load.run())
            sizes, charged = await reload_all(gateway, tmp_path / "gateway.yaml", texts, reloads, load)
            asking.cancel()
            await asyncio.wait([asking])
            await load.rest()
            upstream_script.may_end.set()
            bodies = await asyncio.gather(*open_streams)
            figures = {
                "statuses": dict(load.statuses),
                "slowest_s": round(load.slowest, 3),
                "kib": (sizes[0], sizes[len(sizes) // 3], sizes[-1]),
                "events": sum(body.count(b"\n\n") for body in bodies),
            }
            record_property("figures", figures)
            print(figures)
            assert set(load.statuses) == {200}
            assert all(body == expected(body.count(b'"token"')) for body in bodies)
            assert charged == {200: reloads}
            left = Counter()
            for _ in range(LIMIT + 5 - reloads):
                left[await charge(gateway)] += 1
            assert left == {200: LIMIT - reloads, 429: 5}
            assert sizes[-1] <= GROWTH * sizes[len(sizes) // 3]
            wrong = ("config_refused", "bug", "library", "worker_ended", "worker_stalled")
            assert not [line for line in gateway.lines if line["event"] in wrong]

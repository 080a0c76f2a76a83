"""A real Prometheus scrapes two workers under load: afterwards its sums are exact."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
import yaml

from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.frames import END, METADATA, START, event, token
from tests.harness.gateway import FLOW
from tests.harness.ports import free_port
from tests.harness.processes import spawn
from tests.harness.programs import program
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.valkey import running_valkey

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(6 * bounds.TEST)]
PATH = f"/api/v1/prediction/{FLOW}"
COUNT, AT_ONCE = 300, 20
SECRET = "a secret of thirty-two bytes or more"
KINDS = ("whole", "error", "cut", "answer", "failed", "refused")
OUTCOMES = {
    "whole": "ok", "error": "error_event", "cut": "truncated", "answer": "ok", "failed": "upstream_error",
    "refused": "refused",
}  # fmt: skip


class Truth:
    """A Flowise that counts the events and tokens it sent, except those of streams that it cut."""

    def __init__(self):
        self.events, self.tokens = Counter(), Counter()

    async def __call__(self, peer, seen):
        kind, number = seen.json()["question"].split(":")
        tokens = int(number)
        if kind == "answer":
            self._spend(tokens)
            peer.answer(json.dumps({"text": "x", "agentFlowExecutedData": self._trace(tokens)}).encode())
        elif kind == "failed":
            peer.answer(b'{"statusCode":500}', "500 Internal Server Error")
        else:
            await self._stream(peer, kind, tokens)

    async def _stream(self, peer, kind, tokens):
        peer.send(STREAM_HEAD)
        sent = [START, *(token(str(number)) for number in range(tokens))]
        if kind == "whole":
            sent += [event("agentFlowExecutedData", json.dumps(self._trace(tokens))), METADATA, END]
            self._spend(tokens)
        elif kind == "error":
            sent += [event("error", '"failed"'), END]
        for piece in sent:
            peer.chunk(piece)
            await asyncio.sleep(0)
        if kind == "cut":
            await peer.writer.drain()
            peer.fin()
            return
        peer.chunk(b"")
        self.events.update(json.loads(piece.split(b"data:")[1])["event"] for piece in sent)

    def _spend(self, tokens):
        self.tokens.update({"input": tokens + 1, "output": tokens})

    def _trace(self, tokens):
        usage = {"input_tokens": tokens + 1, "output_tokens": tokens}
        return [{"nodeId": "n", "data": {"output": {"usageMetadata": usage}}}]


@asynccontextmanager
async def prometheus(folder, target):
    """A server that scrapes `target` once a second; yields a function that queries it."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "gateway", "static_configs": [{"targets": [target]}]}],
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    process = await spawn(
        "prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

            async def ask(query):
                async with session.get("/api/v1/query", params={"query": query}) as answer:
                    found = (await answer.json())["data"]["result"]
                return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}

            await _is_up(ask)
            yield ask
    finally:
        process.terminate()
        await process.communicate()


async def _is_up(ask):
    while True:
        try:
            if (await ask('up{job="gateway"}')).popitem()[1] == 1:
                return
        except (aiohttp.ClientError, KeyError):
            pass
        await time_passes(0.1)


async def one(gateway, kind, number):
    """Send a request of this kind on its own connection; returns the number of delivered events."""
    body = {"question": f"{kind}:{number}", "streaming": kind in ("whole", "error", "cut")}
    if kind == "refused":
        body["overrideConfig"] = {"temperature": 1}
    async with await Wire.to(gateway.host, gateway.port) as wire:
        wire.post(PATH, body, Connection="close")
        reply = await wire.reply()
    return reply.body.count(b"\n\n") if kind in ("whole", "error") else 0


async def test_the_sums_of_prometheus_are_exact(serve, tmp_path):
    program("prometheus")
    dice, truth = random.Random(5), Truth()
    requests = [(dice.choice(KINDS), dice.randrange(1, 30)) for _ in range(COUNT)]
    with running_valkey(tmp_path) as valkey:
        sections = {
            "server": {"workers": 2},
            "auth": {"secret": SECRET},
            "limits": {"store": valkey.url},
            "route": {"limits": [{"name": "many", "requests": COUNT + 9, "per": "1h", "by": "route"}]},
        }
        async with RawUpstream(truth) as upstream, serve(upstream.url, **sections) as gateway:
            async with prometheus(tmp_path, gateway.admin.removeprefix("http://")) as ask:
                places = asyncio.Semaphore(AT_ONCE)

                async def placed(kind, number):
                    async with places:
                        return await one(gateway, kind, number)

                delivered = sum(await asyncio.gather(*(placed(*each) for each in requests)))
                total = "sum(flowise_gateway_requests_total{endpoint='prediction'})"
                while (await ask(total)).get((), 0) < COUNT:
                    await time_passes(0.1)
                by_outcome = await ask("sum by (outcome) (flowise_gateway_requests_total)")
                events = await ask("sum by (event) (flowise_gateway_stream_events_total)")
                tokens = await ask("sum by (type) (flowise_gateway_tokens_total{source='reported'})")
                left = await ask("flowise_gateway_runs_active + flowise_gateway_streams_active")
                await gateway.until("request", COUNT)
                workers = {line["worker"] for line in gateway.lines if line["event"] == "request"}
    assert by_outcome == {
        (("outcome", outcome),): count
        for outcome, count in Counter(OUTCOMES[kind] for kind, _ in requests).items()
    }
    cut = Counter()
    for kind, number in requests:
        if kind == "cut":
            cut.update({"start": 1, "token": number})
    assert {name[0][1]: count for name, count in events.items()} == truth.events + cut
    assert {name[0][1]: count for name, count in tokens.items()} == truth.tokens
    assert delivered == sum(truth.events.values())
    assert set(left.values()) == {0}
    assert workers == {1, 2}

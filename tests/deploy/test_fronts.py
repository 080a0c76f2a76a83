"""Caddy, nginx and HAProxy, started from the shipped files in front of a gateway, with curl as the client."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from tests.harness import bounds
from tests.harness.api_keys import key_of
from tests.harness.frames import END, METADATA, PATH, START, token
from tests.harness.fronts import FRONTS, running_front
from tests.harness.ports import closed_port
from tests.harness.programs import program
from tests.harness.raw_client import Wire
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream

pytestmark = [pytest.mark.parametrize("name", FRONTS), pytest.mark.timeout(3 * bounds.TEST)]
CLIENT, CLAIMED = "127.0.0.9", "203.0.113.7"  # any address of 127.0.0.0/8 is this machine's
SECTIONS = {
    "server": {"trusted_proxies": ["127.0.0.1/32"]},
    "auth": {"secret": "s" * 32, "keys_file": "keys.yaml"},
    "route": {"auth": ["session", "api_key"]},
}


class Curl:
    """One request by HTTP/2, read as it comes."""

    def __init__(self, process):
        self._process = process
        self.got = b""

    async def until(self, text: bytes) -> bytes:
        """Everything so far, once it has this text."""
        while text not in self.got:
            more = await self._process.stdout.read(2**16)
            assert more, f"ended before {text!r}: {self.got!r}"
            self.got += more
        return self.got

    async def ended(self) -> tuple[int, bytes]:
        while more := await self._process.stdout.read(2**16):
            self.got += more
        return await self._process.wait(), self.got

    def leave(self) -> None:
        self._process.kill()


@asynccontextmanager
async def curl(url, *options, body=None):
    """`-i`: the head comes before the body."""
    words = [program("curl"), "-sNik", "--noproxy", "*", "--http2", "--interface", CLIENT, *options]
    if body is not None:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    process = await asyncio.create_subprocess_exec(*words, url, stdout=asyncio.subprocess.PIPE)
    try:
        yield Curl(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def session_token(gateway, key):
    async with await Wire.to(gateway.host, gateway.port) as wire:
        wire.post("/gateway/v1/session-tokens", {"caller": "ann"}, Authorization=f"Bearer {key}")
        return (await wire.reply()).json()["token"]


class Steps:
    """A Flowise that sends the next token when the client has seen the last one."""

    def __init__(self):
        self.seen = asyncio.Queue()

    async def __call__(self, peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(START)
        for number in range(3):
            peer.chunk(token(f"tok{number}"))
            await self.seen.get()
        peer.chunk(METADATA + END)
        peer.chunk(b"")


async def test_tokens_arrive_one_by_one_from_the_clients_own_address_and_no_log_has_the_token(
    name, start, tmp_path
):
    steps, key = Steps(), await key_of(tmp_path, "backend")
    async with RawUpstream(steps) as upstream, start(upstream.url, **SECTIONS) as gateway:
        secret = await session_token(gateway, key)
        front_folder = tmp_path / name
        front_folder.mkdir()
        async with running_front(name, front_folder, gateway.port) as front:
            url = f"{front.url}/t/{secret}{PATH}"
            claims = ("-H", f"X-Forwarded-For: {CLAIMED}", "-H", f"Forwarded: for={CLAIMED}")
            async with curl(
                url, *claims, "-H", f"Referer: {url}", body={"question": "hi", "streaming": True}
            ) as client:
                for number in range(3):
                    await client.until(b"tok%d" % number)
                    steps.seen.put_nowait(None)
                status, got = await client.ended()
            for path in (
                f"/%74/{secret}{PATH}",
                f"//t/{secret}/api/v1/ping",
                f"/t/{secret}",
                f"/x/{secret}/y?a={secret}",
            ):
                async with curl(front.url + path) as client:
                    await client.ended()
            log = await front.logged("/t/-" + PATH)
        lines = await gateway.lines.until("request", 3)
        (line,) = [line for line in lines if line["endpoint"] == "prediction" and line["streaming"]]
    assert (status, got.partition(b"\r\n")[0].strip()) == (0, b"HTTP/2 200")
    assert got.partition(b"\r\n\r\n")[2].removesuffix(b"\n\n").endswith(END.strip())
    assert (line["client"], line["outcome"], line["caller"]) == (CLIENT, "ok", "session:backend/ann")
    assert upstream.seen[0].fields["x-forwarded-for"] == CLIENT
    assert secret not in log
    assert secret[4:20] not in log


async def test_a_client_that_leaves_ends_its_request_and_its_run_is_aborted(name, start, tmp_path):
    steps = Steps()
    async with RawUpstream(steps) as upstream, start(upstream.url) as gateway:
        async with running_front(name, tmp_path, gateway.port) as front:
            body = {"question": "hi", "streaming": True, "chatId": "chat-1"}
            async with curl(front.url + PATH, body=body) as client:
                await client.until(b"tok0")
                client.leave()
            await upstream.aborted.wait()
            for _ in range(3):
                steps.seen.put_nowait(None)
            line = await gateway.lines.request()
    assert line["outcome"] == "client_closed"


async def test_no_log_has_the_token_when_the_gateway_cannot_be_reached(name, tmp_path):
    with closed_port() as port:
        async with running_front(name, tmp_path, port) as front:
            async with curl(f"{front.url}/t/fgs_secret{PATH}") as client:
                status, got = await client.ended()
            log = await front.logged("/t/-" + PATH)
    assert (status, got[:9]) == (0, b"HTTP/2 50")
    assert "fgs_secret" not in log


async def test_a_question_that_was_sent_is_not_sent_again(name, start, tmp_path):
    """Flowise ends the first connection without a word."""

    async def silent(peer, _):
        peer.fin()

    async with RawUpstream(silent) as upstream, start(upstream.url) as gateway:
        async with running_front(name, tmp_path, gateway.port) as front:
            async with curl(front.url + PATH, body={"question": "hi"}) as client:
                status, got = await client.ended()
        await gateway.lines.until("request")
    assert (status, got[:10]) == (0, b"HTTP/2 502")
    assert len(upstream.seen) == 1

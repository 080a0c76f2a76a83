"""Servers that are killed and started again while conversations go on, and what each turn of them may suffer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import aiohttp

from gateway.upstream.balance import Lot, by_conversation
from tests.harness.clock import time_passes

TOKENS = 8
Interval = tuple[float, float]  # in seconds since the epoch


@dataclass
class Turn:
    """One question of a conversation, which no other one repeats, and what its client got."""

    chat: str
    question: str
    began: float
    ended: float
    words: list[str] = field(default_factory=list)
    is_complete: bool = False
    is_aborted: bool = False  # by the client, and Flowise took it

    @classmethod
    def of(cls, line: str) -> Turn:
        """As a client in another process prints it."""
        return cls(**json.loads(line))


class RollingServer:
    """One Flowise, or a simulator, in a process of its own."""

    def __init__(self, command: Sequence[str], port: int, environ: dict[str, str] | None = None) -> None:
        self._command, self._environ = command, environ
        self.label = f"127.0.0.1:{port}"
        self.url = f"http://{self.label}"
        self.down: list[Interval] = []
        self._process: asyncio.subprocess.Process | None = None
        self._killed_at = 0.0

    async def start(self) -> None:
        """Returns once it answers."""
        nothing = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=nothing, stderr=nothing, env=self._environ, start_new_session=True
        )
        async with aiohttp.ClientSession() as session:
            while not await _answers(session, self.url):
                assert self._process.returncode is None, self._command
                await time_passes(0.05)
        if self._killed_at:
            self.down.append((self._killed_at, time.time()))
            self._killed_at = 0.0

    async def kill(self) -> None:
        """As `kill -9`; it is down until `start` has returned."""
        assert self._process is not None
        self._killed_at = time.time()
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def all_down(self) -> list[Interval]:
        """Also that which has not ended."""
        return [*self.down, *([(self._killed_at, time.time() + 1)] if self._killed_at else [])]


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/api/v1/ping") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False


async def roll(servers: Sequence[RollingServer], every: float, is_over: Callable[[], bool]) -> None:
    """Kill and start one server after the other, one each `every` seconds at most."""
    number = 0
    while not is_over():
        began = time.monotonic()
        server = servers[number % len(servers)]
        await server.kill()
        await time_passes(every / 4)
        await server.start()
        await time_passes(max(0.0, every - (time.monotonic() - began)))
        number += 1


def question_of(chat: str, number: int, delay: float) -> tuple[str, str]:
    """A question with directives for the model, and the word of which all tokens of its answer are made."""
    word = f"{chat}-{number}-"
    return f"{word} [[tokens={TOKENS} delay={delay} text={word}]]", word


async def converse(
    url: str, flow: str, chat: str, turns: int, *, delay: float, aborted: Iterable[int] = ()
) -> list[Turn]:
    """A conversation, one turn after the other; the turns with these numbers are aborted after their first token."""
    done = []
    async with aiohttp.ClientSession() as session:
        for number in range(turns):
            question, _ = question_of(chat, number, delay)
            done.append(turn := Turn(chat, question, time.time(), 0.0))
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await _take(session, url, flow, turn, is_aborted=number in aborted)
            turn.ended = time.time()
    return done


async def _take(session: aiohttp.ClientSession, url: str, flow: str, turn: Turn, *, is_aborted: bool) -> None:
    body = {"question": turn.question, "streaming": True, "chatId": turn.chat}
    async with session.post(f"{url}/api/v1/prediction/{flow}", json=body) as answer:
        if answer.status != 200:
            return
        has_error = False
        async for line in answer.content:
            if not line.startswith(b"data:"):
                continue
            event = json.loads(line[5:])
            if event["event"] == "token" and event["data"]:
                turn.words.append(event["data"].strip())
                if is_aborted and len(turn.words) == 1:
                    target = f"{url}/api/v1/chatmessage/abort/{flow}/{turn.chat}"
                    async with session.put(target) as taken:
                        turn.is_aborted = taken.status == 200
            has_error = has_error or event["event"] == "error"
            turn.is_complete = event["event"] == "end" and not has_error


def preferred(chat: str, servers: Sequence[RollingServer]) -> str:
    """The server that a conversation has while all are up."""
    candidates = [SimpleNamespace(label=server.label, lot=Lot(server.label, 1)) for server in servers]
    return by_conversation(chat, candidates).label


def judge(
    turns: Sequence[Turn], lines: Sequence[dict[str, Any]], servers: Sequence[RollingServer]
) -> dict[str, int]:
    """Assert what each turn may have suffered, and count. `lines`: of the gateway's log, with `prompt`."""
    by_question = {line["prompt"]: line for line in lines if line["event"] == "request" and "prompt" in line}
    killed = {server.label: server.all_down for server in servers}
    out = {server.label: killed[server.label] + _out(lines, server.label) for server in servers}
    count = dict.fromkeys(("whole", "lost", "aborted", "elsewhere"), 0)
    for turn in turns:
        during = (turn.began, turn.ended)
        line = by_question.get(turn.question)
        if line is None:  # a client asks before it asks: whether the chatflow streams
            count["lost"] += 1
            assert any(_meet(each, during) for each in killed.values()), f"was not asked: {turn}"
            continue
        server = line["server"]
        word = turn.question.split()[0]
        assert set(turn.words) <= {word}, f"tokens of another answer: {turn}"
        home = preferred(turn.chat, servers)
        if server != home:
            count["elsewhere"] += 1
            assert _meet(out[home], during), f"away from {home}, which was up: {turn} {line}"
        if turn.is_complete and len(turn.words) == TOKENS:
            count["whole"] += 1
        elif turn.is_aborted and line["status"] == 200:  # perhaps after its last token
            count["aborted"] += 1
        else:
            count["lost"] += 1
            # The TypeScript SDK asks first, of any server, whether the chatflow streams. Without an answer it takes the
            # stream for JSON, and shows nothing of it.
            is_unread = not turn.words and line["outcome"] == "ok"
            causes = [kill for one in killed.values() for kill in one] if is_unread else killed[server]
            assert _meet(causes, during), f"failed on {server}, which was not killed: {turn} {line}"
    return count


def _out(lines: Sequence[dict[str, Any]], label: str) -> list[Interval]:
    """When a worker of the gateway took a server for down."""
    found: list[Interval] = []
    since: dict[int, float] = {}
    for line in lines:
        if line.get("server") != label or line["event"] not in ("server_down", "server_up"):
            continue
        moment, worker = datetime.fromisoformat(line["time"]).timestamp(), line.get("worker", 0)
        if line["event"] == "server_down":
            since.setdefault(worker, moment)
        elif worker in since:
            found.append((since.pop(worker), moment))
    return [*found, *((begin, time.time() + 1) for begin in since.values())]


def _meet(intervals: Sequence[Interval], during: Interval) -> bool:
    return any(begin <= during[1] and during[0] <= end for begin, end in intervals)

"""Predictions over aiohttp, and parsers for their streams; for the end-to-end tests."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager

import aiohttp


def unique(directives: str, text: str = "hi") -> str:
    """A question that occurs once in the log of the fake model; see e2e/flowise/fake_model.py for the directives."""
    return f"{text} {uuid.uuid4().hex} [[{directives}]]"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


async def ask(url, flow, question, *, streaming=True, key="", **fields):
    """One prediction: status, content type, body."""
    async with asked(url, flow, question, streaming=streaming, key=key, **fields) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.read()


@asynccontextmanager
async def asked(url, flow, question, *, streaming=True, key="", **fields):
    """One prediction that stays open for the length of the block."""
    body = {"streaming": streaming, **fields}
    if question is not None:  # a form takes its place
        body["question"] = question
    async with (
        aiohttp.ClientSession(headers=bearer(key)) as session,
        session.post(f"{url}/api/v1/prediction/{flow}", json=body) as answer,
    ):
        yield answer


async def saw(answer, text: bytes) -> None:
    """Read up to the line that contains this text."""
    while text not in (line := await answer.content.readline()):
        assert line, f"the answer ended before {text!r}"


def events(body: bytes, name: str) -> list:
    """The data of all events with this name."""
    found = (json.loads(line[5:]) for line in body.decode().split("\n") if line.startswith("data:"))
    return [event["data"] for event in found if event["event"] == name]


def answer_of(body: bytes) -> str:
    """The tokens of a stream, joined."""
    return "".join(events(body, "token"))


async def run(*command: str, folder=None) -> tuple[int, str]:
    """Run a program; returns its exit status and everything it printed."""
    pipe, both = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=pipe, stderr=both)
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def lines_of(*command: str, folder=None) -> list[str]:
    """The output of a program that must exit with 0."""
    status, out = await run(*command, folder=folder)
    assert status == 0, out
    return out.splitlines()

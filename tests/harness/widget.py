"""Drives a page in a browser step by step: the other end of widget_session.mjs and page_session.mjs in e2e/clients."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.harness import bounds
from tests.harness.programs import program

CLIENTS = Path(__file__).parents[1] / "e2e" / "clients"


def clients() -> Path:
    """The folder in which the official clients are installed."""
    program("node")
    folder = Path(os.environ.get("FLOWISE_CLIENTS", "none"))
    if not (folder / "node_modules" / "flowise-sdk").is_dir():
        pytest.skip("needs the official clients in FLOWISE_CLIENTS (tests/e2e/run installs them)")
    return folder


def chromium() -> str:
    return program("chromium", "chromium-browser", "google-chrome")


class Page:
    """One page in one browser. Each verb of page_session.mjs is a method."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.origin = ""

    async def listens(self) -> None:
        self.origin = await self._line()

    async def _line(self):
        return json.loads(await self._process.stdout.readline() or '{"error": "the browser has ended"}')

    async def _do(self, verb: str, argument=None):
        self._process.stdin.write(json.dumps([verb, argument]).encode() + b"\n")
        answer = await self._line()
        assert not isinstance(answer, dict) or "error" not in answer, answer["error"]
        return answer

    def __getattr__(self, verb: str):
        return lambda argument=None: self._do(verb, argument)


class Widget(Page):
    """One page with the widget. Each verb of widget_session.mjs is a method."""

    async def open(self, api_host: str, flow: str, **window) -> None:
        """Load the page, or load it again. `window`: settings of the widget's chat window."""
        await self._do("open", {"apiHost": api_host, "chatflowid": flow, "window": window})

    async def answer_to(self, question: str, last_words: str) -> str:
        """Ask, and return the answer when it has ended with these words."""
        await self._do("ask", question)
        await self._do("shows", last_words)
        await self._do("idle")
        return (await self._do("bubbles"))[-1]["text"]

    async def called(self) -> list[str]:
        """The page's requests to the gateway since the last call, each as `POST prediction 200`."""
        calls = await self._do("calls")
        words = ((call["method"], call["path"].split("/")[3], call["status"]) for call in calls)
        return [f"{method} {path.partition('?')[0]} {status}" for method, path, status in words]


@asynccontextmanager
async def browser(script: str, driven: type[Page]):
    """A browser with an empty profile, driven by this script of e2e/clients."""
    command = ("node", str(CLIENTS / script), chromium())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, cwd=clients(), stdin=pipe, stdout=pipe, limit=2**24
    )
    shown = driven(process)
    try:
        await shown.listens()
        yield shown
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), bounds.STEP)
        except TimeoutError:
            process.kill()
            await process.wait()


def widget():
    return browser("widget_session.mjs", Widget)


def page():
    return browser("page_session.mjs", Page)

"""A whole gateway on the loop of the test: real sockets, the real runner, its log in memory."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.config import load
from gateway.server.process import Process
from gateway.telemetry.logs import make_logger

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"


class Lines(io.StringIO):
    """The log output of a gateway. A test can wait for a line."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        self._more.set()
        return written

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines() if line.strip()]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.all if line["event"] == event]

    async def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """The lines of this event, once there are `count` of them."""
        while len(found := self.of(event)) < count:
            self._more.clear()
            await self._more.wait()
        return found

    async def request(self) -> dict[str, Any]:
        """The line of the only request."""
        lines = await self.until("request")
        assert len(lines) == 1, lines
        return lines[0]


class RunningGateway:
    """A gateway as a test sees it: address, log, metrics, and what is still in progress inside."""

    def __init__(self, process: Process, lines: Lines) -> None:
        self.process = process
        self.lines = lines
        public, admin = process.addresses
        self.host, self.port = public.host, public.port
        self.url, self.admin = f"http://{public}", f"http://{admin}"

    async def metrics(self) -> dict[str, float]:
        """The samples of a scrape, each as `name{label="value"}` → number."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as answer:
            text = await answer.text()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def configuration(upstream: str, **sections: Any) -> dict[str, Any]:
    """The smallest configuration with one route `chat`; `sections` are merged over it at every depth."""
    base: dict[str, Any] = {
        "server": {"listen": "127.0.0.1:0", "drain": "2s"},
        "admin": {"listen": "127.0.0.1:0"},
        "upstreams": {"main": {"servers": [{"url": upstream}]}},
        "defaults": {
            "conversations": {"bind": False}
        },  # keep bodies as they are; tests of binding switch it on
        "routes": [{"name": "chat", "chatflow": FLOW, "upstream": "main", "auth": ["anonymous"]}],
    }
    route = sections.pop("route", {})
    base["routes"][0].update(route)
    return _merged(base, sections)


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, Mapping):
        return {
            key: _merged(base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}
        }
    return over


@asynccontextmanager
async def running(folder: Path, upstream: str, **sections: Any):
    """A gateway in front of an upstream. `route` has keys of its route, the others are sections of the configuration."""
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration(upstream, **sections)))
    config = await asyncio.to_thread(load, path, {})
    lines = Lines()
    process = Process(config, make_logger(config.logs, lines))
    await process.start()
    try:
        yield RunningGateway(process, lines)
    finally:
        await process.stop()

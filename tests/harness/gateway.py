"""A whole gateway on the loop of the test: real sockets, the real runner, its log in memory."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.admission.redis.locks import RedisConversationLocks
from gateway.app import Gateway
from gateway.config import Address, UpstreamSettings, read, usable
from gateway.exchange import Exchange
from gateway.flowise.chatflow_state import ChatflowFinding
from gateway.relay.registry import InFlightCall
from gateway.server.listener import ClientConnection, Listener
from gateway.server.process import Process
from gateway.server.reload import Source, version_of
from gateway.serving import Serving
from gateway.telemetry.logs import LogOutput
from gateway.upstream.pool import Pool
from gateway.upstream.server import Server
from gateway.upstream.upstream import Upstream
from tests.harness.clock import until
from tests.harness.surface import FLOW


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

    async def more(self) -> None:
        """Wait for another line."""
        self._more.clear()
        await self._more.wait()

    async def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """The lines of this event, once there are `count` of them."""
        while len(found := self.of(event)) < count:
            await self.more()
        return found

    async def request(self) -> dict[str, Any]:
        """The line of the only request."""
        lines = await self.until("request")
        assert len(lines) == 1, lines
        return lines[0]


class RunningGateway:
    """A gateway as a test sees it: address, log, metrics, and what is still in progress inside."""

    def __init__(self, process: Process, lines: Lines, path: Path = Path()) -> None:
        """`path`: of the configuration file."""
        self.process = process
        self.lines = lines
        self.path = path
        self.admin = f"http://{process.admin_address}"
        public = next((one for one in process.addresses if isinstance(one, Address)), None)
        if public is not None:  # else there are Unix sockets only
            self.host, self.port, self.url = public.host, public.port, f"http://{public}"

    async def metrics(self) -> dict[str, float]:
        """The samples of a scrape, each as `name{label="value"}` → number."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as answer:
            text = await answer.text()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def reload(self, text: str | dict[str, Any]) -> None:
        """Write this into the configuration file, as with SIGHUP, and wait until it has been applied or refused."""
        ended = len(self.lines.of("config_reloaded")) + len(self.lines.of("config_refused"))
        await asyncio.to_thread(self.path.write_text, text if isinstance(text, str) else yaml.safe_dump(text))
        self.process.reloads.request()
        while len(self.lines.of("config_reloaded")) + len(self.lines.of("config_refused")) == ended:
            await self.lines.more()

    async def looks_at_certificate(self, count: int) -> None:
        """Wait until its files have been looked at again this many times."""
        certificate = self.process._certificate
        for _ in range(count):
            due = certificate._next_look
            await until(lambda due=due: certificate._next_look != due and not certificate._is_looking)

    # What is in progress inside. A rename in the gateway changes these methods, and no test.

    @property
    def _inside(self) -> Gateway:
        return self.process.gateway

    @property
    def listener(self) -> Listener:
        return self.process._listener

    def connections(self) -> set[ClientConnection]:
        """Open connections of clients."""
        return self.process._guard._open

    def watched(self) -> set[ClientConnection]:
        """Those that are looked at each second."""
        return self.process._guard.watched

    def exchanges(self) -> list[Exchange]:
        """Requests in the pipeline."""
        return list(self._inside._pipeline._in_progress.values())

    def open_calls(self) -> set[InFlightCall]:
        """Runs and transfers that have not ended."""
        return set(self._inside._in_flight._open)

    def held_body_bytes(self) -> int:
        """The memory for request bodies that is in use."""
        return self._inside._services.bodies.used

    def held_locks(self) -> int:
        """The number of locked conversations."""
        return len(self._inside._limiting.locks)

    def has_waiting_request(self) -> bool:
        """Whether a request waits for the lock of its conversation."""
        return any(lock.waiter is not None for lock in self._inside._limiting.locks._locks.values())

    def renew_locks_now(self) -> None:
        """Renew the conversation locks in the shared store at the next tick."""
        locks = self._inside._limiting.locks
        assert isinstance(locks, RedisConversationLocks)
        locks._renew_at = 0.0

    def limited_runs(self) -> int:
        """The number of runs that count against a limit."""
        return len(self._inside._limiting.limiter)

    def viewers(self) -> int:
        """The number of viewers of the live page."""
        admin = self.process._admin
        assert admin is not None
        assert admin._feed is not None
        return admin._feed.viewers

    def background_tasks(self) -> set[asyncio.Task[Any]]:
        """Background tasks, apart from those that ask about the chatflows."""
        return self._inside._tasks._tasks - set(self._inside._learning)

    def kept_replies(self) -> int:
        """Bytes of replies that are kept to count their tokens."""
        return self._inside._services.kept.used

    def serving(self) -> Serving:
        """What serves the next request."""
        return self._inside._current.serving

    def pool(self, upstream: str = "main") -> Pool:
        (server,) = self.upstream(upstream).servers
        return server.pool

    def upstream(self, name: str = "main") -> Upstream:
        return self._inside._current.serving.upstreams[name]

    def servers(self, upstream: str = "main") -> list[Server]:
        return list(self.upstream(upstream).servers)

    def succeed(self, settings: UpstreamSettings, name: str = "main") -> tuple[Upstream, Upstream]:
        """Put an upstream with these settings in the place of the present one; returns both."""
        before, inside = self.upstream(name), self._inside
        after = Upstream(name, settings, inside.metrics, inside._logger, before=before)
        inside._current.serving.upstreams[name] = after
        after.adopt()
        before.drain(after)
        return before, after

    def streamability(self) -> dict[str, bool]:
        """Whether the chatflow of a route streams, by route, as far as Flowise was asked."""
        known = self._inside._current.serving.chatflows._known
        found = (ChatflowFinding.STREAMS, ChatflowFinding.DOES_NOT_STREAM)
        return {route: one.may_stream for route, one in known.items() if one.finding in found}

    async def refresh_streamability(self) -> None:
        for upstream in self._inside._current.serving.upstreams:
            await self._inside._current.serving.chatflows.refresh(upstream)

    async def idle(self) -> None:
        """Wait until no request is in the pipeline."""
        await self._inside._pipeline.wait_idle()

    def stop_timers(self) -> None:
        """Let nothing happen but for what a client or a server sends."""
        self._inside._ticker.stop()
        self._inside._loop_watch.stop()


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
    """A gateway in front of an upstream.

    `route` has keys of its route, `environ` is its environment, the others are sections of the configuration.
    """
    environ = sections.pop("environ", {})
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration(upstream, **sections)))
    version = await asyncio.to_thread(version_of, path)
    source = Source(str(path), "", path, version, partial(read, path, environ))
    config = usable(await asyncio.to_thread(source.read))
    lines = Lines()
    output = LogOutput(config.logs, lines)
    process = Process(config, output.logger(), output=output, source=source)
    try:
        await process.start()
        yield RunningGateway(process, lines, path)
    finally:
        await process.stop()

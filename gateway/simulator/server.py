"""The simulated Flowise as a server: start it, script it, stop it, and look at what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from gateway.simulator.app import App
from gateway.simulator.flows import DEFAULT_FLOWS, Flow
from gateway.simulator.ledger import Ledger
from gateway.simulator.predictions import Script, State
from gateway.simulator.rates import FixedWindow
from gateway.simulator.replies import finish_head
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.runs import Run, Surroundings
from gateway.simulator.streams import Streams

_MEBIBYTE = 1024 * 1024


class Simulator:
    """A scripted Flowise 3.1.4 that behaves as the captures do, its failures included.

    It differs from the real one in four things: a run waits while its client's buffer is full (Node's grows
    for ever), a half-closed client is gone (Node goes on), a model's 500 is told at once (LangChain tries for
    85 s), and a request in HTTP/1.0 is answered with that version.

    Attributes:
        asked: every request so far.
        aborts: chatflow id and chat id of every abort so far, whatever it achieved.
        runs: every prediction that got as far as a flow, with how it ended.
    """

    def __init__(  # noqa: PLR0913 - a server's settings, by name
        self,
        flows: Sequence[Flow] = DEFAULT_FLOWS,
        *,
        api_key: str = "",
        heartbeat: float = 30.0,
        keep_alive: float = 5.0,
        max_body: int = 50 * _MEBIBYTE,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Set it up; nothing listens before `start`.

        Args:
            flows: the chatflows it knows.
            api_key: what protected flows ask for; empty: nobody has it.
            heartbeat: seconds between two heartbeats, on one clock for all streams.
            keep_alive: announced for idle connections, seconds; they are closed one second later.
            max_body: largest JSON or urlencoded body, bytes.
            sleep: how the model's time passes.
        """
        ledger = Ledger()
        self.asked: list[ReceivedRequest] = ledger.asked
        self.aborts: list[tuple[str, str]] = ledger.aborts
        self.runs: list[Run] = ledger.runs
        self._ledger = ledger
        self._streams = Streams()
        self._heartbeat = heartbeat
        self._keep_alive = keep_alive
        around = Surroundings(self._streams, sleep, ledger.note, api_key)
        windows = {flow.id: FixedWindow(flow.rate_limit) for flow in flows if flow.rate_limit}
        self._desk = State({flow.id: flow for flow in flows}, ledger, around, windows)
        self._front = App(self._desk, keep_alive, max_body)
        self._runner: web.AppRunner | None = None
        self._heart: asyncio.Task[None] | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; with port 0 on a free one, which `url` then names. May be started again after a stop.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._front.answer)
        app.on_response_prepare.append(finish_head)
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            keepalive_timeout=self._keep_alive + 1,
            access_log=None,
        )
        await runner.setup()
        await web.TCPSite(runner, host, port, backlog=1024).start()
        self._runner = runner
        self.url = f"http://{host}:{runner.addresses[0][1]}"
        self._heart = asyncio.ensure_future(self._streams.beat_for_ever(self._heartbeat))

    async def stop(self) -> None:
        """Go down as on SIGTERM or SIGKILL: all connections end with a bare FIN (capture server-sigterm)."""
        if self._runner is None or self._heart is None:
            return
        runner, self._runner = self._runner, None
        for site in list(runner.sites):
            await site.stop()
        await _cancelled([self._heart, *self._desk.tasks])
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def beat(self) -> None:
        """Write one heartbeat to every open stream, now."""
        await self._streams.beat()

    def answers(self, script: Script | None, flow: Flow | str = "") -> None:
        """Let a script decide what the runs of one flow do, or of all without their own; None: the question.

        A script is called with the prediction as it was asked, and gives steps, or None to leave this one to
        its question. When its steps have run out the run is complete: Flowise says `metadata` and `end`.
        """
        name = flow.id if isinstance(flow, Flow) else flow
        self._desk.scripts.pop(name, None)
        if script is not None:
            self._desk.scripts[name] = script

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition over `asked`, `aborts` and `runs` holds."""
        await self._ledger.until(condition)


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""The simulated Flowise as a server: start it, script it, inspect its requests, stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from gateway.simulator.app import App
from gateway.simulator.flows import DEFAULT_FLOWS, Flow
from gateway.simulator.predictions import Script, State
from gateway.simulator.rates import FixedWindow
from gateway.simulator.replies import finish_head
from gateway.simulator.requests import ReceivedRequest
from gateway.simulator.runs import SimulatedRun
from gateway.simulator.streams import Streams

_MAX_HEAD = 16 * 1024  # bytes; Node's limit is for the whole head
_MEBIBYTE = 1024 * 1024


class Simulator:
    """A scripted Flowise 3.1.4 that behaves as the captures do, its failures included.

    It differs from the real one in four ways: a run waits while its client's buffer is full (Node's is unbounded), a
    half-closed client counts as disconnected (Node continues), a model's 500 is reported at once (LangChain retries
    for 85 s), and a request in HTTP/1.0 is answered with that version.

    Attributes:
        requests: every request so far.
        aborts: chatflow id and chat id of every abort so far, with or without effect.
        runs: every prediction that reached a flow.
        feedback: what was stored, by its id.
        speech_aborts: chat id and message id of every abort of speech.
    """

    def __init__(
        self,
        flows: Sequence[Flow] = DEFAULT_FLOWS,
        *,
        api_key: str = "",
        heartbeat: float = 30.0,
        keep_alive: float = 5.0,
        max_body: int = 50 * _MEBIBYTE,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Create a server that listens from `start` on.

        Args:
            flows: the chatflows it has.
            api_key: for the list of chatflows and for protected flows; empty: no request has it.
            heartbeat: seconds between heartbeats, on one timer for all streams.
            keep_alive: announced for idle connections, seconds; they are closed one second later.
            max_body: largest JSON or urlencoded body, bytes.
            sleep: how the model's time passes; takes seconds.
        """
        windows = {flow.id: FixedWindow(flow.rate_limit) for flow in flows if flow.rate_limit}
        self._streams = Streams()
        self._state = State({flow.id: flow for flow in flows}, self._streams, sleep, api_key, windows)
        self._app = App(self._state, keep_alive, max_body)
        self._heartbeat = heartbeat
        self._keep_alive = keep_alive
        self.requests: list[ReceivedRequest] = self._state.requests
        self.aborts: list[tuple[str, str]] = self._state.aborts
        self.runs: list[SimulatedRun] = self._state.runs
        self.feedback = self._state.feedback
        self.speech_aborts = self._state.speech_aborts
        self._runner: web.AppRunner | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self.url = ""

    def report_version(self, version: str) -> None:
        """Change the version that Flowise reports; the behaviour stays that of 3.1.4."""
        self._state.version = version

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 picks a free one, and `url` names it. May be started again after `stop`.

        Raises:
            OSError: the port is taken.
        """
        runner = web.AppRunner(
            self.application(),
            handler_cancellation=True,
            keepalive_timeout=self._keep_alive + 1,
            access_log=None,
            max_line_size=_MAX_HEAD,
            max_field_size=_MAX_HEAD,
        )
        await runner.setup()
        await web.TCPSite(runner, host, port, backlog=1024).start()
        self._runner = runner
        self.url = f"http://{host}:{runner.addresses[0][1]}"
        self._heartbeats = asyncio.ensure_future(self._streams.beat_forever(self._heartbeat))

    def application(self) -> web.Application:
        """A new aiohttp application of this Flowise, for a runner of one's own; it has no heartbeats."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._app.handle)
        app.on_response_prepare.append(finish_head)
        return app

    async def stop(self) -> None:
        """Stop as on SIGTERM or SIGKILL: all connections end with a bare FIN (capture server-sigterm)."""
        if self._runner is None or self._heartbeats is None:
            return
        runner, self._runner = self._runner, None
        for site in list(runner.sites):
            await site.stop()
        await _cancel([self._heartbeats, *self._state.tasks])
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def beat(self) -> None:
        """Write one heartbeat to every open stream."""
        await self._streams.beat()

    def set_script(self, script: Script | None, flow: Flow | str = "") -> None:
        """Script the runs of one flow, or of all flows without their own script; None removes the script.

        A script takes the request of the prediction and returns its steps, or None to do what the question asks for.
        After the last step the run is complete: Flowise sends `metadata` and `end`.
        """
        name = flow.id if isinstance(flow, Flow) else flow
        self._state.scripts.pop(name, None)
        if script is not None:
            self._state.scripts[name] = script

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on `requests`, `aborts` and `runs` holds."""
        await self._state.until(condition)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Every signal: those that stop the gateway, those that only write a line, and those that do nothing."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from gateway.server import signals
from tests.harness import bounds
from tests.harness.frames import END, METADATA
from tests.harness.gateway import FLOW
from tests.harness.held_stream import TOKEN, Held
from tests.harness.processes import gateway as command
from tests.harness.raw_upstream import RawUpstream

PATH = f"/api/v1/prediction/{FLOW}"
SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}
SLOW = {"drain": "60s", "drain_delay": "60s"}
WITHOUT_EFFECT = ("SIGPIPE", "SIGXFSZ", "SIGTTIN", "SIGTTOU", "SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH")


def name_of(number):
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


async def streaming(wire):
    """Start a stream and read its first token."""
    wire.post(PATH, {"question": "hi", "streaming": True})
    assert (await wire.head())[0] == 200
    assert await wire.chunk() == TOKEN


async def sent_all(gateway, pid):
    """Send every signal that must not stop a process; returns once it has written a line for each that has one."""
    for name in WITHOUT_EFFECT:
        os.kill(pid, signal.Signals[name])
    for number in sorted(signals.logged()):
        count = len([line for line in gateway.lines if line["event"] == "signal_ignored"])
        os.kill(pid, number)
        line = await gateway.until("signal_ignored", count + 1)
        assert (line["signal"], line["level"]) == (name_of(number), "warning")
        assert "SIGHUP" in line["message"]
        yield line


def test_what_is_asked_for_is_among_those_with_a_line():
    asked = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN, signal.SIGRTMAX}
    assert asked <= signals.logged()


def ignored_by(pid):
    """The signals that a process ignores, as the kernel has it."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("this system shows no signals of a process")
    (mask,) = re.findall(r"^SigIgn:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
    return {name for name in signals.IGNORED if int(mask, 16) >> (signal.Signals[name] - 1) & 1}


def test_only_suspension_kills_and_faults_are_left_to_the_system():
    for name in set(signals.DEFAULT) & signal.Signals.__members__.keys():
        assert name in WITHOUT_EFFECT or name in (
            *("SIGTSTP", "SIGSTOP", "SIGKILL"),
            *("SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGEMT"),
        )


async def ended_at_once(gateway, wire):
    """SIGQUIT ends a new stream, without the waits of the drain."""
    await streaming(wire)
    gateway.send_signal(signal.SIGQUIT)
    body = await wire.rest()
    assert await gateway.ended() == (0, "")
    assert body.startswith(b'message:\ndata:{"event":"error","data":"')
    assert body.endswith(END)
    _, line = [line for line in gateway.lines if line["event"] == "request"]
    assert (line["outcome"], line["error"]) == ("truncated", "draining")


@pytest.mark.timeout(2 * bounds.TEST)
async def test_no_other_signal_ends_a_stream_and_sigquit_does_at_once(serve, connect):
    held = Held()
    async with (
        RawUpstream(held) as upstream,
        serve(upstream.url, server=SLOW) as gateway,
        connect(gateway) as wire,
    ):
        await streaming(wire)
        assert ignored_by(gateway.pid) == set(signals.IGNORED)
        async for _ in sent_all(gateway, gateway.pid):
            pass
        held.may_finish.set()
        assert await wire.rest() == METADATA + END
        held.may_finish.clear()
        await ended_at_once(gateway, wire)


@pytest.mark.timeout(4 * bounds.TEST)
async def test_no_other_signal_ends_a_parent_or_a_worker_and_sigquit_does_at_once(serve, connect):
    held = Held()
    async with (
        RawUpstream(held) as upstream,
        serve(upstream.url, server={"workers": 2, **SLOW}, **SHARED) as gateway,
        connect(gateway) as wire,
    ):
        await streaming(wire)
        async for line in sent_all(gateway, gateway.pid):
            assert "worker" not in line
        for started in [line for line in gateway.lines if line["event"] == "worker_started"]:
            assert ignored_by(started["pid"]) == set(signals.IGNORED)
            async for line in sent_all(gateway, started["pid"]):
                assert line["worker"] == started["worker"]
            os.kill(started["pid"], signal.SIGHUP)
            line = await gateway.until("reload_ignored", started["worker"])
            assert (line["worker"], "parent" in line["message"]) == (started["worker"], True)
        held.may_finish.set()
        assert await wire.rest() == METADATA + END
        held.may_finish.clear()
        await ended_at_once(gateway, wire)
    assert len([line for line in gateway.lines if line["event"] == "worker_started"]) == 2


async def test_sighup_does_not_end_the_demo():
    async with command("demo", "--listen", "127.0.0.1:0") as child:
        await child.listens()
        child.send_signal(signal.SIGHUP)
        assert "not read from a file" in (await child.until("reload_ignored"))["message"]
        child.send_signal(signal.SIGINT)
        assert await child.ended() == (0, "")


@pytest.mark.timeout(4 * bounds.TEST)
async def test_sigquit_to_a_worker_ends_its_streams_and_the_worker_is_replaced(serve, connect):
    async with (
        RawUpstream(Held()) as upstream,
        serve(upstream.url, server={"workers": 2, "drain": "60s"}, **SHARED) as gateway,
        connect(gateway) as wire,
    ):
        await streaming(wire)
        for line in [line for line in gateway.lines if line["event"] == "worker_started"]:
            os.kill(line["pid"], signal.SIGQUIT)
        assert (await wire.rest()).endswith(END)
        await gateway.until("worker_ready", 4)
        gateway.send_signal()
        assert (await gateway.ended())[0] == 0


@pytest.mark.parametrize("number", [signal.SIGXCPU, signal.SIGPWR], ids=["SIGXCPU", "SIGPWR"])
async def test_a_signal_that_announces_the_end_drains(number, serve, connect):
    held = Held()
    async with (
        RawUpstream(held) as upstream,
        serve(upstream.url, server={"drain": "60s"}) as gateway,
        connect(gateway) as wire,
    ):
        await streaming(wire)
        gateway.send_signal(number)
        await gateway.refuses_connections()
        held.may_finish.set()
        assert await wire.rest() == METADATA + END
        assert await gateway.ended() == (0, "")

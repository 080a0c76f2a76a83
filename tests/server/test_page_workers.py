"""The live page of a gateway with workers: one state of all of them, and the end of a run in any of them."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack

import pytest

from tests.harness import bounds
from tests.harness.frames import END, PATH
from tests.harness.gateway import FLOW
from tests.harness.held_stream import TOKEN, Held
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import RawUpstream
from tests.harness.viewer import end_run, viewing

pytestmark = pytest.mark.timeout(3 * bounds.TEST)  # three interpreters start

SHARED = {
    "auth": {"secret": "a secret of thirty-two bytes or more"},
    "limits": {"store": "redis://127.0.0.1:1/0"},
}


async def connected(gateway, stack):
    """A connection to each worker, by its number; the others stay open, too."""
    wires = {}
    while len(wires) < 2:
        count = len([line for line in gateway.lines if line["event"] == "request"])
        wire = await stack.enter_async_context(await Wire.to(gateway.host, gateway.port))
        wire.send(request("GET", "/api/v1/ping"))
        assert (await wire.reply()).body == b"pong"
        line = await gateway.until("request", count + 1)
        wires.setdefault(str(line["worker"]), wire)
    return wires


async def test_one_page_shows_and_ends_the_runs_of_all_workers(serve):
    async with (
        RawUpstream(Held()) as upstream,
        serve(upstream.url, server={"workers": 2}, **SHARED) as gateway,
        viewing(gateway.admin) as viewer,
        AsyncExitStack() as stack,
    ):
        wires = await connected(gateway, stack)
        for number, wire in wires.items():
            wire.post(PATH, {"question": "hi", "streaming": True}, X_Request_ID=f"in-{number}")
            assert (await wire.head())[0] == 200
            assert await wire.chunk() == TOKEN
        await viewer.until(lambda seen: len(seen.rows("runs", stage="streaming")) == 2)
        assert {row["request_id"]: row["worker"] for row in viewer.rows("runs")} == {"in-1": "1", "in-2": "2"}
        pings = len([line for line in gateway.lines if line["event"] == "request"])
        await viewer.until(lambda seen: len(seen.rows("requests", endpoint="ping")) == pings)
        assert {row["worker"] for row in viewer.rows("requests")} == {1, 2}
        await viewer.until(lambda seen: seen.rows("routes"))
        assert viewer.one("routes")["outcomes"] == {"ok": pings}
        assert viewer.one("gateway")["open_runs"] == 2
        assert [row["state"] for row in viewer.rows("processes")] == ["ready"] * 3
        assert viewer.one("store") == {"is_shared": True, "up_for": 0, "seen_by": 2}
        (server,) = viewer.rows("servers")
        assert (server["seen_by"], server["runs"]) == (2, 2)

        assert await end_run(gateway.admin, viewer.key(request_id="in-2")) == (200, '{"ended":true}')
        body = b""
        while chunk := await wires["2"].chunk():
            body += chunk
        assert b"An operator of this gateway has ended the answer." in body
        assert body.endswith(END)
        await upstream.aborted.wait()
        (target,) = upstream.aborts
        assert target.startswith(f"/api/v1/chatmessage/abort/{FLOW}/")
        audit = await gateway.until("run_ended_by_operator")
        assert (audit["worker"], audit["request_id"], audit["operator"]) == (2, "in-2", "127.0.0.1")
        assert (await end_run(gateway.admin, "3:1.5"))[0] == 404

        pid = next(line["pid"] for line in gateway.lines if line["event"] == "worker_ready")
        number = str(next(line["worker"] for line in gateway.lines if line["event"] == "worker_ready"))
        os.kill(pid, signal.SIGKILL)
        await viewer.until(lambda seen: not seen.rows("runs", worker=number))
        await gateway.until("worker_ready", 3)
        await viewer.until(lambda seen: [row["state"] for row in seen.rows("processes")] == ["ready"] * 3)
        assert viewer.one("routes")["outcomes"]["ok"] == pings

"""`demo` prints a command that works unchanged, and Ctrl-C stops it."""

from __future__ import annotations

import shlex
import signal

from tests.harness.processes import gateway, spawn
from tests.harness.programs import program
from tests.harness.raw_client import Wire


async def ask_with_curl(command):
    program("curl")
    process = await spawn(*shlex.split(command))
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


async def ask_by_hand(command):
    """Send the command's request over a raw socket."""
    words = shlex.split(command)
    address, _, path = words[2].removeprefix("http://").partition("/")
    host, _, port = address.rpartition(":")
    name, _, value = words[words.index("-H") + 1].partition(": ")
    wire = await Wire.to(host, int(port))
    try:
        wire.post("/" + path, words[words.index("-d") + 1].encode(), **{name: value})
        return (await wire.reply()).body
    finally:
        await wire.close()


def is_whole(body):
    assert body.startswith(b'message:\ndata:{"event":"start","data":')
    assert body.count(b'"event":"token"') > 10
    return body.endswith(b'message:\ndata:{"event":"end","data":"[DONE]"}\n\n')


async def test_the_printed_command_streams_an_answer_and_page_and_metrics_are_where_it_says():
    async with gateway("demo", "--listen", "127.0.0.1:0") as child:
        command = await child.until_text("curl ")
        assert command.startswith("curl -N http://127.0.0.1:")
        assert is_whole(await ask_by_hand(command))
        page = await child.until_text(
            "The page with open runs, the last hour and the last requests is at http://"
        )
        line = await child.until_text("Metrics are at ")
        child.admin = line.removeprefix("Metrics are at ").partition("/metrics")[0]
        assert "flowise_gateway_build_info" in (await child.ask("/metrics"))[1]
        assert page.endswith(f" {child.admin}/ and asks for no token.")
        assert (await child.ask("/"))[0] == 200
        child.send_signal(signal.SIGINT)
        assert await child.ended() == (0, "")


async def test_the_printed_command_is_one_of_curl():
    async with gateway("demo", "--listen", "127.0.0.1:0") as child:
        assert is_whole(await ask_with_curl(await child.until_text("curl ")))

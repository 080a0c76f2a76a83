"""`flowise-gateway health`: one sentence and 0, 1 or 2, from the same configuration as `serve`, without loading much."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
import yaml

from gateway import health
from gateway.cli import main
from tests.harness import bounds
from tests.harness.gateway import FLOW, configuration
from tests.harness.processes import ROOT, gateway, run

NOWHERE = "http://127.0.0.1:1"
REMEDY = "Start the gateway, or name its admin port with --admin-listen or --config.\n"


@asynccontextmanager
async def answering(raw):
    """A server that sends these bytes and closes, or with None never answers; its address."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if raw is None:
            await reader.read()
        else:
            writer.write(raw)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def written(tmp_path):
    """Writes a configuration, given as text or sections; returns its path."""

    def write(text="", **sections):
        path = tmp_path / "health.yaml"
        path.write_text(text or yaml.safe_dump(configuration(NOWHERE, **sections)))
        return str(path)

    return write


def reply(status, body):
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def test_it_asks_the_port_of_the_configuration_until_the_gateway_drains(serve, written):
    async with serve(NOWHERE, server={"drain_delay": "60s"}) as served:
        place = served.admin.removeprefix("http://")
        ready = (0, f"The gateway is ready: {served.admin}/readyz answers ok.", "")
        assert await run("health", "--config", written(admin={"listen": place})) == ready
        assert await run("health", "--admin-listen", place) == ready
        served.send_signal()
        await served.until("draining")
        sentence = f"flowise-gateway: The gateway is not ready: {served.admin}/readyz answers draining.\n"
        assert await run("health", "--config", written(admin={"listen": place})) == (1, "", sentence)


async def test_it_asks_the_port_of_the_environment(monkeypatch):
    monkeypatch.setenv("FLOWISE_URL", NOWHERE)
    monkeypatch.setenv("GATEWAY_ROUTES", f"chat={FLOW}")
    monkeypatch.setenv("GATEWAY_AUTH", "anonymous")
    monkeypatch.setenv("GATEWAY_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", "127.0.0.1:0")
    async with gateway("serve") as served:
        await served.listens()
        monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", served.admin.removeprefix("http://"))
        assert (await run("health"))[:2] == (0, f"The gateway is ready: {served.admin}/readyz answers ok.")


async def test_it_reaches_a_port_on_all_addresses(written):
    async with answering(reply(200, "ok\n")) as place:
        port = place.rpartition(":")[2]
        path = written(admin={"listen": f"0.0.0.0:{port}", "token": "secret"})
        assert (await run("health", "--config", path))[0] == 0


async def test_what_does_not_concern_the_admin_port_does_not_matter(written):
    """A probe often has none of the server's secrets, and a mistake there is not its subject."""
    async with answering(reply(200, "ok\n")) as place:
        path = written(
            f"admin: {{listen: '{place}', token: '${{NOT_SET_HERE}}'}}\nroutes: 5\ncolour: ${{NEITHER}}\n"
        )
        assert (await run("health", "--config", path))[0] == 0


async def test_a_gateway_that_is_not_there(written):
    sentence = f"flowise-gateway: No gateway answers on 127.0.0.1:1: connection refused. {REMEDY}"
    assert await run("health", "--config", written(admin={"listen": "127.0.0.1:1"})) == (1, "", sentence)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (reply(404, ""), "is not the admin port of a gateway: it answers 404."),
        (b"220 mail\r\n", "does not speak HTTP, or not in time."),
        (b"", "does not speak HTTP, or not in time."),
    ],
)
async def test_something_else_that_listens_there(raw, said):
    async with answering(raw) as place:
        sentence = f"flowise-gateway: What listens on {place} {said} {REMEDY}"
        assert await run("health", "--admin-listen", place) == (1, "", sentence)


async def test_a_gateway_that_stands_still_is_not_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(health, "TIMEOUT", 0.05)
    async with answering(None) as place:
        assert await asyncio.to_thread(main, ["health", "--admin-listen", place]) == 1
    assert f"No gateway answers on {place}: no answer in time." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            "admin: {listen: nowhere}",
            ':1: admin.listen: "nowhere" is not an address with a port: write HOST:PORT',
        ),
        ("admin:\n  listen: [1]", ":2: admin.listen: is not an address with a port: write one like"),
        ("admin: {listen: '${NOT_SET}'}", ":1: admin.listen: environment variable NOT_SET is not set"),
        ("admin: [", ":1: "),
        ("", ":1: the file is empty"),
    ],
)
async def test_a_mistake_about_the_admin_port(text, wrong, written):
    path = written(text or "\n")
    status, out, err = await run("health", "--config", path)
    assert (status, out) == (2, "")
    assert err.startswith(f"{path}{wrong}")
    assert err.count("\n") == 1


async def test_it_says_what_is_missing_or_wrong_in_arguments(written, monkeypatch):
    status, _, err = await run("health", "--config", written(admin={"listen": "127.0.0.1:0"}))
    assert (status, err.partition(":")[0]) == (2, "admin.listen")
    assert "name it with --admin-listen" in err
    assert (await run("health"))[2].startswith("environment: there is no configuration: write --config FILE")
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", "9090")
    status, _, err = await run("health")
    assert (status, err.partition(":")[0]) == (2, "GATEWAY_ADMIN_LISTEN")
    status, _, err = await run("health", "--admin-listen", "9090")
    assert (status, "is not an address with a port" in err) == (2, True)


async def test_closed_standard_streams_change_nothing():
    async with answering(reply(200, "ok\n")) as place:
        assert (await run("health", "--admin-listen", place, before="exec >&- 2>&- <&-"))[0] == 0


def test_it_loads_neither_types_nor_a_loop():
    """So that it takes a tenth of the time of another command."""
    program = """
import sys
sys.argv[1:] = ["health", "--admin-listen", "127.0.0.1:1"]
from gateway.__main__ import main
main()
print(*sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=bounds.STEP,
    )
    loaded = set(ran.stdout.split())
    assert "gateway.health" in loaded
    assert not loaded & {
        "pydantic",
        "aiohttp",
        "asyncio",
        "uvloop",
        "structlog",
        "gateway.cli",
        "ssl",
        "cryptography",
    }


async def test_it_needs_no_home_and_writes_nothing(written):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can make a read-only root; needs unshare (Debian package util-linux)")
    read_only = "mount --rbind / /mnt && mount -o remount,bind,ro /mnt && exec chroot /mnt"
    async with answering(reply(200, "ok\n")) as place:
        path = written(admin={"listen": place})
        command = [sys.executable, "-P", "-m", "gateway", "health", "--config", path]
        process = await asyncio.create_subprocess_exec(
            *(
                "unshare",
                "--mount",
                "sh",
                "-c",
                f'{read_only} env --ignore-environment --chdir={ROOT} "$@"',
                "sh",
            ),
            *(
                "sh",
                "-c",
                'touch /written 2>/dev/null && exit 7; exec "$@"',
                "sh",
                "env",
                f"PYTHONPATH={ROOT}",
                *command,
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    if b"Operation not permitted" in err or b"permission denied" in err:
        pytest.skip("this system lets nobody mount")
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"The gateway is ready: ")

"""The bare wheel in an empty environment, outside of the repository: it starts, streams, checks and serves."""

from __future__ import annotations

import signal

import pytest
import yaml

from gateway import __version__
from gateway.simulator import CHAIN_ID, Simulator
from tests.harness import bounds
from tests.harness.gateway import configuration
from tests.harness.predictions import answer_of, ask, events
from tests.harness.processes import ROOT

pytestmark = [pytest.mark.package, pytest.mark.timeout(60 * bounds.TEST)]


def written(installed, upstream, **sections):
    """A configuration beside the environment."""
    path = installed.folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(configuration(upstream, route={"chatflow": CHAIN_ID}, **sections)))
    return str(path)


def test_the_package_is_the_installed_one_and_tells_its_version(installed):
    assert installed.run("--version") == (__version__, "")
    assert "site-packages" in installed.python("import gateway; print(gateway.__file__)")
    assert installed.pip("check").strip() == "No broken requirements found."


async def test_the_demo_streams_an_answer(installed):
    async with installed.running("demo", "--listen", "127.0.0.1:0") as child:
        command = await child.until_text("curl -N http://")
        url = command.split()[2].partition("/api/")[0]
        status, kind, body = await ask(url, "demo", "Tell me about gateways")
        assert (status, kind.partition(";")[0]) == (200, "text/event-stream")
        assert len(events(body, "token")) > 10
        assert answer_of(body)
        child.send_signal(signal.SIGINT)
        assert await child.ended() == (0, "")


def test_check_says_that_a_configuration_is_right_or_every_mistake_in_it(installed):
    path = written(installed, "http://127.0.0.1:3000")
    assert installed.run("check", "--config", path) == (f"{path}: ok, 1 route", "")
    path = written(installed, "ftp://127.0.0.1")
    out, err = installed.run("check", "--config", path, status=2)
    assert (out, err.startswith(f"{path}:")) == ("", True)


def test_the_schema_is_the_one_of_the_repository(installed):
    assert installed.run("schema")[0] == (ROOT / "config" / "gateway.schema.json").read_text().strip()


async def test_serve_passes_on_an_answer_of_flowise(installed):
    async with Simulator() as flowise:
        path = written(installed, flowise.url)
        async with installed.running("serve", "--config", path) as child:
            await child.listens()
            status, _, body = await ask(f"http://127.0.0.1:{child.port}", "chat", "hi")
            assert (status, bool(answer_of(body))) == (200, True)
            assert (await child.ask("/readyz"))[0] == 200
            child.send_signal()
            assert await child.ended() == (0, "")


async def test_several_workers_share_their_limits_in_a_store(installed, valkey):
    shared = {"auth": {"secret": "s" * 32}, "limits": {"store": valkey.url}, "server": {"workers": 2}}
    async with Simulator() as flowise:
        path = written(installed, flowise.url, **shared)
        async with installed.running("serve", "--config", path) as child:
            await child.listens()
            await child.until("limit_store_up", 2)
            assert (await ask(f"http://127.0.0.1:{child.port}", "chat", "hi"))[0] == 200
            child.send_signal()
            assert (await child.ended())[0] == 0

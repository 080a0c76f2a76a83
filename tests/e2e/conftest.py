"""A gateway process in front of the real Flowise that `tests/e2e/run` has started."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import time
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.harness import processes
from tests.harness.gateway import configuration
from tests.harness.predictions import bearer
from tests.harness.widget import widget


@pytest.fixture(scope="session")
def flowise():
    """The file that seed.py wrote: `url`, `flows`, and the log of the fake model."""
    path = os.environ.get("FLOWISE_SEED")
    if not path:
        pytest.fail("FLOWISE_SEED is not set. Run `make e2e`, which starts a Flowise and sets it.")
    seed = json.loads(Path(path).read_text())
    seed["model_log"] = os.environ.get("FLOWISE_MODEL_LOG", seed.get("model_log"))
    return seed


def routes(flowise, **keys):
    """A route for each chatflow, by name."""
    flows = flowise["flows"].items()
    # copies, because YAML writes an object that occurs twice as an alias
    return [{"name": name, "chatflow": flow, "upstream": "main", **deepcopy(keys)} for name, flow in flows]


@pytest.fixture
async def gateway(flowise, tmp_path):
    """A gateway with public routes."""
    public = routes(flowise, auth=["anonymous"], cors={"origins": ["*"]})
    timeouts = {"idle": "3s"}
    async with processes.serving(
        tmp_path, flowise["url"], routes=public, upstreams={"main": {"timeouts": timeouts}}
    ) as child:
        child.url = f"http://{child.host}:{child.port}"
        yield child


class Guarded:
    """A gateway whose routes require a key or a session token and bind conversations to their caller.

    `key` belongs to the backend of a site, `partner` to another caller.
    """

    def __init__(self, child, config: Path, key: str, partner: str) -> None:
        self._child = child
        self._config = config
        self.url = f"http://{child.host}:{child.port}"
        self.key, self.partner = key, partner
        self.until = child.until

    async def token(self, user: str, route: str, ttl: str = "15m") -> str:
        """A session token that the backend mints for one of its users."""
        wanted = {"caller": user, "routes": [route], "ttl": ttl}
        async with (
            aiohttp.ClientSession(headers=bearer(self.key)) as session,
            session.post(f"{self.url}/gateway/v1/session-tokens", json=wanted) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return (await answer.json())["token"]

    async def host(self, user: str, route: str, ttl: str = "15m") -> str:
        """The base URL for a page of this user."""
        return f"{self.url}/t/{await self.token(user, route, ttl)}"

    async def revoke(self, key: str) -> None:
        """Revoke a key on the command line. The running gateway notices within two seconds."""
        await keys_command(self._config, "revoke", key.split("_")[1])

    async def passed(self, moment: float) -> None:
        """Wait until this time, in seconds since the epoch, by the clock that tokens expire by."""
        await asyncio.sleep(max(0.0, moment - time.time()))

    async def ended(self) -> tuple[list[dict], str]:
        """Stop it; returns its request lines, and everything it has written."""
        self._child.send_signal()
        _, err = await self._child.ended()
        requests = [line for line in self._child.lines if line["event"] == "request"]
        return requests, "\n".join([*self._child.output, err])


async def keys_command(config: Path, *words: str) -> str:
    """The output of `flowise-gateway keys ...`."""
    async with processes.gateway("keys", *words, "--config", str(config)) as child:
        status, err = await child.ended()
        assert status == 0, err
        return "\n".join(child.output)


def guarded(flowise, *origins: str, **keys) -> str:
    """The configuration of a guarded gateway for pages of these origins. `keys`: more of each route."""
    guarding = {"auth": ["api_key", "session"], "conversations": {"bind": True}, "uploads": True, **keys}
    sections = configuration(
        flowise["url"],
        auth={"secret": secrets.token_hex(32), "keys_file": "keys.yaml"},
        routes=routes(flowise, **guarding, cors={"origins": list(origins)}),
        upstreams={"main": {"api_key": flowise.get("api_key", "")}},
    )
    return yaml.safe_dump(sections)


@pytest.fixture(scope="session")
def keys(flowise, tmp_path_factory):
    """A keys file made on the command line, and its two keys: the backend's and the partner's."""
    folder = tmp_path_factory.mktemp("keys")
    config = folder / "gateway.yaml"
    config.write_text(guarded(flowise))
    made = [asyncio.run(keys_command(config, "create", "--name", name)) for name in ("backend", "partner")]
    return folder / "keys.yaml", [re.search(r"\bfgw_\w+", output)[0] for output in made]


@pytest.fixture
def guard(flowise, keys, tmp_path):
    """`async with guard(origin, speech=True) as gateway:` a guarded gateway for pages of these origins."""

    @asynccontextmanager
    async def begin(*origins: str, **more):
        config, (file, names) = tmp_path / "gateway.yaml", keys
        config.write_text(guarded(flowise, *origins, **more))
        shutil.copy(file, tmp_path)
        async with processes.gateway("serve", "--config", str(config)) as child:
            await child.listens()
            yield Guarded(child, config, *names)

    return begin


@pytest.fixture
async def page():
    """The widget in a browser."""
    async with widget() as shown:
        yield shown


@pytest.fixture
def model(flowise):
    """The log of the fake model: what it was asked, and how its answers ended."""
    return ModelLog(flowise["model_log"])


class ModelLog:
    def __init__(self, path: str | None) -> None:
        if path is None:
            pytest.fail("The log of the fake model is unknown. Set FLOWISE_MODEL_LOG.")
        self._path = Path(path)

    def lines(self, fragment: str) -> list[dict]:
        """All lines about questions with this text, in order."""
        # Numbers restart with the model: an end belongs to the last begin before it.
        numbers: dict[int, str] = {}
        found = []
        whole = [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        for line in map(json.loads, whole):
            if line["event"] == "begin":
                numbers[line["n"]] = line["last"]
            if fragment in numbers.get(line["n"], ""):
                found.append(line)
        return found

    def asked(self, fragment: str) -> dict:
        """The input of the model for the one question with this text: `messages`, `images`."""
        (begin,) = [line for line in self.lines(fragment) if line["event"] == "begin"]
        return begin

    def ends(self, fragment: str) -> list[dict]:
        """The end lines of all answers to questions with this text."""
        return [line for line in self.lines(fragment) if line["event"] == "end"]

    async def ended(self, fragment: str) -> list[dict]:
        """The same, once there is one."""
        while not (ends := self.ends(fragment)):
            await asyncio.sleep(0.05)
        return ends


@asynccontextmanager
async def site(port: int, **files: str):
    """A web server on another site than the gateway, `localhost`; the page is `index`."""

    async def answer(request):
        name = request.path[1:] or "index"
        kind = "text/javascript" if name == "script" else "text/html"
        return (
            web.Response(text=files[name], content_type=kind) if name in files else web.Response(status=404)
        )

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "localhost", port).start()
    try:
        yield
    finally:
        await runner.cleanup()

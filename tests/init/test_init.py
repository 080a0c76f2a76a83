"""`init` and `flows` as a user types them, beside the simulator; and the gateway that comes of it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import sys

import pytest

from gateway.simulator import DEFAULT_FLOWS, Flow, Simulator
from tests.harness.commands import typed_aside
from tests.harness.processes import ROOT, gateway
from tests.harness.raw_client import Wire

KEY = "the-workspace-key"
HOOK = Flow(
    id="77777777-1111-4111-8111-111111111111", name="Hook", kind="agentflow", trigger="webhookTrigger"
)
NIGHTLY = Flow(
    id="88888888-1111-4111-8111-111111111111", name="nightly", kind="agentflow", trigger="scheduleInput"
)
FLOWS = (*DEFAULT_FLOWS, HOOK, NIGHTLY)


@pytest.fixture
async def flowise():
    async with Simulator(FLOWS, api_key=KEY) as simulator:
        yield simulator


@pytest.fixture
def with_key(monkeypatch):
    """Types a command in this process, with this key of Flowise in the environment."""

    async def begin(*arguments, key=KEY):
        monkeypatch.setenv("FLOWISE_API_KEY", key)
        return await typed_aside(*arguments)

    return begin


async def test_flows_lists_every_chatflow(flowise, with_key):
    status, out, err = await with_key("flows", "--flowise", flowise.url, "--json")
    assert (status, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)}
    assert set(rows) == {flow.name for flow in FLOWS}
    assert rows["Hook"]["trigger"] == "webhook"
    assert (rows["nostream"]["streaming"], rows["chain"]["streaming"]) == (False, True)
    assert (rows["protected"]["key"], rows["chain"]["key"]) == (True, False)
    status, out, _ = await typed_aside("flows", "--flowise", flowise.url, "--api-key", KEY)
    assert status == 0
    assert len(out.splitlines()) == len(FLOWS) + 1


async def test_a_long_list_comes_in_pages(with_key):
    flows = [Flow(id=f"{n:08}-0000-4000-8000-000000000000", name=f"flow {n}") for n in range(60)]
    async with Simulator(flows, api_key=KEY) as flowise:
        _, out, _ = await with_key("flows", "--flowise", flowise.url, "--json")
        pages = [request.query["page"] for request in flowise.requests if request.path == "/api/v1/chatflows"]
    assert {row["name"] for row in json.loads(out)} == {flow.name for flow in flows}
    assert pages == ["1", "2", "3"]


async def test_what_init_writes_serves_the_line_that_it_prints(flowise, tmp_path, with_key):
    folder = tmp_path / "new"
    status, out, err = await with_key("init", "--flowise", flowise.url, "--all", "--out", str(folder))
    assert (status, err) == (0, "")
    assert "Left out, because a webhook or a schedule starts them and they answer no predictions: " in out
    assert "Hook (webhook), nightly (schedule)" in out
    routes = re.findall("- name: (.*)", (folder / "gateway.yaml").read_text())
    assert set(routes) == {flow.name for flow in DEFAULT_FLOWS}
    assert re.search(r'^"protected" needs an API key .* FLOWISE_API_KEY_PROTECTED', out, re.MULTILINE)
    environment = (folder / ".env").read_text()
    secrets = [KEY, re.search(r"^GATEWAY_SECRET=([0-9a-f]{64})$", environment, re.MULTILINE)[1]]
    assert not [secret for secret in secrets if secret in out]
    assert f"FLOWISE_API_KEY={KEY}\n" in environment
    (curl,) = re.findall(r"^curl .*$", out, re.MULTILINE)
    words = shlex.split(curl)
    assert out.count("fgw_") == 1

    load = next(line for line in out.splitlines() if line.startswith("set -a; "))
    serve = ("serve", "--config", str(folder / "gateway.yaml"), "--listen", "127.0.0.1:0")
    sed = f"sed -i 's/^server:/admin: {{listen: 127.0.0.1:0}}\\n&/' {folder}/gateway.yaml"
    async with gateway(*serve, before=f"{sed}; {load}") as child:
        await child.listens()
        wire = await Wire.to("127.0.0.1", child.port)
        path = words[2].partition("8080")[2]
        fields = dict(word.split(": ", 1) for word in words if ": " in word and not word.startswith("{"))
        wire.post(path, words[-1].encode(), **fields)
        reply = await wire.reply()
        await wire.close()
    assert reply.status == 200
    assert b'"event":"token"' in reply.body
    assert reply.body.endswith(b'{"event":"end","data":"[DONE]"}\n\n')


async def test_nothing_is_overwritten_and_flowise_is_not_asked(flowise, tmp_path, with_key):
    (tmp_path / "keys.yaml").write_text("mine")
    status, out, err = await with_key("init", "--flowise", flowise.url, "--all", "--out", str(tmp_path))
    assert (status, out) == (1, "")
    assert f"{tmp_path}/keys.yaml exists, and nothing is overwritten." in err
    assert [path.name for path in tmp_path.iterdir()] == ["keys.yaml"]
    assert flowise.requests == []


async def test_a_dry_run_prints_the_files_without_secrets_and_writes_nothing(flowise, tmp_path, with_key):
    arguments = ("--flow", "chain", "--flow", "agentflow", "--public", "--origin", "https://a.example")
    status, out, _ = await with_key(
        "init", "--flowise", flowise.url, *arguments, "--dry-run", "--out", str(tmp_path)
    )
    assert status == 0
    assert out.index("- name: chain") < out.index("- name: agentflow")
    assert 'cors: {origins: ["https://a.example"]}' in out
    assert "FLOWISE_API_KEY=***" in out
    assert KEY not in out
    assert list(tmp_path.iterdir()) == []


async def test_public_routes_get_no_key(flowise, tmp_path, with_key):
    arguments = ("--flow", "chain", "--public", "--origin", "*", "--out", str(tmp_path))
    status, out, _ = await with_key("init", "--flowise", flowise.url, *arguments)
    assert status == 0
    assert {path.name for path in tmp_path.iterdir()} == {".env", "gateway.yaml"}
    assert "fgw_" not in out


@pytest.mark.parametrize(
    ("arguments", "key", "status", "sentence"),
    [
        ((), KEY, 2, "There is no terminal to ask. Write --all, or --flow NAME for each."),
        (("--flow", "chian"), KEY, 2, 'there is no chatflow "chian": did you mean chain?'),
        (("--all", "--public"), KEY, 2, "--public needs --origin URL"),
        (("--all",), "wrong", 1, "does not accept the API key. Copy one from Flowise"),
        (
            ("--all",),
            "",
            1,
            "wants an API key. Create one in Flowise, under API Keys, and give it with --api-key",
        ),
        (("--all",), "two words", 2, "FLOWISE_API_KEY is not valid in a header"),
        (("--all", "--flow", "chain"), KEY, 2, "not allowed with argument"),
    ],
)
async def test_a_refusal_is_one_sentence(flowise, tmp_path, with_key, arguments, key, status, sentence):
    got, out, err = await with_key(
        "init", "--flowise", flowise.url, "--out", str(tmp_path), *arguments, key=key
    )
    assert (got, out) == (status, "")
    assert sentence in err
    assert "two words" not in err
    assert list(tmp_path.iterdir()) == []


async def test_the_url_of_the_api_is_answered_with_the_right_one():
    for given in (
        "http://127.0.0.1:1/api/v1",
        "http://127.0.0.1:1/api/v1/prediction/x",
        "http://127.0.0.1:1/api/",
    ):
        status, _, err = await typed_aside("flows", "--flowise", given)
        assert status == 2
        assert err.rstrip().endswith(
            "has the path of the API, which is added to it: write http://127.0.0.1:1"
        )


async def test_a_flowise_without_chatflows_is_an_error(with_key):
    async with Simulator((), api_key=KEY) as flowise:
        status, _, err = await with_key("flows", "--flowise", flowise.url)
    assert status == 1
    assert "has no chatflows in the workspace of this key. Create one" in err


async def test_on_a_terminal_the_user_picks_by_number(flowise, tmp_path):
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "gateway", "init", "--flowise", flowise.url, "--out", str(tmp_path))
    environ = {**os.environ, "FLOWISE_API_KEY": KEY}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environ, stdin=theirs, stdout=theirs
    )
    os.close(theirs)
    try:
        shown = await read_until(ours, b"or all: ")
        assert re.search(rb"   1  agentflow +agentflow\r\n   2  chain +chatflow\r\n", shown)
        assert b"Hook" not in shown
        os.write(ours, b"99\n")
        assert b'"99" is none of them: write numbers from 1 to 6: ' in await read_until(ours, b": ")
        os.write(ours, b"2\n")
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
    assert re.findall("- name: (.*)", (tmp_path / "gateway.yaml").read_text()) == ["chain"]


async def read_until(terminal, mark):
    """What a terminal shows, up to and with `mark`."""
    loop, shown, more = asyncio.get_running_loop(), bytearray(), asyncio.Event()

    def read():
        shown.extend(os.read(terminal, 4096))
        more.set()

    loop.add_reader(terminal, read)
    try:
        while not shown.endswith(mark):
            more.clear()
            await more.wait()
    finally:
        loop.remove_reader(terminal)
    return bytes(shown)

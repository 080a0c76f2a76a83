"""The examples of deploy/examples in a browser, unchanged but for the addresses in them."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.e2e.conftest import site
from tests.harness import bounds
from tests.harness.clock import time_passes
from tests.harness.ports import free_port
from tests.harness.predictions import lines_of, unique
from tests.harness.processes import ROOT
from tests.harness.widget import clients, page

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(12 * bounds.TEST)]
EXAMPLES = ROOT / "deploy" / "examples"
PYTHON = os.environ.get("FLOWISE_PYTHON", sys.executable)
HOST, FLOW = "https://chat.example.com", "support"


@pytest.fixture
async def shown():
    async with page() as browser:
        yield browser


@asynccontextmanager
async def running(*command: str, url: str, **environ: str):
    """A program until the end of the block; it serves this URL."""
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environ, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(url):
                        break
                except aiohttp.ClientError:
                    assert process.returncode is None
                    await time_passes(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def with_addresses(text: str, host: str, flow: str) -> str:
    assert (text.count(f"'{HOST}'"), text.count(f"'{FLOW}'")) == (1, 1)
    return text.replace(f"'{HOST}'", f"'{host}'").replace(f"'{FLOW}'", f"'{flow}'")


async def test_html_with_fetch_streams_and_continues_its_conversation(gateway, shown):
    text = with_addresses((EXAMPLES / "fetch" / "index.html").read_text(), gateway.url, "chain")
    port = free_port()
    async with site(port, index=text):
        await shown.open(f"http://localhost:{port}")
        await shown.ask(["input", unique("tokens=40 delay=0.1", "my cat is Minka")])
        await shown.shows(["output", "tok3"])
        assert "tok39" not in await shown.text("output")
        await shown.shows(["output", "tok39"])
        await shown.shows(["button:enabled", "Send"])
        await shown.ask(["input", unique("recall=1", "who is my cat?")])
        await shown.shows(["output", "my cat is Minka"])
        await shown.shows(["button:enabled", "Send"])
        await shown.ask(["input", "x" * 3000])  # a word that the route refuses
        await shown.shows(["output", "("])
        assert await shown.complaints() == []


async def test_streamlit_streams_and_continues_its_conversation(guard, shown):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1"]
    words += ["--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
    app = str(EXAMPLES / "streamlit" / "app.py")
    async with guard() as gateway:
        environ = {"CHAT_HOST": gateway.url, "CHAT_FLOW": "chain", "CHAT_KEY": gateway.key}
        async with running(PYTHON, "-m", "streamlit", "run", app, *words, url=url, **environ):
            await shown.open(url)
            field, messages = "[data-testid=stChatInput] textarea", "[data-testid=stChatMessage]"
            await shown.ask([field, unique("tokens=30 delay=0.1", "my cat is Minka")])
            await shown.shows([messages, "tok3"])
            assert "tok29" not in await shown.text(messages)
            await shown.shows([messages, "tok29"])
            await shown.ask([field, unique("recall=1", "who is my cat?")])
            await shown.shows([messages, "that is all"])
            assert "my cat is Minka" in (await shown.text(messages)).rpartition("who is my cat?")[2]
        requests, _ = await gateway.ended()
    answers = [line for line in requests if line["endpoint"] == "prediction"]
    assert {(line["caller"], line["outcome"]) for line in answers} == {("key:backend", "ok")}


async def test_the_widget_gets_a_token_from_its_backend(guard, shown):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with guard(url) as gateway:
        environ = {"CHAT_HOST": gateway.url, "CHAT_FLOW": "chain", "CHAT_KEY": gateway.key, "PORT": str(port)}
        async with running(PYTHON, str(EXAMPLES / "widget" / "backend.py"), url=url, **environ):
            async with aiohttp.ClientSession() as session, session.get(f"{url}/backend.py") as source:
                assert source.status == 404
            await shown.open(url)
            await shown.click("flowise-chatbot button")
            await shown.ask(["flowise-chatbot textarea.text-input", unique("tokens=4")])
            await shown.shows(["flowise-chatbot .chatbot-host-bubble", "tok3"])
            assert await shown.complaints() == []
        requests, output = await gateway.ended()
    (answer,) = [line for line in requests if line["endpoint"] == "prediction"]
    assert (answer["caller"], answer["outcome"]) == ("session:backend/ann", "ok")
    assert "fgs_" not in output


async def bundle(folder, host, token):
    """The example as one script, in a page's <main>."""
    entry, modules = folder / "main.jsx", clients() / "node_modules"
    entry.write_text(f"""
        import {{ createRoot }} from 'react-dom/client'
        import {{ Chat }} from '{EXAMPLES}/react/Chat.jsx'
        createRoot(document.querySelector('main')).render(<Chat host="{host}" flow="assistant" token="{token}" />)
    """)
    command = [
        str(modules / ".bin" / "esbuild"),
        str(entry),
        "--bundle",
        "--jsx=automatic",
        "--log-level=warning",
    ]
    return "\n".join(await lines_of("env", f"NODE_PATH={modules}", *command))


async def test_the_react_hook_streams_continues_and_stops(guard, shown, model, tmp_path):
    port = free_port()
    origin = f"http://localhost:{port}"
    html = "<!doctype html><meta charset=utf-8><main></main><script src=/script></script>"
    async with guard(origin) as gateway:
        script = await bundle(tmp_path, gateway.url, await gateway.token("ann", "assistant"))
        async with site(port, index=html, script=script):
            await shown.open(origin)
            await shown.ask(["input", unique("tokens=4", "my cat is Minka")])
            await shown.shows([".bot", "tok3"])
            await shown.shows(["button", "Send"])
            long = unique("tokens=400 delay=0.05")
            await shown.ask(["input", long])
            await shown.shows([".bot >> nth=-1", "tok3"])
            await shown.click("button:has-text('Stop')")
            (end,) = await model.ended(long)
            assert end["reason"] == "client_gone"
            assert any("my cat is Minka" in text for _, text in model.asked(long)["messages"])
            assert await shown.complaints() == []
        requests, _ = await gateway.ended()
    outcomes = [
        line["outcome"] for line in requests if line["endpoint"] == "prediction" and line["status"] == 200
    ]
    assert outcomes == ["ok", "client_closed"]

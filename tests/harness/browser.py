"""A page in a headless Chromium, driven over the DevTools protocol: no package is needed but aiohttp."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from tests.harness.programs import program

# resolves once the expression is true, which is looked at whenever the page has changed
UNTIL = """new Promise((resolve) => {
    const look = () => { const found = (%s); if (found) { watching.disconnect(); resolve(found) } }
    const watching = new MutationObserver(look)
    watching.observe(document, {subtree: true, childList: true, characterData: true, attributes: true})
    look()
})"""


class Tab:
    """One tab. `complaints`: errors of its scripts, and what its Content-Security-Policy has refused."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self._loaded = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())
        self.complaints: list[str] = []
        self.requested: list[str] = []  # every URL

    async def _read(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                self._waiting.pop(found["id"]).set_result(found)
                continue
            match found["method"]:
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(found["params"]["exceptionDetails"]))
                case "Log.entryAdded" if found["params"]["entry"]["level"] == "error":
                    entry = found["params"]["entry"]
                    self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
                case "Network.requestWillBeSent":
                    self.requested.append(found["params"]["request"]["url"])
                case "Page.loadEventFired":
                    self._loaded.set()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **session})
        found = await answer
        assert "error" not in found, found["error"]
        return found["result"]

    async def begin(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            await self.call(f"{domain}.enable")

    async def open(self, url: str) -> None:
        """Load a page, and wait until it is loaded."""
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await self._loaded.wait()

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true; returns its value."""
        return await self.run(UNTIL % expression)

    async def text(self, selector: str) -> str:
        return await self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def press(self, key: str) -> None:
        """Press a key: `Tab`, `Enter`, `Escape`, or a letter."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        named = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    async def write(self, text: str) -> None:
        """Type this into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self) -> bytes:
        """A PNG of the whole page."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    async def end(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])


@asynccontextmanager
async def tab_in(folder: Path):
    """`async with tab_in(tmp_path) as tab:` a tab of a browser with an empty profile in this folder."""
    path = program("chromium", "chromium-browser", "google-chrome")
    options = (
        "--headless=new",
        "--window-size=1400,1000",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    )
    profile = folder / "profile"
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *(path, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}"),
        stdout=nothing,
        stderr=nothing,
        start_new_session=True,
    )
    try:
        port, way = await _listening(profile / "DevToolsActivePort", process)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{way}", max_msg_size=2**27) as socket,
        ):
            tab = Tab(socket)
            await tab.begin()
            yield tab
            await tab.end()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it has several processes
        await process.wait()


async def _listening(file: Path, process: asyncio.subprocess.Process) -> list[str]:
    """Port and path of the browser's socket, which it writes into a file of its profile once it listens."""
    while process.returncode is None:
        if file.exists() and len(lines := file.read_text().split()) == 2:
            return lines
        await asyncio.sleep(0.02)
    raise AssertionError("the browser has ended")

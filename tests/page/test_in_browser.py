"""The real page in a real browser: what it shows of runs and requests, by keyboard too, and that it is accessible."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiohttp
import pytest

from gateway.page import feed, sampling
from gateway.simulator import CHAIN_ID, Simulator
from tests.harness import bounds
from tests.harness.browser import tab_in

pytestmark = pytest.mark.timeout(4 * bounds.TEST)  # a browser starts

ADMIN_TOKEN = "a-token-for-the-page"
HOSTILE = ["<img src=x onerror=alert(1)>", "evil\u202egnp.exe", "A" * 10_000]
VIOLATIONS = """axe.run().then(({violations}) => violations
    .filter(({impact}) => impact === 'serious' || impact === 'critical')
    .map(({id, nodes}) => id + ': ' + nodes.map(({html}) => html).slice(0, 3).join(' ')))"""


@pytest.fixture
async def tab(tmp_path):
    async with tab_in(tmp_path) as opened:
        yield opened


@pytest.fixture
async def ask():
    """`ask(gateway, question)` asks in the background."""
    session = aiohttp.ClientSession()
    asked = []

    async def post(gateway, question, agent):
        url, body = f"{gateway.url}/api/v1/prediction/chat", {"question": question, "streaming": True}
        async with session.post(url, json=body, headers={"User-Agent": agent}) as answer:
            return await answer.text()

    def begin(gateway, question, agent="a client"):
        asked.append(asyncio.ensure_future(post(gateway, question, agent)))
        return asked[-1]

    yield begin
    for one in asked:
        one.cancel()
    await session.close()


def rows(table, text):
    """JavaScript: the number of rows of a table whose text contains this."""
    quoted = json.dumps(text)
    return f"[...document.querySelectorAll('#{table}-table tbody tr')].filter((row) => row.innerText.includes({quoted})).length"


def focused(selector):
    return f"document.activeElement.matches({json.dumps(selector)})"


async def test_streams_appear_end_fail_and_are_ended_on_the_page(tab, ask, start, hurried, monkeypatch):
    hurried(0.5)  # for which a run that was ended is still read
    monkeypatch.setattr(feed, "INTERVAL", 0.1)
    admin = {"token": ADMIN_TOKEN}
    async with (
        Simulator() as simulator,
        start(simulator.url, admin=admin, route={"chatflow": CHAIN_ID}) as gateway,
    ):
        await log_in(tab, gateway)

        long = ask(gateway, "hi [[tokens=2000 delay=0.1]]", "the long one")
        await tab.until(f"{rows('runs', 'the long one')} === 1 && {rows('runs', 'streams')} === 1")
        short = ask(gateway, "hi [[tokens=2 delay=0]]")
        failed = ask(gateway, "hi [[fail=500]]")
        assert "tok1" in await short
        assert '"error"' in await failed
        await tab.until(f"{rows('requests', 'ok')} >= 1 && {rows('requests', 'error_event')} === 1")
        await tab.until(
            f"{rows('routes', 'chat')} === 1 && document.querySelectorAll('#charts svg').length === 2"
        )
        label = await tab.run("document.querySelector('#charts svg').getAttribute('aria-label')")
        assert "2 requests in the last hour" in label

        await filter_requests(tab)
        await hostile_names(tab, ask, gateway)
        await end_by_keyboard(tab)
        assert "An operator of this gateway has ended the answer." in await long
        await tab.until(f"{rows('requests', 'ended_by_operator')} === 1")

        await tab.run("document.getElementById('runs-text').value = ''")
        await tab.until(f"{rows('runs', 'streams')} === 3")
        monkeypatch.setattr(sampling, "MOST_RUNS", 1)
        await tab.until(
            "document.getElementById('runs-count').textContent.startsWith('2 of 3 runs and waiting')"
        )
        assert await tab.run("document.querySelectorAll('#runs-table tbody tr').length") == 2

        await tab.click("#configuration-details summary")
        await tab.until("document.getElementById('configuration-text').textContent.includes('\"chatflow\"')")
        assert ADMIN_TOKEN not in await tab.text("#configuration-text")
        await pause(tab)
        complaints = [said for said in tab.complaints if "401 (Unauthorized)" not in said]
        assert complaints == []
        assert {url for url in tab.requested if not url.startswith(gateway.admin)} == set()


async def log_in(tab, gateway):
    await tab.open(f"{gateway.admin}/")
    await tab.until("!document.getElementById('login').hidden")
    assert await tab.run(focused("#token"))
    await tab.write("another")
    await tab.press("Enter")
    await tab.until("document.getElementById('connection').textContent.startsWith('This is not the token')")
    await tab.write(ADMIN_TOKEN)
    await tab.press("Enter")
    await tab.until("!document.getElementById('content').hidden")
    assert await tab.run("JSON.stringify(Object.values(sessionStorage))") == json.dumps([ADMIN_TOKEN])
    assert await tab.run("localStorage.length + document.cookie.length") == 0


async def filter_requests(tab):
    await tab.run(
        "(() => { const select = document.getElementById('requests-outcome'); select.value = 'error_event';"
        " select.dispatchEvent(new Event('input')) })()"
    )
    assert await tab.run(rows("requests", "")) == 1
    await tab.run(
        "(() => { const select = document.getElementById('requests-outcome'); select.value = '';"
        " select.dispatchEvent(new Event('input')) })()"
    )


async def hostile_names(tab, ask, gateway):
    for name in HOSTILE:
        ask(
            gateway,
            "hi [[tokens=2000 delay=0.1]]",
            name.encode().decode("latin-1") if name.isascii() else name,
        )
    await tab.until(f"{rows('runs', '<img src=x onerror=alert(1)>')} === 1")
    await tab.until(f"{rows('runs', 'AAAA')} === 1")
    assert await tab.run("document.querySelectorAll('#runs-table img').length") == 0
    assert "\u202e" not in await tab.text("#runs-table")


async def end_by_keyboard(tab):
    """Find the long run by the filter, reach its button by Tab, and end it; the focus stays while rows change."""
    await tab.run("document.getElementById('runs-text').focus()")
    await tab.write("the long one")
    await tab.until(f"{rows('runs', '')} === 1")
    while not await tab.run(focused("#runs-table button")):
        await tab.press("Tab")
    before = await tab.text("#runs-table tbody")
    await tab.until(f"document.querySelector('#runs-table tbody').innerText !== {json.dumps(before)}")
    assert await tab.run(focused("#runs-table button"))
    await tab.press("Enter")
    await tab.until("document.getElementById('end').open")
    assert await tab.run(focused("#end-keep"))
    await tab.press("Escape")
    await tab.until("!document.getElementById('end').open")
    assert await tab.run(focused("#runs-table button"))
    await tab.press("Enter")
    await tab.until("document.getElementById('end').open")
    await tab.press("Tab")
    await tab.press("Enter")
    await tab.until("document.getElementById('said').textContent === 'The run is being ended.'")
    await tab.until(f"{rows('runs', 'is being ended')} === 1 || {rows('runs', 'No run is open')} === 1")


async def pause(tab):
    await tab.click("#pause")
    await tab.until("document.getElementById('connection').textContent === 'Paused.'")
    await tab.click("#pause")
    await tab.until("document.getElementById('connection').textContent.startsWith('Connected')")


async def test_axe_finds_nothing_serious_in_light_and_in_dark(tab, ask, start, monkeypatch):
    path = os.environ.get("AXE_CORE", "")
    if not path:
        pytest.skip("needs axe-core: the path of its axe.min.js (npm package axe-core) in AXE_CORE")
    monkeypatch.setattr(feed, "INTERVAL", 0.1)
    axe = await asyncio.to_thread(Path(path).read_text)
    admin = {"token": ADMIN_TOKEN}
    async with (
        Simulator() as simulator,
        start(simulator.url, admin=admin, route={"chatflow": CHAIN_ID}) as gateway,
    ):
        await tab.open(f"{gateway.admin}/")
        await tab.until("!document.getElementById('login').hidden")
        await tab.run(f"{axe};0")
        assert await tab.run(VIOLATIONS) == []
        await tab.write(ADMIN_TOKEN)
        await tab.press("Enter")
        ask(gateway, "hi [[tokens=2000 delay=0.1]]")
        await ask(gateway, "hi [[tokens=2 delay=0]]")
        await ask(gateway, "hi [[fail=500]]")
        await tab.until(f"{rows('runs', 'streams')} === 1 && {rows('requests', 'error_event')} === 1")
        await tab.click("#configuration-details summary")
        for scheme in ("light", "dark"):
            await tab.prefer(scheme)
            assert await tab.run(VIOLATIONS) == []
        await tab.click("#runs-table button")
        assert await tab.run(VIOLATIONS) == []

"""The live page by HTTP: its files, its stream of states, the end of a run, and the bounds of all of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import AsyncExitStack

import aiohttp
import pytest

from gateway.page import feed, sample, sampling
from gateway.page.feed import MOST_VIEWERS
from gateway.server import page
from gateway.server.page import FILES, FOLDER, HEADERS
from tests.harness import bounds
from tests.harness.frames import ABORT, ASK, END, PATH
from tests.harness.held_stream import TOKEN, Held
from tests.harness.raw_client import Wire, request
from tests.harness.raw_upstream import STREAM_HEAD, RawUpstream
from tests.harness.viewer import end_run, viewing

ADMIN_TOKEN = "a-token-for-the-page"
NOWHERE = "http://127.0.0.1:1"
BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A state every 20 ms in place of one each second."""
    monkeypatch.setattr(feed, "INTERVAL", 0.02)


async def asked(gateway, method, path, **headers):
    """Status, headers and text of an answer of the admin port."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.admin + path, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.text()


async def begin(wire, ask=ASK, **headers):
    wire.post(PATH, ask, **headers)
    assert (await wire.head())[0] == 200
    assert await wire.chunk() == TOKEN


# -- files and tokens ------------------------------------------------------------------------------


async def test_its_files_need_no_token_and_have_the_policy_and_its_data_needs_one(start):
    async with start(NOWHERE, admin={"token": ADMIN_TOKEN}) as gateway:
        for path, (name, content_type) in FILES.items():
            status, headers, text = await asked(gateway, "GET", path)
            assert (status, text) == (200, (FOLDER / name).read_text())
            assert headers["Content-Type"] == f"{content_type}; charset=utf-8"
            assert HEADERS.items() <= headers.items()
        policy = HEADERS["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert (await asked(gateway, "HEAD", "/"))[0::2] == (200, "")
        assert (await asked(gateway, "POST", "/"))[0] == 405
        for method, path in (("GET", "/page/events"), ("POST", "/page/runs/:1/end"), ("GET", "/config")):
            assert (await asked(gateway, method, path))[0] == 401
            assert (await asked(gateway, method, path, Authorization="Bearer another"))[0] == 401
        for path in ("/page/", "/page/other.js", "/page/../admin.py", "/page/runs//end"):
            assert (await asked(gateway, "GET", path, **BEARER))[0] == 404
        status, headers, _ = await asked(gateway, "GET", "/page/runs/:1/end", **BEARER)
        assert (status, headers["Allow"]) == (405, "POST")
        assert (await end_run(gateway.admin, ":1", **BEARER))[0] == 404
        async with viewing(gateway.admin, ADMIN_TOKEN) as viewer:
            assert await viewer.next()


def test_the_page_is_made_of_these_files_and_asks_for_nothing_else():
    assert {name for name, _ in FILES.values()} == {path.name for path in FOLDER.iterdir()}
    for path in FOLDER.iterdir():
        text = path.read_text()
        addresses = text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in addresses, path.name
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
        ):
            assert word not in text, path.name
    index = (FOLDER / "index.html").read_text()
    assert "<style" not in index
    assert " style=" not in index
    assert " on" not in index.replace(" onto", "").replace(" one", "").split("<body>")[0]


async def test_a_page_that_is_off_is_not_there(start):
    async with start(NOWHERE, admin={"page": False}) as gateway:
        for method, path in (("GET", "/"), ("GET", "/page/page.css"), ("GET", "/page/events")):
            status, _, text = await asked(gateway, method, path)
            assert (status, text.split()[:4]) == (404, ["The", "paths", "here", "are"])
            assert " /," not in text
        assert (await end_run(gateway.admin, ":1"))[0] == 404


async def test_a_reload_turns_it_off_and_on(start, hurried):
    async with start(NOWHERE) as gateway:
        text = gateway.path.read_text()
        async with viewing(gateway.admin) as viewer:
            assert await viewer.next()
            await gateway.reload(text.replace("admin:\n", "admin:\n  page: false\n"))
            while await viewer.next():
                pass
        assert (await asked(gateway, "GET", "/"))[0] == 404
        await gateway.reload(text)
        assert (await asked(gateway, "GET", "/"))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "rebound.example:9090"}, 403),
        ({"Host": "[::1]:9090"}, 404),
        ({"Host": "localhost"}, 404),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Origin": "http://10.0.0.1:9", "Host": "10.0.0.1:9"}, 404),
    ],
)
async def test_a_page_of_another_site_ends_no_run_and_sees_none(start, headers, status):
    async with start(NOWHERE) as gateway:
        assert (await end_run(gateway.admin, ":1", **headers))[0] == status
        if status == 403:
            assert (await asked(gateway, "GET", "/page/events", **headers))[0] == 403


async def test_with_a_token_the_port_may_have_any_name(start):
    async with start(NOWHERE, admin={"token": ADMIN_TOKEN}) as gateway:
        assert (await end_run(gateway.admin, ":1", Host="gateway.internal", **BEARER))[0] == 404


# -- the state -------------------------------------------------------------------------------------


async def test_a_run_appears_with_what_is_known_of_it_and_ends_as_its_log_line(start, connect):
    held = Held()
    limits = {"limits": [{"name": "per-hour", "requests": 10, "per": "1h", "by": "caller"}]}
    async with RawUpstream(held) as upstream, start(upstream.url, route=limits) as gateway:
        async with connect(gateway) as wire, connect(gateway) as second, viewing(gateway.admin) as viewer:
            await begin(wire, User_Agent="a client", X_Request_ID="first")
            (run,) = await viewer.until(lambda seen: seen.rows("runs", stage="streaming"))
            assert run["since"] > 1.7e9
            assert 0 <= run["first_token"] < 60
            known = {"request_id": "first", "route": "chat", "caller": "anonymous", "client": "127.0.0.1"}
            assert known.items() <= run.items()
            assert (run["agent"], run["tokens"], run["worker"]) == ("a client", 1, "")
            assert run["server"] == upstream.url.removeprefix("http://")
            second.post(PATH, ASK)
            (waiting,) = await viewer.until(lambda seen: seen.rows("runs", stage="conversation"))
            assert waiting["route"] == "chat"
            assert (viewer.one("gateway")["open_runs"], viewer.one("gateway")["waiting"]) == (1, 1)
            held.may_finish.set()
            await wire.rest()
            await viewer.until(lambda seen: len(seen.rows("requests")) == 2)
            await viewer.until(lambda seen: not seen.rows("runs"))
            lines = await gateway.lines.until("request", 2)
            for shown, logged in zip(viewer.rows("requests"), lines, strict=True):
                assert abs(shown.pop("ended") - time.time()) < 60
                assert shown == {name: value for name, value in logged.items() if name in shown}
                assert set(logged) - set(shown) == {"event", "level", "time"}
            hour = await viewer.until(lambda seen: seen.tables["routes"].get("chat"))
            assert hour["outcomes"] == {"ok": 2}
            assert 0 < hour["p50"] <= hour["p95"]
            slots = viewer.rows("hour")
            assert sum(slot["chat"]["ok"] for slot in slots) == sum(slot[""]["ok"] for slot in slots) == 2
            await viewer.until(lambda seen: seen.rows("callers", requests=2))


async def test_tokens_are_counted_up_to_the_last_that_has_come(start, connect):
    may_go_on = asyncio.Event()

    async def script(peer, _):
        peer.send(STREAM_HEAD)
        peer.chunk(TOKEN)
        await may_go_on.wait()
        peer.chunk(TOKEN + TOKEN)
        await peer.closed_by_gateway()

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire, viewing(gateway.admin) as viewer:
            await begin(wire)
            await viewer.until(lambda seen: seen.rows("runs", tokens=1))
            may_go_on.set()
            await viewer.until(lambda seen: seen.rows("runs", tokens=3))


async def test_it_shows_what_the_limits_of_a_caller_have_left(start, connect, monkeypatch):
    monkeypatch.setattr(sampling, "LIMITS_EVERY", 0.0)
    held = Held()
    held.may_finish.set()
    limits = [
        {"name": "per-hour", "requests": 10, "per": "1h"},
        {"name": "tokens", "tokens": 1000, "per": "1h"},
        {"name": "at-once", "concurrent": 3},
    ]
    async with RawUpstream(held) as upstream, start(upstream.url, route={"limits": limits}) as gateway:
        async with connect(gateway) as wire, viewing(gateway.admin) as viewer:
            wire.post(PATH, ASK)
            assert (await wire.reply()).status == 200
            (row,) = await viewer.until(lambda seen: seen.rows("callers"))
            (line,) = await gateway.lines.until("request")
            assert (row["route"], row["caller"], row["not_ok"]) == ("chat", "127.0.0.1", 0)
            assert (row["tokens_in"], row["tokens_out"]) == (line["tokens_in"], line["tokens_out"])
            left = {limit["name"]: limit for limit in row["limits"]}
            assert left["per-hour"] == {
                "name": "per-hour",
                "kind": "requests",
                "limit": 10,
                "remaining": 9,
                "reset_s": left["per-hour"]["reset_s"],
            }
            assert 0 < left["per-hour"]["reset_s"] <= 360
            assert left["tokens"]["remaining"] == 1000 - line["tokens_in"] - line["tokens_out"]
            assert (left["at-once"]["remaining"], left["at-once"]["reset_s"]) == (3, None)


async def test_it_shows_servers_processes_store_and_the_last_reload(start, hurried):
    servers = {
        "upstreams": {
            "main": {"servers": [{"url": NOWHERE}], "health": {"every": "20ms", "timeout": "20ms", "fall": 1}}
        }
    }
    async with start(NOWHERE, **servers) as gateway, viewing(gateway.admin) as viewer:
        (down,) = await viewer.until(lambda seen: seen.rows("servers", up_for=0))
        assert (down["upstream"], down["server"], down["seen_by"]) == ("main", "127.0.0.1:1", 1)
        assert "refused" in down["reason"]
        process = viewer.one("processes")
        assert process["state"] == "ready"
        assert process["memory"] > 10_000_000
        assert viewer.one("store") == {"is_shared": False, "up_for": 0, "seen_by": 0}
        assert viewer.one("reload")["refused"] == ""
        await gateway.reload("routes: []")
        refused = await viewer.until(lambda seen: seen.one("reload")["refused_at"] and seen.one("reload"))
        assert "mistakes" in refused["refused"]


async def test_it_shows_whether_the_shared_store_answers(start, own_valkey):
    async with (
        start(NOWHERE, limits={"store": own_valkey.url}, auth={"secret": "s" * 32}) as gateway,
        viewing(gateway.admin) as viewer,
    ):
        await viewer.until(lambda seen: seen.one("store") == {"is_shared": True, "up_for": 1, "seen_by": 1})
        own_valkey.kill()
        await viewer.until(lambda seen: seen.one("store") == {"is_shared": True, "up_for": 0, "seen_by": 1})


@pytest.mark.parametrize("prompts", [False, True])
async def test_no_prompt_and_no_answer_is_shown_unless_prompts_are_logged(start, connect, prompts):
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url, logs={"prompts": prompts}) as gateway:
        async with connect(gateway) as wire, viewing(gateway.admin) as viewer:
            await begin(wire, {**ASK, "question": "the secret question"})
            await viewer.until(lambda seen: seen.rows("runs", stage="streaming"))
            held.may_finish.set()
            await wire.rest()
            (line,) = await viewer.until(lambda seen: seen.rows("requests"))
            assert line.get("prompt") == ("the secret question" if prompts else None)
            assert ("secret" in "".join(viewer.messages)) is prompts


async def test_the_lines_are_all_and_without_the_fields_that_the_log_drops(start, connect):
    held = Held()
    held.may_finish.set()
    logs = {"sample": 0.0, "fields": {"drop": ["client", "request_id"], "rename": {"caller": "user"}}}
    async with RawUpstream(held) as upstream, start(upstream.url, logs=logs) as gateway:
        async with connect(gateway) as wire, viewing(gateway.admin) as viewer:
            wire.post(PATH, ASK)
            assert (await wire.reply()).status == 200
            (line,) = await viewer.until(lambda seen: seen.rows("requests"))
            assert (line["outcome"], line["caller"]) == ("ok", "anonymous")
            assert not {"client", "request_id"} & line.keys()
            assert gateway.lines.of("request") == []


async def test_hostile_names_are_data_and_cut(start, connect):
    names = ["<script>alert(1)</script>", "a\u202eb".encode().decode("latin-1"), "A" * 10_000]
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, AsyncExitStack() as stack:
        for name in names:
            wire = await stack.enter_async_context(connect(gateway))
            await begin(wire, {"question": "hi", "streaming": True}, User_Agent=name)
        async with viewing(gateway.admin) as viewer:
            await viewer.until(lambda seen: len(seen.rows("runs")) == len(names))
            agents = [row["agent"] for row in viewer.rows("runs")]
        assert agents[0] == names[0]
        assert agents[2] == "A" * 256 + " … (9744 more characters)"
        held.may_finish.set()


# -- the end of a run ------------------------------------------------------------------------------


async def test_a_run_is_ended_its_client_sees_why_and_flowise_is_asked_to_stop(start, connect):
    async with RawUpstream(Held()) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire, connect(gateway) as second, viewing(gateway.admin) as viewer:
            await begin(wire, X_Request_ID="ended")
            await viewer.until(lambda seen: seen.rows("runs", stage="streaming"))
            second.post(PATH, ASK, X_Request_ID="waiting")
            await viewer.until(lambda seen: seen.rows("runs", stage="conversation"))
            running, waiting = viewer.key(request_id="ended"), viewer.key(request_id="waiting")

            assert await end_run(gateway.admin, waiting) == (200, '{"ended":true}')
            refused = await second.reply()
            assert (refused.status, refused.json()["code"]) == (503, "ended_by_operator")

            assert await end_run(gateway.admin, running) == (200, '{"ended":true}')
            body = await wire.rest()
            message = json.dumps(sampling.ENDED)
            assert body == f'message:\ndata:{{"event":"error","data":{message}}}\n\n'.encode() + END
            await upstream.aborted.wait()
            assert upstream.aborts == [ABORT]
            await viewer.until(lambda seen: not seen.rows("runs") or seen.rows("runs", stage="ending"))
            status, text = await end_run(gateway.admin, running)
            assert (status, text) == (404, "There is no such run. It has ended already.\n")

            lines = gateway.lines.of("run_ended_by_operator")
            assert [line["request_id"] for line in lines] == ["waiting", "ended"]
            audit = {"level": "warning", "route": "chat", "caller": "anonymous", "operator": "127.0.0.1"}
            assert all(audit.items() <= line.items() for line in lines)


async def test_a_run_that_was_ended_is_refused_in_the_log(start, connect, hurried):
    hurried(0.0)
    async with RawUpstream(Held()) as upstream, start(upstream.url) as gateway:
        async with connect(gateway) as wire, viewing(gateway.admin) as viewer:
            await begin(wire)
            await viewer.until(lambda seen: seen.rows("runs", stage="streaming"))
            await end_run(gateway.admin, viewer.key())
            await wire.rest()
            line = await gateway.lines.request()
    assert (line["outcome"], line["status"]) == ("refused", 200)
    assert line["error"].startswith("ended_by_operator: An operator")


# -- bounds ----------------------------------------------------------------------------------------


async def test_more_viewers_than_may_are_refused_until_one_leaves(start):
    async with start(NOWHERE) as gateway, AsyncExitStack() as stack:
        for _ in range(MOST_VIEWERS - 1):
            await stack.enter_async_context(viewing(gateway.admin))
        async with viewing(gateway.admin) as last:
            await last.until(lambda seen: seen.one("gateway")["viewers"] == MOST_VIEWERS)
            status, _, text = await asked(gateway, "GET", "/page/events")
            assert (status, text.split(".")[1].strip()[:5]) == (503, "Close")
        while True:  # it is gone once the gateway sees that
            status, *_ = await begun(gateway)
            if status == 200:
                break


async def test_a_viewer_that_leaves_before_its_first_state_counts_no_more(start, monkeypatch):
    entered, may_go_on = threading.Event(), threading.Event()
    load = page._load_event_source

    def loading():
        entered.set()
        assert may_go_on.wait(bounds.TEST)
        return load()

    monkeypatch.setattr(page, "_load_event_source", loading)
    async with start(NOWHERE) as gateway:
        asking = asyncio.create_task(asked(gateway, "GET", "/page/events"))
        await asyncio.to_thread(entered.wait)
        assert gateway.viewers() == 0
        asking.cancel()
        await asyncio.wait([asking])
        may_go_on.set()
        async with viewing(gateway.admin) as viewer:
            await viewer.until(lambda seen: seen.one("gateway")["viewers"] == 1)


async def begun(gateway):
    """The head of an event stream, which is not read."""
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin}/page/events") as answer:
        return answer.status, answer.headers


async def test_a_viewer_that_takes_nothing_is_dropped_and_the_others_go_on(start, monkeypatch):
    monkeypatch.setattr(page, "SEND_WITHIN", 0.2)
    large = {"source": "x" * 1_000_000, "needs_restart": [], "refused_at": None, "refused": ""}
    count = iter(range(10**9))
    async with start(NOWHERE) as gateway:
        reloads = gateway.process.reloads
        monkeypatch.setattr(reloads, "last", lambda: {**large, "loaded_at": next(count)})
        admin = gateway.process.admin_address
        async with await Wire.to(admin.host, admin.port) as slow, viewing(gateway.admin) as viewer:
            slow.send(request("GET", "/page/events", Host=str(admin)))
            slow.writer.transport.pause_reading()
            await viewer.until(lambda seen: seen.one("gateway")["viewers"] == 2)
            await viewer.until(lambda seen: seen.one("gateway")["viewers"] == 1)


async def test_of_many_runs_the_oldest_and_the_newest_are_sent_and_their_number(start, connect, monkeypatch):
    monkeypatch.setattr(sampling, "MOST_RUNS", 2)
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, AsyncExitStack() as stack:
        for number in range(7):
            wire = await stack.enter_async_context(connect(gateway))
            await begin(wire, {"question": "hi", "streaming": True}, X_Request_ID=f"run-{number}")
        async with viewing(gateway.admin) as viewer:
            assert await viewer.next()
            assert [row["request_id"] for row in viewer.rows("runs")] == ["run-0", "run-1", "run-5", "run-6"]
            assert viewer.one("gateway")["open_runs"] == 7
        held.may_finish.set()


async def test_a_state_of_the_longest_texts_has_a_bound(start, connect):
    """Every text at its longest; a whole state stays far below what a browser takes."""
    run = sample.Run("k" * 40, *["\u202e" * 256] * 6, "streaming", 1.0, 1.0, 1, True)
    line = {f"field{number}": "\u202e" * 10_000 for number in range(25)}
    shown = sampling.shortened(line, sampling.LONGEST_IN_LINE, sampling.MOST_IN_LINE)
    run_size, line_size = len(json.dumps(str(run))), len(json.dumps(shown, ensure_ascii=False).encode())
    assert 2 * sample.MOST_RUNS * run_size + 100 * line_size < 8 * 1024 * 1024


async def test_with_nobody_looking_nothing_is_gathered(start, monkeypatch):
    samples = 0
    original = sampling.Sampling.sample

    async def counting(self, after):
        nonlocal samples
        samples += 1
        return await original(self, after)

    monkeypatch.setattr(sampling.Sampling, "sample", counting)
    async with start(NOWHERE) as gateway:
        async with viewing(gateway.admin) as viewer:
            await viewer.next()
            await viewer.next()
        async with viewing(gateway.admin) as viewer:
            await viewer.next()
        while gateway.viewers():
            await asyncio.sleep(0)
        seen = samples
        for _ in range(20):
            await asked(gateway, "GET", "/livez")
        assert samples <= seen + 1


async def test_the_stream_ends_with_the_gateway(start):
    async with start(NOWHERE) as gateway, viewing(gateway.admin) as viewer:
        await viewer.next()
        await gateway.process.stop()
        while await viewer.next():
            pass
    assert not gateway.lines.of("bug")
    assert not gateway.lines.of("library")

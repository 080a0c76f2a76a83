"""A reload, seen from the sockets: what has begun ends as it began, what comes next has the new configuration."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import weakref

import aiohttp
import pytest
import yaml

from gateway.config import load
from gateway.config.shown import shown
from gateway.server import reload
from tests.harness.api_keys import key_of
from tests.harness.clock import time_passes, until
from tests.harness.frames import END, METADATA, PATH
from tests.harness.gateway import configuration
from tests.harness.held_stream import TOKEN, Held
from tests.harness.issuer import Issuer
from tests.harness.raw_upstream import RawUpstream
from tests.harness.surface import ANSWER, answering, ask

pytestmark = pytest.mark.usefixtures("hurried")

SECRET, OTHER_SECRET = "a secret of thirty-two bytes or more", "another secret of thirty-two bytes or more"
OTHER_FLOW = "4a7b0c2d-2222-4333-8444-555566667777"
ASK = {"question": "hi", "streaming": True, "chatId": "chat-1"}


async def began(wire, path=PATH, **headers):
    """Begin a stream and read its first token."""
    wire.post(path, ASK, **headers)
    assert (await wire.head())[0] == 200
    assert await wire.chunk() == TOKEN


async def finished(wire):
    return await wire.until(END)


async def config_of(gateway, **headers):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.admin}/config", headers=headers) as answer,
    ):
        return answer.status, await answer.json() if answer.status == 200 else {}


async def test_a_stream_ends_under_the_configuration_it_began_with_and_the_next_request_has_the_new_one(
    start, connect
):
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await began(wire, "/api/v1/prediction/chat")
        renamed = {"name": "talk", "heartbeat": "0s"}
        await gateway.reload(configuration(upstream.url, route=renamed))
        assert (await ask(connect, gateway, path="/api/v1/prediction/chat")).status == 404
        held.may_finish.set()
        assert (await ask(connect, gateway, path="/api/v1/prediction/talk")).status == 200
        assert await finished(wire) == METADATA + END
        lines = await gateway.lines.until("request", 3)
        assert sorted((line["route"] or "", line["outcome"]) for line in lines) == [
            ("", "refused"),
            ("chat", "ok"),
            ("talk", "ok"),
        ]
        (line,) = gateway.lines.of("config_reloaded")
        assert line["changed"] == ["routes.chat", "routes.talk"]


async def test_every_mistake_of_a_refused_file_is_logged_with_its_line_and_nothing_changes(start, connect):
    wrong = """\
server: {max_body: 5}
upstreams: {main: {servers: [{url: "%s"}]}}
limits: {store: "redis://127.0.0.1:port/0"}
auth: {secret: a secret of thirty-two bytes or more}
routes:
  - {name: chat, chatflow: nonsense, upstream: main, auth: [anonymous]}
"""
    async with answering() as upstream, start(upstream.url) as gateway:
        before = (await config_of(gateway))[1]
        await gateway.reload(wrong % upstream.url)
        mistakes = gateway.lines.of("config_mistake")
        assert [(line["line"], line["key"]) for line in mistakes] == [
            (1, "server.max_body"),
            (3, "limits.store"),
            (6, "routes[0].chatflow"),
        ]
        assert {line["file"] for line in mistakes} == {str(gateway.path)}
        (line,) = gateway.lines.of("config_refused")
        assert (line["level"], line["count"]) == ("error", 3)
        assert (await config_of(gateway))[1] == before
        assert (await ask(connect, gateway)).status == 200
        metrics = await gateway.metrics()
        assert metrics['flowise_gateway_config_reloads_total{result="error"}'] == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("routes: [", 1),
        ("a: 1\n\tb: 2\n", 2),
        ("upstreams:\n  main: {}\n  main: {}\n", 3),
        ("\xff", 1),
    ],
    ids=["empty", "cut", "tab", "twice", "odd"],
)
async def test_whatever_is_in_the_file_a_refusal_has_lines(start, text, line):
    async with start("http://127.0.0.1:1") as gateway:
        await gateway.reload(text)
        lines = [mistake["line"] for mistake in gateway.lines.of("config_mistake")]
        assert line in lines
        assert all(found > 0 for found in lines)


async def test_a_store_url_that_only_the_client_refuses_is_a_mistake_with_its_line(start):
    shared = {"auth": {"secret": SECRET}, "limits": {"store": "redis://127.0.0.1:1/0"}}
    async with start("http://127.0.0.1:1", **shared) as gateway:
        shared["limits"] = {"store": "redis://user:a%b@127.0.0.1:1/99999"}
        text = yaml.safe_dump(configuration("http://127.0.0.1:1", **shared), sort_keys=False)
        await gateway.reload(text)
        ended = gateway.lines.of("config_reloaded") or gateway.lines.of("config_mistake")
        assert all(line.get("line", 1) > 0 for line in ended)


async def test_another_store_of_the_same_kind_is_moved_to_with_what_is_open(
    start, connect, valkey, own_valkey
):
    held = Held()

    def sections(store):
        limits = [{"name": "open", "concurrent": 1, "by": "route"}]
        return {"auth": {"secret": SECRET}, "limits": {"store": store}, "route": {"limits": limits}}

    async with (
        RawUpstream(held) as upstream,
        start(upstream.url, **sections(valkey.url)) as gateway,
        connect(gateway) as wire,
    ):
        await began(wire)
        await gateway.reload(configuration(upstream.url, **sections(own_valkey.url)))
        await gateway.lines.until("limit_store_up", 2)
        (down,) = gateway.lines.of("limit_store_down")
        assert down["reason"] == "moved"
        assert (await ask(connect, gateway)).status == 429  # the new store knows the run that is open
        held.may_finish.set()
        await finished(wire)
        await gateway.lines.until("request", 2)
        assert (await ask(connect, gateway)).status == 200


async def test_a_file_that_is_gone_changes_nothing(start, connect):
    async with answering() as upstream, start(upstream.url) as gateway:
        await asyncio.to_thread(gateway.path.unlink)
        gateway.process.reloads.request()
        (line,) = await gateway.lines.until("config_mistake")
        assert "cannot be read" in line["message"]
        assert (await ask(connect, gateway)).status == 200


async def test_limits_keep_their_counts_and_a_changed_amount_the_share_that_is_used(start, connect):
    def limited(requests):
        return {"limits": [{"name": "few", "requests": requests, "per": "1d", "by": "route"}]}

    async with answering() as upstream, start(upstream.url, route=limited(4)) as gateway:
        for left in (3, 2):
            assert f"r={left}" in (await ask(connect, gateway)).fields["ratelimit"]
        await gateway.reload(configuration(upstream.url, route={**limited(4), "max_question": 30}))
        assert "r=1" in (await ask(connect, gateway)).fields["ratelimit"]
        await gateway.reload(configuration(upstream.url, route=limited(8)))
        assert "r=1;" in (await ask(connect, gateway)).fields["ratelimit"]  # of 8: 6 used before it, 7 now
        await gateway.reload(configuration(upstream.url, route=limited(4)))
        assert (await ask(connect, gateway)).status == 429
        await gateway.reload(configuration(upstream.url))
        assert (await ask(connect, gateway)).status == 200


async def test_conversations_keep_their_locks_and_runs_their_slots(start, connect):
    held = Held()
    route = {
        "conversations": {"when_busy": "refuse"},
        "limits": [{"name": "open", "concurrent": 1, "by": "route"}],
    }
    async with (
        RawUpstream(held) as upstream,
        start(upstream.url, route=route) as gateway,
        connect(gateway) as wire,
    ):
        await began(wire)
        await gateway.reload(configuration(upstream.url, route={**route, "name": "talk"}))
        same = json.dumps({**ASK, "streaming": False}).encode()
        assert (await ask(connect, gateway, body=same)).json()["code"] == "conversation_busy"
        await gateway.reload(configuration(upstream.url, route={**route, "max_question": 30}))
        assert (await ask(connect, gateway)).json()["code"] == "rate_limited"
        held.may_finish.set()
        await finished(wire)
        await gateway.lines.until("request", 3)
        assert (await ask(connect, gateway)).status == 200


async def test_a_server_that_stays_keeps_its_connections_with_other_settings(start, connect):
    peers = []

    async def script(peer, _):
        peers.append(peer)
        peer.answer(ANSWER)

    async with RawUpstream(script) as upstream, start(upstream.url) as gateway:
        await ask(connect, gateway)
        changed = {"api_key": "another-key", "timeouts": {"connect": "1s"}, "max_connections": 7}
        await gateway.reload(configuration(upstream.url, upstreams={"main": changed}))
        await ask(connect, gateway)
        assert upstream.seen[-1].fields["authorization"] == "Bearer another-key"
        assert gateway.pool().settings.max_connections == 7
        assert peers[0] is peers[1]
        assert repr(gateway.pool()).endswith(": 1 open, 1 idle, 0 waiting>")


async def test_a_server_that_is_removed_drains(start, connect):
    held = Held()
    async with (
        RawUpstream(held) as old,
        answering() as new,
        start(old.url) as gateway,
        connect(gateway) as wire,
    ):
        await began(wire)
        pool = gateway.pool()
        await gateway.reload(configuration(new.url))
        assert (await ask(connect, gateway)).status == 200
        assert len(new.seen) == 1
        assert repr(pool).endswith(": 1 open, 0 idle, 0 waiting>")
        held.may_finish.set()
        assert await finished(wire) == METADATA + END
        await until(lambda: repr(pool).endswith(": 0 open, 0 idle, 0 waiting>"))


async def test_a_configuration_lives_as_long_as_the_last_request_that_began_with_it(start, connect):
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await began(wire)
        used = weakref.ref(gateway.serving())
        await gateway.reload(configuration(upstream.url))
        unused = weakref.ref(gateway.serving())
        await gateway.reload(configuration(upstream.url))
        gc.collect()
        assert (used() is not None, unused() is not None) == (True, False)
        held.may_finish.set()
        assert await finished(wire) == METADATA + END
        assert await wire.chunk() == b""
        await gateway.lines.until("request")
        await gateway.idle()
        gc.collect()
        assert used() is None


async def test_what_cannot_change_is_reported_and_the_rest_is_applied(start, connect):
    async with answering() as upstream, start(upstream.url, admin={"token": "t"}) as gateway:
        wanted = configuration(
            upstream.url,
            server={"listen": "127.0.0.1:1", "workers": 3},
            admin={"listen": "127.0.0.1:2", "token": "t"},
            auth={"secret": SECRET},
            limits={"store": "redis://127.0.0.1:1/0"},
            route={"name": "talk"},
        )
        await gateway.reload(wanted)
        (line,) = gateway.lines.of("needs_restart")
        assert line["keys"] == ["admin.listen", "limits.store", "server.listen", "server.workers"]
        assert (await ask(connect, gateway, path="/api/v1/prediction/talk")).status == 200
        status, described = await config_of(gateway, Authorization="Bearer t")
        assert status == 200
        assert described["needs_restart"] == line["keys"]
        assert described["config"]["limits"]["store"] == "memory"
        assert described["config"]["auth"]["secret"] == ["***"]


async def test_secrets_rotate(start, connect):
    sections = {"auth": {"secret": SECRET}, "route": {"auth": ["session"]}}
    minting = {"method": "POST", "path": "/gateway/v1/session-tokens", "body": b'{"caller":"ann"}'}

    async def status_with(token):
        return (await ask(connect, gateway, Authorization=f"Bearer {token}")).status

    async with answering() as upstream, start(upstream.url, **sections) as gateway:
        key = await key_of(gateway.path.parent, "backend")
        await gateway.lines.until("keys_loaded", 2)
        old = (await ask(connect, gateway, Authorization=f"Bearer {key}", **minting)).json()["token"]
        assert await status_with(old) == 200
        sections["auth"]["secret"] = [OTHER_SECRET, SECRET]
        await gateway.reload(configuration(upstream.url, **sections))
        new = (await ask(connect, gateway, Authorization=f"Bearer {key}", **minting)).json()["token"]
        assert (await status_with(old), await status_with(new)) == (200, 200)
        sections["auth"]["secret"] = [OTHER_SECRET]
        await gateway.reload(configuration(upstream.url, **sections))
        assert (await status_with(old), await status_with(new)) == (401, 200)


async def test_issuers_come_and_go_and_one_that_stays_keeps_its_keys(start, connect):
    other = {"issuer": "https://other.example.com"}
    async with Issuer() as one, Issuer() as two, answering() as upstream:
        sections = {"auth": {"jwt": [one.settings]}, "route": {"auth": ["jwt"]}}

        async def status_of(token):
            return (await ask(connect, gateway, Authorization=f"Bearer {token}")).status

        async with start(upstream.url, **sections) as gateway:
            assert await status_of(one.token()) == 200
            assert await status_of(two.token(iss=other["issuer"])) == 401
            sections["auth"]["jwt"] = [{**one.settings, "leeway": "1s"}, two.settings | other]
            await gateway.reload(configuration(upstream.url, **sections))
            assert await status_of(one.token()) == 200
            assert await status_of(two.token(iss=other["issuer"])) == 200
            assert (one.fetches, two.fetches) == (1, 1)
            sections["auth"]["jwt"] = [two.settings | other]
            await gateway.reload(configuration(upstream.url, **sections))
            assert await status_of(one.token()) == 401


async def test_another_keys_file_replaces_the_keys_and_one_with_mistakes_refuses_the_reload(start, connect):
    held = Held()
    sections = {"route": {"auth": ["api_key"]}}
    async with (
        RawUpstream(held) as upstream,
        start(upstream.url, **sections) as gateway,
        connect(gateway) as wire,
    ):
        folder = gateway.path.parent
        (folder / "other").mkdir()
        old, new = await key_of(folder, "ann"), await key_of(folder / "other", "bob")
        await gateway.lines.until("keys_loaded", 2)
        await began(wire, Authorization=f"Bearer {old}")
        await asyncio.to_thread((folder / "broken.yaml").write_text, "keys: nonsense")
        await gateway.reload(configuration(upstream.url, auth={"keys_file": "broken.yaml"}, **sections))
        (mistake,) = gateway.lines.of("config_mistake")
        assert (mistake["file"], mistake["line"]) == (str(folder / "broken.yaml"), 1)
        await gateway.reload(configuration(upstream.url, auth={"keys_file": "other/keys.yaml"}, **sections))
        assert b"revoked" in await finished(wire)  # as if its key had been removed from the file
        assert (await ask(connect, gateway, Authorization=f"Bearer {old}")).status == 401
        held.may_finish.set()
        assert (await ask(connect, gateway, Authorization=f"Bearer {new}")).status == 200
        later = await key_of(folder / "other", "carol")
        await gateway.lines.until("keys_loaded", 4)
        assert (await ask(connect, gateway, Authorization=f"Bearer {later}")).status == 200


async def test_the_log_follows_its_level(start):
    async with start("http://127.0.0.1:1") as gateway:
        quiet = configuration("http://127.0.0.1:1", logs={"level": "warning"})
        await asyncio.to_thread(gateway.path.write_text, yaml.safe_dump(quiet))
        gateway.process.reloads.request()
        await until(lambda: gateway.serving().config.logs.level == "warning")
        await until(lambda: not gateway.process.reloads._is_looking)  # after its line, which is not logged
        await gateway.reload("wrong: 1")
        assert gateway.lines.of("config_reloaded") == []
        assert len(gateway.lines.of("config_mistake")) > 0
        await gateway.reload(configuration("http://127.0.0.1:1"))
        assert len(gateway.lines.of("config_reloaded")) == 1


async def test_a_reload_without_a_change_is_harmless_and_two_at_once_are_one_after_the_other(start, connect):
    held = Held()
    async with RawUpstream(held) as upstream, start(upstream.url) as gateway, connect(gateway) as wire:
        await began(wire)
        before = (await config_of(gateway))[1]
        for _ in range(3):
            gateway.process.reloads.request()
        (line,) = await gateway.lines.until("config_reloaded")
        assert line["changed"] == []
        await gateway.reload(configuration(upstream.url))
        after = (await config_of(gateway))[1]
        assert before.pop("loaded_at") < after.pop("loaded_at")
        assert before == after
        held.may_finish.set()
        assert await finished(wire) == METADATA + END
        assert gateway.pool() is not None


def replace_text(path, text):
    """In one step: a busy machine leaves a file half written for longer than two looks at it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def test_a_changed_file_is_read_only_if_it_is_watched(start):
    async with start("http://127.0.0.1:1") as gateway:
        watched = configuration("http://127.0.0.1:1", server={"watch": True})
        await asyncio.to_thread(replace_text, gateway.path, yaml.safe_dump(watched))
        await time_passes(0.1)
        assert gateway.lines.of("config_reloaded") == []
        await gateway.reload(watched)
        await asyncio.to_thread(replace_text, gateway.path, "routes: 5")
        await gateway.lines.until("config_refused")
        await time_passes(0.1)
        assert len(gateway.lines.of("config_refused")) == 1  # the same version is not read again
        await asyncio.to_thread(replace_text, gateway.path, yaml.safe_dump(watched) + "# mended")
        await gateway.lines.until("config_reloaded", 2)


async def test_a_config_map_whose_link_is_swapped_is_noticed(start, connect):
    async with answering() as upstream, start(upstream.url, server={"watch": True}) as gateway:
        folder = gateway.path.parent

        def publish(version, **sections):
            """As the kubelet does: a new folder, and a link to it that is renamed over the old one."""
            (folder / version).mkdir()
            text = yaml.safe_dump(configuration(upstream.url, server={"watch": True}, **sections))
            (folder / version / "gateway.yaml").write_text(text)
            (folder / "..data_tmp").symlink_to(version)
            (folder / "..data_tmp").rename(folder / "..data")

        await asyncio.to_thread(publish, "..1")
        await asyncio.to_thread(gateway.path.unlink)
        await asyncio.to_thread(gateway.path.symlink_to, "..data/gateway.yaml")
        await gateway.lines.until("config_reloaded")
        await asyncio.to_thread(publish, "..2", route={"name": "talk"})
        await gateway.lines.until("config_reloaded", 2)
        assert (await ask(connect, gateway, path="/api/v1/prediction/talk")).status == 200


async def test_a_file_that_is_still_being_written_is_not_taken_for_the_whole(start, connect, monkeypatch):
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.3)
    async with answering() as upstream, start(upstream.url) as gateway:
        more = configuration(upstream.url)
        second = {"name": "second", "chatflow": OTHER_FLOW, "upstream": "main", "auth": ["anonymous"]}
        more["routes"].append(second)
        text = yaml.safe_dump(more, sort_keys=False)
        end = text.index("- name: second")  # up to here it is valid, with one route
        with gateway.path.open("w") as file:
            gateway.process.reloads.request()
            for at in range(0, len(text), 40):
                file.write(text[at : min(end, at + 40)] if at < end else "")
                file.flush()
                await time_passes(0.03)
            assert gateway.lines.of("config_reloaded") == []
            file.write(text[end:])
        await gateway.lines.until("config_reloaded")
        assert gateway.lines.of("config_refused") == []
        assert (await ask(connect, gateway, path="/api/v1/prediction/second")).status == 200


async def test_the_configuration_is_shown_without_secrets_and_only_with_the_token(start):
    url = "redis://user:the-password@127.0.0.1:1/0"
    sections = {
        "admin": {"token": "the-token"},
        "auth": {"secret": SECRET},
        "limits": {"store": url},
        "upstreams": {"main": {"api_key": "the-key"}},
        "route": {"vars": {"mode": "the-variable", "user": "{caller}"}},
    }
    async with start("http://127.0.0.1:1", **sections) as gateway:
        assert (await config_of(gateway))[0] == 401
        assert (await config_of(gateway, Authorization="Bearer other"))[0] == 401
        status, described = await config_of(gateway, Authorization="Bearer the-token")
        assert status == 200
        text = json.dumps(described)
        assert not [word for word in ("the-", SECRET) if word in text]
        assert described["config"]["limits"]["store"] == "redis://***@127.0.0.1:1/0"
        assert described["config"]["routes"][0]["vars"] == {"mode": "***", "user": "{caller}"}
        assert described["config"]["server"]["drain"] == "2s"
        assert (described["source"], len(described["sha256"])) == (str(gateway.path), 64)
        sections["admin"]["token"] = "other"
        await gateway.reload(configuration("http://127.0.0.1:1", **sections))
        assert (await config_of(gateway, Authorization="Bearer the-token"))[0] == 401
        again = (await config_of(gateway, Authorization="Bearer other"))[1]
        assert again["sha256"] == described["sha256"]
        assert gateway.lines.of("config_reloaded")[0]["sha256"] == again["sha256"]


BASE = "http://127.0.0.1:1"
VALID = [
    {},
    {"route": {"name": "talk"}},
    {
        "server": {"max_body": "2MiB", "workers": 2},
        "auth": {"secret": SECRET},
        "limits": {"store": "redis://h:1/0"},
    },
    {"logs": {"prompts": True}},
    {"upstreams": {"second": {"servers": [{"url": "https://127.0.0.1:2"}]}}},
    {"limits": {"shadow": True}, "route": {"limits": [{"name": "few", "requests": 3, "per": "1m"}]}},
]
INVALID = [
    "",
    "routes: [",
    "server: {workers: 2}",
    yaml.safe_dump(configuration(BASE, route={"upstream": "nowhere"})),
    yaml.safe_dump(configuration(BASE, auth={"keys_file": "broken.yaml"})),
]


async def test_any_sequence_of_configurations_leaves_the_last_valid_one_in_force(start):
    dice = random.Random(14)
    async with start(BASE) as gateway:
        (gateway.path.parent / "broken.yaml").write_text("keys: nonsense")
        expected, reloads = (await config_of(gateway))[1]["config"], 0
        for _ in range(30):
            if dice.random() < 0.5:
                await gateway.reload(dice.choice(INVALID))
            else:
                sections = dice.choice(VALID)
                await gateway.reload(configuration(BASE, **sections))
                loaded = await asyncio.to_thread(load, gateway.path, {})
                expected, reloads = shown(loaded), reloads + 1
                expected["server"]["workers"], expected["limits"]["store"] = 1, "memory"
            assert (await config_of(gateway))[1]["config"] == expected
            assert len(gateway.lines.of("config_reloaded")) == reloads


async def test_a_log_file_that_cannot_be_opened_is_refused_with_its_line(start, connect, tmp_path):
    (tmp_path / "gateway.log").symlink_to(tmp_path / "gone" / "file")
    async with answering() as upstream, start(upstream.url) as gateway:
        wanted = configuration(upstream.url, logs={"file": "gateway.log"}, route={"name": "talk"})
        await gateway.reload(wanted)
        (mistake,) = gateway.lines.of("config_mistake")
        reason = "cannot be opened (No such file or directory): create its folder."
        assert mistake["message"] == f"The log file {tmp_path / 'gateway.log'} {reason}"
        assert mistake["line"] == 1 + yaml.safe_dump(wanted).splitlines().index("  file: gateway.log")
        assert (await ask(connect, gateway, path="/api/v1/prediction/chat")).status == 200
        (tmp_path / "gone").mkdir()
        await gateway.reload(wanted)
        (line,) = gateway.lines.of("config_reloaded")
        assert line["changed"] == ["logs.file", "routes.chat", "routes.talk"]
        assert not gateway.lines.of("needs_restart")

"""Hostile replies of the limit store: it is away, its connection is given up, and requests are answered in time."""

from __future__ import annotations

from itertools import repeat

import pytest

from gateway.admission.redis import pipeline
from gateway.admission.redis.pipeline import FAILURES
from tests.harness.clock import until
from tests.harness.gateway import running
from tests.harness.loop_lag import MOST, loop_lag
from tests.harness.resident import resident
from tests.harness.scripted_store import scripted_store
from tests.harness.surface import answering, ask
from tests.hostile.corpus.store_replies import AT_LOGIN, TABLE, UNFINISHED

LONGEST_LINE = 16 * 1024
MEGABYTE = 1024 * 1024
MOST_MEMORY = 20 * MEGABYTE
RULE = {"name": "all", "requests": 1000, "per": "1h", "by": "route"}
SECRET = {"auth": {"secret": "a secret of thirty-two bytes or more"}}


@pytest.fixture(autouse=True)
def soon(hurried, monkeypatch):
    """Connect to the store again at once."""
    monkeypatch.setattr(pipeline, "FIRST_PAUSE", 0.001)


def limited(folder, upstream, store):
    return running(folder, upstream.url, limits={"store": store.url}, route={"limits": [RULE]}, **SECRET)


def check_left(gateway, lag):
    assert lag.worst < MOST
    assert gateway.limited_runs() == gateway.held_body_bytes() == 0
    assert max(map(len, gateway.lines.getvalue().splitlines())) <= LONGEST_LINE


@pytest.mark.parametrize("name", TABLE)
async def test_a_hostile_reply_is_a_store_that_is_away(name, tmp_path, connect):
    case = TABLE[name]
    with scripted_store() as store:
        async with answering() as upstream, limited(tmp_path, upstream, store) as gateway:
            await gateway.lines.until("limit_store_up")
            before = resident()
            store.hostile[case.to] = iter(case.pieces())
            with loop_lag() as lag:
                assert (await ask(connect, gateway)).status == 200
                (down,) = await gateway.lines.until("limit_store_down")
                await until(store.ended.is_set)
                await gateway.lines.until("limit_store_up", 2)
            assert (await ask(connect, gateway)).status == 200
            await gateway.idle()
            assert resident() - before < MOST_MEMORY
            check_left(gateway, lag)
    assert down["reason"][:100] == case.reason[:100]


@pytest.mark.parametrize("name", UNFINISHED)
async def test_a_reply_that_never_ends_is_given_up(name, tmp_path, connect):
    with scripted_store() as store:
        async with answering() as upstream, limited(tmp_path, upstream, store) as gateway:
            await gateway.lines.until("limit_store_up")
            store.hostile[b"admit"] = repeat(UNFINISHED[name], 1)
            with loop_lag() as lag:
                for _ in range(FAILURES):
                    assert (await ask(connect, gateway)).status == 200
                (down,) = await gateway.lines.until("limit_store_down")
                await gateway.lines.until("limit_store_up", 2)
            await gateway.idle()
            check_left(gateway, lag)
    assert down["reason"] == "timeout"


@pytest.mark.parametrize("name", AT_LOGIN)
async def test_a_store_that_is_hostile_at_its_login_is_away(name, tmp_path, connect):
    case = AT_LOGIN[name]
    with scripted_store() as store:
        store.hostile[case.to] = iter(case.pieces())
        with loop_lag() as lag:
            async with answering() as upstream, limited(tmp_path, upstream, store) as gateway:
                (down,) = await gateway.lines.until("limit_store_down")
                assert (await ask(connect, gateway)).status == 200
                await gateway.lines.until("limit_store_up")
                await gateway.idle()
        check_left(gateway, lag)
        assert store.ended.is_set()
    assert down["reason"] == case.reason
